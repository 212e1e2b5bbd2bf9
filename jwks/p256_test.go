package jwks

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
)

const ecHeader = `{"alg":"ES256","kid":"ec","typ":"at+jwt"}`

func ecKey(kid string) Key {
	return Key{KID: kid, Alg: ES256, Public: &testKeys().ec.PublicKey}
}

// signES256 returns the signature of a text. It is the same in every run.
func signES256(key *ecdsa.PrivateKey, text string) []byte {
	r, s := halves(derES256(key, text))
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

func derES256(key *ecdsa.PrivateKey, text string) []byte {
	sum := sha256.Sum256([]byte(text))
	der, err := key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}
	return der
}

func halves(der []byte) (r, s *big.Int) {
	var parts struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &parts); err != nil {
		panic(err)
	}
	return parts.R, parts.S
}

// mirrored returns the other valid form of a token of ES256.
func mirrored(token string) string {
	signed, signature, _ := cutLast(token)
	b, err := decodeSegment(signature, nil)
	if err != nil {
		panic(err)
	}
	s := new(big.Int).SetBytes(b[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(b[32:])
	return signed + "." + encode(string(b))
}

// TestP256SignaturesAreThoseOfWycheproof reads the table of testdata.
//
// R113.
func TestP256SignaturesAreThoseOfWycheproof(t *testing.T) {
	file, err := os.Open("testdata/p256_signatures.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unhex := func(s string) string {
		b, err := hex.DecodeString(strings.TrimSuffix(s, "-"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var key Key
	count := map[string]int{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch fields[0] {
		case "#":
		case "key":
			key = onlyKey(t, fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":"k","x":"%s","y":"%s"}`, encode(unhex(fields[1])), encode(unhex(fields[2]))))
		default:
			count[fields[0]]++
			if got := key.signed(unhex(fields[2]), []byte(unhex(fields[3]))); got != (fields[0] == "valid") {
				t.Errorf("test %s: %v, want %s", fields[1], got, fields[0])
			}
		}
	}
	if count["valid"] != 173 || count["invalid"] != 89 || len(count) != 2 {
		t.Errorf("the table has %v", count)
	}
}

// paddedKeys are d·G for a small d, with a coordinate that begins with a zero octet, and their thumbprints.
var paddedKeys = []struct {
	d                int64
	x, y, thumbprint string
}{
	{43, "mGriUG8f8QTQQjCGHY9LSY9LxMbQCbMPdUTcEpuC0o0", "ADzMwKZGDgrjKKTZfTx7YdhvxiicGJ8lJREMRBuwfpc", "WZsjbh58q8kl1WsGShqtiycImZtCgGbukDn4RAacMig"},
	{379, "AFVDiUrz0A7X10Cr29dclrBod7eH219w7qeLkKjXwAo", "u0yFo9jqKe-q-iRAaRLdhNWxTcMr9lbvbGvVil2UP5I", "7Yxe6c_3bAa6kiaK1G-BZmi9EeNsUmlcbdnrtLeuK4E"},
	{49350, "ACBiT32ylIIMMaIbEKJujhkFPYFHR6b3oOiRa-IpmbU", "AOon8vj6IRHZ23OPzZzn6Se6US8g_p8MWqQJnBvYUAI", "kAORMhlgziJZIHgXEMPBV0UiV4FORQftLpCrZ8oCbzI"},
}

// TestCoordinatesKeepTheirLeadingZeros: in the JWK and in the thumbprint each has 32 octets, 43 characters.
//
// R53, R113.
func TestCoordinatesKeepTheirLeadingZeros(t *testing.T) {
	for _, tt := range paddedKeys {
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), big.NewInt(tt.d).FillBytes(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		want := `{"keys":[{"kty":"EC","kid":"k","use":"sig","alg":"ES256","crv":"P-256","x":"` + tt.x + `","y":"` + tt.y + `"}]}`
		if got := string(mustSet(t, Key{"k", ES256, &private.PublicKey}).JSON()); got != want {
			t.Errorf("%d: %s, want %s", tt.d, got, want)
		}
		read := onlyKey(t, strings.TrimSuffix(strings.TrimPrefix(want, `{"keys":[`), `]}`))
		if got, err := Thumbprint(read.Public); err != nil || got != tt.thumbprint || !private.PublicKey.Equal(read.Public) {
			t.Errorf("%d: thumbprint %s, %v", tt.d, got, err)
		}
	}
}

// badP256Keys are changes of the key of RFC 7515, appendix A.3.
func badP256Keys() []badKey {
	const x, y = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
	key := func(crv, x, y string) string {
		return `{"kty":"EC","crv":"` + crv + `","kid":"k","x":"` + x + `","y":"` + y + `"}`
	}
	with := func(more string) string { return strings.Replace(key("P-256", x, y), `{`, `{`+more+`,`, 1) }
	octets := func(n int) string { return encode(strings.Repeat("\x00", n)) }
	padded, prime := paddedKeys[1], elliptic.P256().Params().P
	// x = 5 is on the curve, and x + p is the same point in another encoding.
	five := big.NewInt(5)
	root := new(big.Int).Sub(big.NewInt(5*5*5-3*5), new(big.Int).Neg(elliptic.P256().Params().B))
	root.ModSqrt(root.Mod(root, prime), prime)
	number := func(n *big.Int) string { return encode(string(n.FillBytes(make([]byte, 32)))) }
	return []badKey{
		{"P-384", key("P-384", x, y), `crv "P-384"`},
		{"secp256k1", key("secp256k1", x, y), `crv "secp256k1"`},
		{"crv in lower case", key("p-256", x, y), `crv "p-256"`},
		{"EC without crv", strings.Replace(key("P-256", x, y), `"crv":"P-256",`, "", 1), `crv ""`},
		{"short x", key("P-256", encode("\x01"), y), "x must have 32 octets, not 1"},
		{"x without its zero", key("P-256", encode(decoded(padded.x)[1:]), padded.y), "x must have 32 octets, not 31"},
		{"y without its zero", key("P-256", paddedKeys[0].x, encode(decoded(paddedKeys[0].y)[1:])), "y must have 32 octets, not 31"},
		{"x with one zero more", key("P-256", encode("\x00"+decoded(x)), y), "x must have 1 to 32 octets"},
		{"y with one zero more", key("P-256", x, encode("\x00"+decoded(y))), "y must have 1 to 32 octets"},
		{"compressed", strings.Replace(key("P-256", encode("\x02"+decoded(x)), y), `,"y":"`+y+`"`, "", 1), "x must have 1 to 32 octets"},
		{"no y", strings.Replace(key("P-256", x, y), `,"y":"`+y+`"`, "", 1), "y must have 1 to 32 octets"},
		{"at infinity", key("P-256", octets(32), octets(32)), "not a point of P-256"},
		{"at infinity, empty", key("P-256", "", ""), "x must have 1 to 32 octets"},
		{"off the curve", key("P-256", x, x), "not a point of P-256"},
		{"x and y swapped", key("P-256", y, x), "not a point of P-256"},
		{"x over the prime", key("P-256", number(new(big.Int).Add(five, prime)), number(root)), "not a point of P-256"},
		{"x not canonical", key("P-256", strings.TrimSuffix(x, "U")+"V", y), "not canonical"},
		{"ES256 key for RS256", with(`"alg":"RS256"`), `verifies ES256, not "RS256"`},
		{"ES256K", with(`"alg":"ES256K"`), `not "ES256K"`},
		{"private EC", with(`"d":"AA"`), `secret member "d"`},
	}
}

func decoded(s string) string {
	b, err := decodeSegment(s, nil)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestTheCurveIsChecked of keys that a program gives, too. The row "x over the prime" of badP256Keys tests what its
// name says.
func TestTheCurveIsChecked(t *testing.T) {
	five := big.NewInt(5)
	for _, row := range badP256Keys() {
		if row.name != "x over the prime" {
			continue
		}
		_, y, _ := strings.Cut(row.member, `"y":"`)
		onlyKey(t, `{"kty":"EC","crv":"P-256","kid":"k","x":"`+encode(string(five.FillBytes(make([]byte, 32))))+`","y":"`+y)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	off := testKeys().ec.PublicKey
	off.Curve = elliptic.P384()
	for name, public := range map[string]*ecdsa.PublicKey{
		"nil": nil, "zero": {}, "empty": {Curve: elliptic.P256()}, "P-384": &other.PublicKey, "a point of another curve": &off,
	} {
		if _, err := NewSet(Key{"k", ES256, public}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := Thumbprint(public); err == nil {
			t.Errorf("%s: has a thumbprint", name)
		}
	}
	for _, public := range []any{testKeys().ec, *testKeys().ec, testKeys().ec.PublicKey} {
		if _, err := NewSet(Key{"k", ES256, public}); err == nil {
			t.Errorf("a %T: accepted", public)
		}
	}
}

// TestASignatureOfES256HasOneFormOf64Bytes: every row has the valid r and s where it says nothing else.
//
// R113.
func TestASignatureOfES256HasOneFormOf64Bytes(t *testing.T) {
	token := sign(ecHeader, livePayload())
	signed, signature, _ := cutLast(token)
	good := decoded(signature)
	r, s, n := good[:32], good[32:], string(elliptic.P256().Params().N.Bytes())
	zero, above := strings.Repeat("\x00", 32), strings.Repeat("\xff", 32)
	const length, wrong = "a signature of ES256 has 64 bytes, not ", "not made with key"
	v := newVerifier(t, mustSet(t, ecKey("ec")), 10)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ signature, reason string }{
		"DER":                   {string(derES256(testKeys().ec, signed)), length + "7"},
		"63 bytes":              {good[:63], length + "63"},
		"65 bytes, zero before": {"\x00" + good, length + "65"},
		"65 bytes, zero behind": {good + "\x00", length + "65"},
		"66 bytes, both padded": {"\x00" + r + "\x00" + s, length + "66"},
		"empty":                 {"", length + "0"},
		"r = 0":                 {zero + s, wrong},
		"s = 0":                 {r + zero, wrong},
		"both 0":                {zero + zero, wrong},
		"r = n":                 {n + s, wrong},
		"s = n":                 {r + n, wrong},
		"both n":                {n + n, wrong},
		"r above n":             {above + s, wrong},
		"s above n":             {r + above, wrong},
		"swapped":               {s + r, wrong},
		"another's":             {string(signES256(testKeys().ec, signed+"x")), wrong},
	} {
		claims, err := v.Verify(t.Context(), signed+"."+encode(tt.signature))
		if claims != nil || !errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s: %v, want %q", name, err, tt.reason)
		}
		if err != nil {
			oneSentinel(t, err)
		}
	}
}

// TestTheOtherFormOfATokenIsTheSameToken: anyone can replace s by n - s. Both forms are verified, each on its own, and say
// the same.
func TestTheOtherFormOfATokenIsTheSameToken(t *testing.T) {
	v := newVerifier(t, mustSet(t, ecKey("ec")), 10)
	token := sign(ecHeader, livePayload())
	for range 2 { // the second time from the cache
		for _, form := range []string{token, mirrored(token)} {
			c, err := v.Verify(t.Context(), form)
			if err != nil || c.ID != "j1" || c.Alg != ES256 {
				t.Errorf("%v, %v", c, err)
			}
		}
	}
	if token == mirrored(token) || mirrored(mirrored(token)) != token || v.cache.get(hashToken(token)) == v.cache.get(hashToken(mirrored(token))) {
		t.Error("the two forms are one")
	}
	// A key that is replaced under its kid takes both out of use.
	v.keys = mustSet(t, Key{"ec", ES256, &other256(t).PublicKey})
	for _, form := range []string{token, mirrored(token)} {
		if _, err := v.Verify(t.Context(), form); !errors.Is(err, ErrSignature) {
			t.Errorf("with another key: %v", err)
		}
	}
}

func other256(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
