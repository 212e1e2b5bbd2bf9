package jwks

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func TestR57_PublishedKeysSayWhatTheyAreAndHoldNoSecret(t *testing.T) {
	set := mustSet(t, edKey("ed"), rsaKey("rsa"))
	var document struct{ Keys []map[string]any }
	if err := json.Unmarshal(set.JSON(), &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Keys) != 2 {
		t.Fatalf("%d keys, want 2", len(document.Keys))
	}
	want := []string{"alg kid kty use crv x", "alg kid kty use e n"}
	for i, key := range document.Keys {
		for name, value := range key {
			if _, isText := value.(string); !isText || value == "" {
				t.Errorf("key %d: %s is %v", i, name, value)
			}
			if !slices.Contains(strings.Fields(want[i]), name) {
				t.Errorf("key %d has the member %q", i, name)
			}
		}
		if len(key) != len(strings.Fields(want[i])) || key["use"] != "sig" {
			t.Errorf("key %d = %v", i, key)
		}
	}
}

func TestR58_NoTwoKeysShareAKid(t *testing.T) {
	if _, err := NewSet(edKey("same"), rsaKey("other"), rsaKey("same")); err == nil {
		t.Error("NewSet took one kid twice")
	}
}

func TestR59_SameKeysAreTheSameBytes(t *testing.T) {
	a, b := mustSet(t, edKey("ed"), rsaKey("rsa")), mustSet(t, rsaKey("rsa"), edKey("ed"))
	if !bytes.Equal(a.JSON(), b.JSON()) || a.ETag() != b.ETag() {
		t.Errorf("the order of the arguments shows:\n%s\n%s", a.JSON(), b.JSON())
	}
	if c := mustSet(t, edKey("ed")); c.ETag() == a.ETag() {
		t.Error("two sets share an ETag")
	}
	if etag := a.ETag(); len(etag) != 24 || etag[0] != '"' || etag[23] != '"' {
		t.Errorf("ETag = %s, want 22 characters, quoted", etag)
	}
}

