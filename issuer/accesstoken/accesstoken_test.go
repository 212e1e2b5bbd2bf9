package accesstoken

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"keymill/keystore"
)

const issuer = "https://auth.example.com"

// signed returns a token with the payload, and the published keys of its signature.
func signed(t *testing.T, payload string) (string, []keystore.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	text := part([]byte(`{"alg":"EdDSA","kid":"k","typ":"at+jwt"}`)) + "." + part([]byte(payload))
	return text + "." + part(ed25519.Sign(private, []byte(text))), []keystore.PublicKey{{KID: "k", Alg: "EdDSA", Public: public}}
}

func TestATokenSaysWhatOurTokensCanSay(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const payload = `{"iss":"` + issuer + `","sub":"7","aud":"orders","client_id":"web","scope":"read","iat":1799999990.75,"exp":%s,"jti":%s,"sid":"06bt16hmtsqjmpkmpkmpkmpkm8"}`
	for jti, want := range map[string]string{
		`"x"`: "x", `""`: "", `"\u0000"`: "", `"a/b"`: "a/b", `"` + strings.Repeat("x", MaxIDBytes) + `"`: strings.Repeat("x", MaxIDBytes),
		`"` + strings.Repeat("x", MaxIDBytes+1) + `"`: "",
	} {
		token, keys := signed(t, fmt.Sprintf(payload, "1800000060", jti))
		got, err := NewVerifier(issuer).Verify(token, keys, now)
		if err != nil {
			t.Errorf("jti %s: %v", jti, err)
			continue
		}
		session := got.Session.String()
		if got.ID != want || !got.HasSession() || session != "06bt16hmtsqjmpkmpkmpkmpkm8" || got.Issued.Unix() != 1799999990 || got.Issued.Nanosecond() != 0 {
			t.Errorf("jti %s: %+v", jti, got)
		}
	}
	for exp, now := range map[string]time.Time{"1800000060": time.Unix(1_800_000_060, 0), "1799999999": now} {
		token, keys := signed(t, fmt.Sprintf(payload, exp, `"x"`))
		if got, err := NewVerifier(issuer).Verify(token, keys, now); got != nil || !errors.Is(err, ErrInvalid) {
			t.Errorf("exp %s at %s: %+v, %v", exp, now, got, err)
		}
	}
}

func TestOnlyPrintableNamesName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, " ": true, "a/b": true, "~": true, strings.Repeat("x", MaxIDBytes): true,
		"": false, "\x00": false, "\x1f": false, "\x7f": false, "é": false, "a\n": false, strings.Repeat("x", MaxIDBytes+1): false,
	} {
		if IsName(name) != want {
			t.Errorf("%.20q: %v", name, !want)
		}
	}
}
