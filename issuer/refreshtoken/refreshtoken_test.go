package refreshtoken

import (
	"bytes"
	"testing"

	"keymill/issuer/record"
	"keymill/issuer/refusal"
)

// FuzzRefreshToken checks that only tokens of this store are accepted, each in one spelling.
func FuzzRefreshToken(f *testing.F) {
	s := newSet("fuzz")
	if err := s.add("fuzz", 1, bytes.Repeat([]byte{7}, 32)); err != nil {
		f.Fatal(err)
	}
	good := s.encode(Token{1, record.ID{1, 2, 3}, 4})
	for _, seed := range []string{"", "kmr_", string(good), string(good) + "A", "kms_" + string(good[4:])} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := s.decode(refusal.Secret(text))
		if err == nil && string(s.encode(token)) != text {
			t.Errorf("%q is another spelling of a token", text)
		}
		if err == nil && text != string(good) {
			t.Errorf("%q was never issued", text)
		}
	})
}
