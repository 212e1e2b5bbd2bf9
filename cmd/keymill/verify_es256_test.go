package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"keymill/jwks"
)

// TestVerifyNamesASignatureInDER, the form that libraries for signatures write and JWS does not use.
func TestVerifyNamesASignatureInDER(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := jwks.NewSet(jwks.Key{KID: "ec", Alg: jwks.ES256, Public: &key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	i := &foreignIssuer{t: t}
	i.url = i.serve(map[string]http.HandlerFunc{
		"/keys": func(w http.ResponseWriter, _ *http.Request) { w.Write(set.JSON()) },
	})
	claims, err := json.Marshal(i.claims())
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"typ":"at+jwt","alg":"ES256","kid":"ec"}`)) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	der, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var parts struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &parts); err != nil {
		t.Fatal(err)
	}
	args := []string{"--issuer", i.url, "--jwks", i.url + "/keys", "--audience", "orders", "--data", t.TempDir()}
	good := append(parts.R.FillBytes(make([]byte, 32)), parts.S.FillBytes(make([]byte, 32))...)
	if out, errs, code := verifyStdin(t, signed+"."+encode(good), args...); code != 0 || !strings.Contains(out, "ES256") {
		t.Errorf("64 bytes: code %d, %s%s", code, out, errs)
	}
	out, errs, code := verifyStdin(t, signed+"."+encode(der), args...)
	for _, want := range []string{fmt.Sprintf("has 64 bytes, not %d", len(der)), "in the form of ASN.1 (DER)"} {
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("DER: code %d, no %q in %s%s", code, want, out, errs)
		}
	}
}