func TestNewSetRefusesKeysThatMustNotBePublished(t *testing.T) {
	keys := testKeys()
	even := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}
	huge := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537}
	one := &rsa.PublicKey{N: keys.rsa.N, E: 1}
	for name, key := range map[string]Key{
		"empty kid":          edKey(""),
		"long kid":           edKey(strings.Repeat("k", 257)),
		"kid not UTF-8":      edKey("\xff"),
		"unknown alg":        {"k", "RS512", &keys.rsa.PublicKey},
		"no alg":             {"k", "", keys.ed.Public()},
		"alg of another kty": {"k", RS256, keys.ed.Public()},
		"and the other way":  {"k", EdDSA, &keys.rsa.PublicKey},
		"1024 bits":          {"k", RS256, &keys.rsa1024.PublicKey},
		"8193 bits":          {"k", RS256, huge},
		"even modulus":       {"k", RS256, even},
		"exponent 1":         {"k", RS256, one},
		"private RSA":        {"k", RS256, keys.rsa},
		"private Ed25519":    {"k", EdDSA, keys.ed},
		"short Ed25519":      {"k", EdDSA, ed25519.PublicKey("short")},
		"RSA by value":       {"k", RS256, keys.rsa.PublicKey},
		"nil RSA":            {"k", RS256, (*rsa.PublicKey)(nil)},
		"nothing":            {"k", RS256, nil},
	} {
		if _, err := NewSet(edKey("good"), key); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSetDoesNotChangeWithItsMaker(t *testing.T) {
	public := slices.Clone(testKeys().ed.Public().(ed25519.PublicKey))
	set := mustSet(t, Key{"k", EdDSA, public})
	public[0] ^= 1
	set.JSON()[0] = 'x'
	set.Keys()[0].KID = "x"
	key, found := set.Key("k")
	if !found || key.Public.(ed25519.PublicKey)[0] == public[0] || set.JSON()[0] != '{' {
		t.Error("the set shares memory with its callers")
	}
	if _, found := set.Key("j"); found {
		t.Error("the set has a key that nobody put there")
	}
}

func TestParseReadsWhatNewSetWrote(t *testing.T) {
	set := mustSet(t, edKey("ed"), rsaKey("rsa"), edKey(`odd "kid" <&> ü`))
	again, err := Parse(set.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.JSON(), set.JSON()) || len(again.Skipped()) != 0 {
		t.Errorf("read back %s, skipped %q", again.JSON(), again.Skipped())
	}
}

// TestParseSkipsTheKeyAndKeepsTheRest: one member that nobody understands, or that
// nobody should trust, leaves its neighbours good.
func TestParseSkipsTheKeyAndKeepsTheRest(t *testing.T) {
	x := `"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
	ed := `"kty":"OKP","crv":"Ed25519","kid":"k",` + x
	_, n, _ := strings.Cut(rfc7515Key, `"n":"`)
	n = n[:342]
	weak := strings.Repeat("A", 10) + n[:161] // 1024 bits and less
	for name, member := range map[string]string{
		"unknown kty":       `{"kty":"AKP","kid":"k","alg":"ML-DSA-44","pub":"AA"}`,
		"EC":                `{"kty":"EC","crv":"P-256","kid":"k","x":"AA","y":"AA"}`,
		"symmetric":         `{"kty":"oct","kid":"k","k":"AAAA"}`,
		"another curve":     `{"kty":"OKP","crv":"Ed448","kid":"k",` + x + `}`,
		"X25519":            `{"kty":"OKP","crv":"X25519","kid":"k",` + x + `}`,
		"encryption":        `{"use":"enc",` + ed + `}`,
		"empty use":         `{"use":"",` + ed + `}`,
		"use of a number":   `{"use":1,` + ed + `}`,
		"only to sign":      `{"key_ops":["sign"],` + ed + `}`,
		"key_ops a string":  `{"key_ops":"verify",` + ed + `}`,
		"other alg":         `{"alg":"HS256",` + ed + `}`,
		"RS256 on Ed25519":  `{"alg":"RS256",` + ed + `}`,
		"empty alg":         `{"alg":"",` + ed + `}`,
		"alg in lower case": `{"alg":"eddsa",` + ed + `}`,
		"null alg":          `{"alg":null,` + ed + `}`,
		"private half":      `{"d":"AA",` + ed + `}`,
		"private and null":  `{"d":null,` + ed + `}`,
		"a y":               `{"y":"AA",` + ed + `}`,
		"no kid":            `{"kty":"OKP","crv":"Ed25519",` + x + `}`,
		"kid of a number":   `{"kty":"OKP","crv":"Ed25519","kid":7,` + x + `}`,
		"member twice":      `{"kid":"j",` + ed + `}`,
		"short x":           `{"kty":"OKP","crv":"Ed25519","kid":"k","x":"AAAA"}`,
		"padded x":          strings.Replace(`{`+ed+`}`, `Ro"`, `Ro="`, 1),
		"line break in x":   strings.Replace(`{`+ed+`}`, `Ro"`, `Ro\n"`, 1),
		"other spelling":    strings.Replace(`{`+ed+`}`, `Ro"`, `Rp"`, 1), // slack bits set
		"PS256":             `{"kty":"RSA","kid":"k","alg":"PS256","e":"AQAB","n":"` + n + `"}`,
		"weak RSA":          `{"kty":"RSA","kid":"k","e":"AQAB","n":"` + weak + `"}`,
		"RSA of 171 octets": `{"kty":"RSA","kid":"k","e":"AQAB","n":"` + n[:228] + `"}`,
		"leading zero":      `{"kty":"RSA","kid":"k","e":"AQAB","n":"AAAA` + n + `"}`,
		"long n":            `{"kty":"RSA","kid":"k","e":"AQAB","n":"` + strings.Repeat(n, 5) + `"}`,
		"e of one":          `{"kty":"RSA","kid":"k","e":"AQ","n":"` + n + `"}`,
		"e past 31 bits":    `{"kty":"RSA","kid":"k","e":"_____w","n":"` + n + `"}`,
		"long e":            `{"kty":"RSA","kid":"k","e":"AQAAAAAAAAAAAQAB","n":"` + n + `"}`,
		"no e":              `{"kty":"RSA","kid":"k","n":"` + n + `"}`,
		"a number":          `7`,
		"null":              `null`,
		"an array":          `[]`,
	} {
		t.Run(name, func(t *testing.T) {
			good := strings.Replace(rfc7515Key, `"b"`, `"good"`, 1)
			set, err := Parse([]byte(`{"keys": [ ` + member + ` , ` + good + ` ]}`))
			if err != nil {
				t.Fatal(err)
			}
			if keys := set.Keys(); len(keys) != 1 || keys[0].KID != "good" {
				t.Errorf("keys = %v", keys)
			}
			if len(set.Skipped()) != 1 {
				t.Errorf("skipped = %q", set.Skipped())
			}
		})
	}
}

func TestParseUnderstandsHarmlessVariety(t *testing.T) {
	x := `"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
	ed := `"kty":"OKP","crv":"Ed25519","kid":"k",` + x
	for _, member := range []string{
		`{` + ed + `}`,
		`{"alg":"EdDSA","use":"sig",` + ed + `}`,
		`{"alg":"Ed25519",` + ed + `}`, // RFC 9864
		`{"key_ops":["verify"],` + ed + `}`,
		`{"x5c":["AA"],"nested":{"d":1},"KID":"other",` + ed + `}`,
	} {
		if key := onlyKey(t, member); key.KID != "k" || key.Alg != EdDSA {
			t.Errorf("%s: %v", member, key)
		}
	}
}

func TestParseTrustsNeitherOfTwoKeysThatShareAKid(t *testing.T) {
	twin := strings.Replace(rfc7515Key, `"b"`, `"a"`, 1)
	unknown := `{"kty":"AKP","kid":"a"}`
	for _, second := range []string{twin, unknown, rfc8037Key} {
		set, err := Parse([]byte(`{"keys":[` + rfc8037Key + `,` + second + `,` + rfc7515Key + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		if keys := set.Keys(); len(keys) != 1 || keys[0].KID != "b" {
			t.Errorf("with %s: keys = %v", second, keys)
		}
	}
}

func TestParseRefusesWhatIsNoKeySet(t *testing.T) {
	for name, document := range map[string]string{
		"nothing":       ``,
		"no object":     `[]`,
		"no keys":       `{}`,
		"Keys":          `{"Keys":[]}`,
		"keys twice":    `{"keys":[],"keys":[]}`,
		"keys null":     `{"keys":null}`,
		"keys a map":    `{"keys":{}}`,
		"trailing":      `{"keys":[]} {}`,
		"cut short":     `{"keys":[`,
		"comma":         `{"keys":[],}`,
		"not UTF-8":     "{\"keys\":[],\"x\":\"\xff\"}",
		"over 256 KiB":  `{"keys":[]}` + strings.Repeat(" ", 256<<10),
		"nested deeply": strings.Repeat(`{"keys":`, 20000),
	} {
		if set, err := Parse([]byte(document)); err == nil {
			t.Errorf("%s: accepted as %s", name, set.JSON())
		}
	}
	if set, err := Parse([]byte(`{"keys":[]}`)); err != nil || string(set.JSON()) != `{"keys":[]}` {
		t.Errorf("an empty set: %v", err)
	}
}

// FuzzParse: whatever is sent, the set that comes out can be published and read back.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"keys":[` + rfc7515Key + `,` + rfc8037Key + `]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP"},{"kid":"k","kid":"k"},7]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		set, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(set.JSON())
		if err != nil || !bytes.Equal(again.JSON(), set.JSON()) {
			t.Fatalf("%v: %s became %s", err, set.JSON(), again.JSON())
		}
		if _, err := NewSet(set.Keys()...); err != nil {
			t.Fatal(err)
		}
	})
}
