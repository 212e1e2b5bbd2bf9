package refusal

import (
	"strings"
	"testing"
)

func TestHintsHoldOnlyWhatTheProtocolAllows(t *testing.T) {
	var every []byte
	for b := range 256 {
		every = append(every, byte(b))
	}
	for _, s := range []string{string(every), "\"><é\n\x00\\", strings.Repeat("é", 1000), "\xff\xfe"} {
		r := New("invalid_request", "%s", s)
		if len(r.Hint) > maxHintBytes {
			t.Errorf("a hint of %d bytes", len(r.Hint))
		}
		for _, c := range []byte(r.Hint) {
			if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
				t.Errorf("byte %#x in hint %q", c, r.Hint)
			}
		}
	}
}
