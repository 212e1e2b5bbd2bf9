package jwks

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
)

// The published keys and signatures that this package must agree with.
const (
	rfc7638Key = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	rfc7638    = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

	rfc8037Key = `{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	rfc8037    = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
	rfc8037JWS = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

	rfc7515Key = `{"kty":"RSA","kid":"b","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}`
	rfc7515JWS = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)

func TestR53_ThumbprintsAreThoseOfTheRFCs(t *testing.T) {
	for _, tt := range []struct{ key, want string }{{rfc7638Key, rfc7638}, {rfc8037Key, rfc8037}} {
		key := onlyKey(t, tt.key)
		got, err := Thumbprint(key.Public)
		if err != nil || got != tt.want {
			t.Errorf("Thumbprint of %s = %q, %v; want %q", key.KID, got, err, tt.want)
		}
	}
}

func TestR51_PublishedSignaturesVerify(t *testing.T) {
	for _, tt := range []struct{ key, jws string }{{rfc8037Key, rfc8037JWS}, {rfc7515Key, rfc7515JWS}} {
		key := onlyKey(t, tt.key)
		parts, err := splitToken(tt.jws)
		if err != nil {
			t.Fatal(err)
		}
		if !verify(key, parts.signed, parts.signature) {
			t.Errorf("the %s vector does not verify", key.Alg)
		}
		parts.signature[7] ^= 1
		if verify(key, parts.signed, parts.signature) {
			t.Errorf("the %s vector verifies with a flipped bit", key.Alg)
		}
	}
}

func TestThumbprintRefusesWhatIsNoPublicKey(t *testing.T) {
	for _, public := range []crypto.PublicKey{nil, "key", ed25519.PublicKey{1}, testKeys().ed, (*rsa.PublicKey)(nil)} {
		if got, err := Thumbprint(public); err == nil {
			t.Errorf("Thumbprint(%T) = %q", public, got)
		}
	}
}

// Below: keys and tokens for the tests of the whole package.

type keyring struct {
	rsa, rsa1024 *rsa.PrivateKey
	ed           ed25519.PrivateKey
}

var testKeys = sync.OnceValue(func() keyring {
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	// Go will not make a weak key; its public half is all that is needed.
	small := &rsa.PrivateKey{PublicKey: rsa.PublicKey{E: 65537}}
	small.N = new(big.Int).SetBit(new(big.Int).SetInt64(1), 1023, 1)
	return keyring{rsa: strong, rsa1024: small, ed: ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", 32)))}
})

func edKey(kid string) Key {
	return Key{KID: kid, Alg: EdDSA, Public: testKeys().ed.Public()}
}

func rsaKey(kid string) Key {
	return Key{KID: kid, Alg: RS256, Public: &testKeys().rsa.PublicKey}
}

func onlyKey(t *testing.T, jwk string) Key {
	t.Helper()
	set, err := Parse([]byte(`{"keys":[` + jwk + `]}`))
	if err != nil || len(set.Keys()) != 1 {
		t.Fatalf("Parse: %v, %d keys, skipped %q", err, len(set.Keys()), set.Skipped())
	}
	return set.Keys()[0]
}

func mustSet(t testing.TB, keys ...Key) *Set {
	t.Helper()
	set, err := NewSet(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// sign makes a token out of any header and payload, right or wrong.
func sign(header, payload string) string {
	signed := encode(header) + "." + encode(payload)
	var named struct{ Alg string }
	json.Unmarshal([]byte(header), &named)
	if named.Alg == RS256 {
		sum := sha256.Sum256([]byte(signed))
		signature, err := rsa.SignPKCS1v15(nil, testKeys().rsa, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return signed + "." + encode(string(signature))
	}
	return signed + "." + encode(string(ed25519.Sign(testKeys().ed, []byte(signed))))
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func edHeader(more string) string {
	return fmt.Sprintf(`{"alg":"EdDSA","kid":"ed","typ":"at+jwt"%s}`, more)
}
