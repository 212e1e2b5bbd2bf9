package apply

import (
	"strings"
	"testing"
)

// TestAHashNeedsNoQuotes, also if YAML takes it for a number.
func TestAHashNeedsNoQuotes(t *testing.T) {
	for _, hash := range []string{
		strings.Repeat("12345678", 8), strings.Repeat("0", 64), strings.Repeat("1", 31) + "e" + strings.Repeat("9", 32),
		"0" + strings.Repeat("7", 63), strings.Repeat("1", 61) + "e99", "1e" + strings.Repeat("1", 62), strings.Repeat("ab", 32),
	} {
		f, err := Read(strings.NewReader("clients: [{id: 007, secret_sha256: "+hash+"}]"), "-")
		if err != nil {
			t.Errorf("%s: %v", hash, err)
		} else if c := f.entries[0]; c.client.SecretSHA256 != hash || c.name != "007" {
			t.Errorf("%s is read as %+v", hash, c)
		}
	}
}
