package refusal

import (
	"strings"
	"testing"
)

func TestHintsHoldOnlyCharactersOfRFC6749(t *testing.T) {
	var every []byte
	for b := range 256 {
		every = append(every, byte(b))
	}
	for _, s := range []string{string(every), "\"><é\n\x00\\", strings.Repeat("é", 1000), "\xff\xfe"} {
		r := New("invalid_request", "%s", s)
		if len(r.Description) > maxDescriptionBytes {
			t.Errorf("the description has %d bytes, more than the limit", len(r.Description))
		}
		for _, c := range []byte(r.Description) {
			if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
				t.Errorf("byte %#x in description %q", c, r.Description)
			}
		}
	}
}
