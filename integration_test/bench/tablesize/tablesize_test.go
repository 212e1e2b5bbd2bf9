package tablesize

import (
	"regexp"
	"strings"
	"testing"
)

// TestEverySizeIsMeasured on a real server.
func TestEverySizeIsMeasured(t *testing.T) {
	var out strings.Builder
	if err := Measure(t.Context(), true, &out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"family", "sessions", "due", "user", "audit", "all"} {
		if line := regexp.MustCompile(`(?m)^ *` + name + `( +[1-9][0-9]*){5}$`); !line.MatchString(out.String()) {
			t.Errorf("no line with the bytes of %s in:\n%s", name, out.String())
		}
	}
	for _, line := range []string{
		`WAL of a login [1-9]\d* B,`, `WAL of a refresh [1-9]\d* B; .* checkpoint [1-9]\d* B, .* lz4 [1-9]\d* B`, `\(HOT\): [1-9][0-9.]* % of [1-9]`,
	} {
		if !regexp.MustCompile(line).MatchString(out.String()) {
			t.Errorf("nothing matches %s in:\n%s", line, out.String())
		}
	}
}
