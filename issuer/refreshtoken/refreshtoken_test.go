package refreshtoken

import (
	"bytes"
	"testing"

	"keymill/issuer/record"
	"keymill/issuer/refusal"
)

// FuzzRefreshToken checks that only tokens of this store are accepted, each in one spelling.
func FuzzRefreshToken(f *testing.F) {
	s := newSecrets("fuzz")
	s.newest, s.keys[1] = 1, newMAC(bytes.Repeat([]byte{7}, 32))
	good := s.Encode(Token{1, record.ID{1, 2, 3}, 4})
	for _, seed := range []string{"", "kmr_", string(good), string(good) + "A", "kms_" + string(good[4:])} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := s.Decode(refusal.Secret(text))
		if err == nil && string(s.Encode(token)) != text {
			t.Errorf("%q is another spelling of a token", text)
		}
		if err == nil && text != string(good) {
			t.Errorf("%q was never issued", text)
		}
	})
}
