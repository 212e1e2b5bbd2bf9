package keyexport

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestAKidNeverLeavesTheDirectory: whatever it is, the file is in the directory and not hidden, and no two kids share one.
func TestAKidNeverLeavesTheDirectory(t *testing.T) {
	names := map[string]string{}
	for kid, want := range map[string]string{
		"fuvwA5NXqHk7FCZcIL-uH1JDwNL92XCQ4ple39_CtJg": "fuvwA5NXqHk7FCZcIL-uH1JDwNL92XCQ4ple39_CtJg.pem",
		"-first":         "-first.pem",
		"2024.01":        "2024.01.pem",
		"a..b":           "a..b.pem",
		".":              "%2E.pem",
		"..":             "%2E..pem",
		".hidden":        "%2Ehidden.pem",
		"../../etc/cron": "%2E.%2F..%2Fetc%2Fcron.pem",
		"/etc/passwd":    "%2Fetc%2Fpasswd.pem",
		"a/b":            "a%2Fb.pem",
		"a%2Fb":          "a%252Fb.pem",
		"a\x00b":         "a%00b.pem",
		"a\nb":           "a%0Ab.pem",
		"a b":            "a%20b.pem",
		"é":              "%C3%A9.pem",
	} {
		got, err := fileName(kid, ".pem")
		if err != nil || got != want || filepath.Base(got) != got || got[0] == '.' || !isOurName(got) {
			t.Errorf("kid %q: %q, %v, want %q", kid, got, err, want)
		}
		if other, twice := names[got]; twice {
			t.Errorf("%q and %q share a name", kid, other)
		}
		names[got] = kid
	}
	for _, long := range []string{strings.Repeat("a", 256), strings.Repeat("é", 100)} {
		if name, err := fileName(long, ".pem"); err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%q, %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", ".x", "a/b", "a\x00", tempName, manifestName} {
		if isOurName(name) {
			t.Errorf("%q is taken for the name of a key", name)
		}
	}
}
