package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
)

// Published keys and signatures.
const (
	rfc7638Key = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	rfc7638    = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

	rfc8037Key = `{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	rfc8037    = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
	rfc8037JWS = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"

	rfc7515Key = `{"kty":"RSA","kid":"b","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}`
	rfc7515JWS = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"

	// RFC 7515, appendix A.2: one of the primes of the key, so that tests can sign too.
	rfc7515Prime = "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc"

	// RFC 7515, appendix A.3.
	rfc7515ECKey = `{"kty":"EC","kid":"c","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
	rfc7515A3    = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"

	// RFC 9449, section 4.1, and the jkt of section 6.1.
	rfc9449Key = `{"kty":"EC","kid":"d","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}`
	rfc9449    = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"

	// Appendices A.1 and A.5: algorithms that must be refused. The key of A.1 shows that
	// the vector is right, so that it is refused only for its alg.
	rfc7515A1    = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	rfc7515A1Key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
	rfc7515A5    = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."

	// Appendix A.6: the JSON serialization, with the signature of A.2.
	rfc7515A6 = `{"payload":"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ","signatures":[{"protected":"eyJhbGciOiJSUzI1NiJ9","header":{"kid":"2010-12-29"},"signature":"cC4hiUPoj9Eetdgtv3hF80EGrhuB"}]}`
)

// R53.
func TestThumbprintsAreThoseOfTheRFCs(t *testing.T) {
	for _, tt := range []struct{ key, want string }{{rfc7638Key, rfc7638}, {rfc8037Key, rfc8037}, {rfc9449Key, rfc9449}} {
		key := onlyKey(t, tt.key)
		got, err := Thumbprint(key.Public)
		if err != nil || got != tt.want {
			t.Errorf("Thumbprint of %s = %q, %v; want %q", key.KID, got, err, tt.want)
		}
	}
}

// R51.
func TestPublishedSignaturesVerify(t *testing.T) {
	for _, tt := range []struct{ key, jws string }{{rfc8037Key, rfc8037JWS}, {rfc7515Key, rfc7515JWS}, {rfc7515ECKey, rfc7515A3}} {
		key := onlyKey(t, tt.key)
		_, parts, err := split(tt.jws)
		if err != nil {
			t.Fatal(err)
		}
		if !key.signed(parts.signed, parts.signature) {
			t.Errorf("the %s vector does not verify", key.Alg)
		}
		parts.signature[7] ^= 1
		if key.signed(parts.signed, parts.signature) {
			t.Errorf("the %s vector verifies with a flipped bit", key.Alg)
		}
	}
}

// TestPublishedTokensOfOtherAlgorithmsAreRefused, each for its algorithm, whatever its other
// faults are.
//
// R87.
func TestPublishedTokensOfOtherAlgorithmsAreRefused(t *testing.T) {
	signed, signature, _ := cutLast(rfc7515A1)
	secret, _ := base64.RawURLEncoding.DecodeString(rfc7515A1Key)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	if encode(string(mac.Sum(nil))) != signature {
		t.Fatal("the vector of A.1 is not the published one")
	}
	for _, tt := range []struct {
		token string
		want  error
		word  string
	}{
		{rfc7515A1, ErrAlgorithm, "HS256"},
		{rfc7515A5, ErrAlgorithm, "none"},
		{rfc7515A6, ErrMalformed, "parts"},
		{rfc7515JWS, ErrType, "at+jwt"}, // A.2 verifies above, but it is not an access token
		{rfc7515A3, ErrType, "at+jwt"},  // and so does A.3
		{rfc8037JWS, ErrType, "at+jwt"},
	} {
		_, err := Check(tt.token, mustSet(t, edKey("ed"), rsaKey("rsa")), wanted(), now)
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.word) {
			t.Errorf("%.20s…: %v, want %v and %q", tt.token, err, tt.want, tt.word)
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

// Below are keys and tokens for the tests of the whole package.

type keyring struct {
	rsa, rsa1024 *rsa.PrivateKey
	ed           ed25519.PrivateKey
	ec           *ecdsa.PrivateKey
}

// testKeys returns the same keys in every run, so that fuzz failures can be repeated.
var testKeys = sync.OnceValue(func() keyring {
	strong := rfc7515Private()
	// Go does not generate a weak key. Only its public half is needed.
	small := &rsa.PrivateKey{PublicKey: rsa.PublicKey{E: 65537}}
	small.N = new(big.Int).SetBit(new(big.Int).SetInt64(1), 1023, 1)
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), []byte(strings.Repeat("e", 32)))
	if err != nil {
		panic(err)
	}
	return keyring{rsa: strong, rsa1024: small, ed: ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", 32))), ec: ec}
})

// rfc7515Private returns the private half of rfc7515Key, from one of its published primes.
func rfc7515Private() *rsa.PrivateKey {
	number := func(s string) *big.Int {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			panic(err)
		}
		return new(big.Int).SetBytes(b)
	}
	_, n, _ := strings.Cut(rfc7515Key, `"n":"`)
	n, _, _ = strings.Cut(n, `"`)
	one := big.NewInt(1)
	p := number(rfc7515Prime)
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: number(n), E: 65537}}
	q := new(big.Int).Div(key.N, p)
	key.Primes = []*big.Int{p, q}
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key.D = new(big.Int).ModInverse(big.NewInt(65537), phi)
	key.Precompute()
	if err := key.Validate(); err != nil {
		panic(err)
	}
	return key
}

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
		t.Fatalf("Parse: %v, %d keys, skipped %v", err, len(set.Keys()), set.Skipped())
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

// sign returns a token with any header and payload, valid or not.
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
	if named.Alg == ES256 {
		return signed + "." + encode(string(signES256(testKeys().ec, signed)))
	}
	return signed + "." + encode(string(ed25519.Sign(testKeys().ed, []byte(signed))))
}

// cutLast cuts a token before its signature.
func cutLast(token string) (signed, signature string, found bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return token, "", false
	}
	return token[:i], token[i+1:], true
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func edHeader(more string) string {
	return fmt.Sprintf(`{"alg":"EdDSA","kid":"ed","typ":"at+jwt"%s}`, more)
}
