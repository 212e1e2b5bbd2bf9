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

// R57.
func TestPublishedKeysAreCompleteAndContainNoSecret(t *testing.T) {
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

// R58.
func TestNoTwoKeysShareAKid(t *testing.T) {
	if _, err := NewSet(edKey("same"), rsaKey("other"), rsaKey("same")); err == nil {
		t.Error("NewSet accepted two keys with one kid")
	}
}

// R59.
func TestSameKeysAreTheSameBytes(t *testing.T) {
	a, b := mustSet(t, edKey("ed"), rsaKey("rsa")), mustSet(t, rsaKey("rsa"), edKey("ed"))
	if !bytes.Equal(a.JSON(), b.JSON()) || a.ETag() != b.ETag() {
		t.Errorf("the order of the arguments matters:\n%s\n%s", a.JSON(), b.JSON())
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
	exponent := func(e int64) *rsa.PublicKey { return &rsa.PublicKey{N: keys.rsa.N, E: int(e)} }
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
		"exponent 1":         {"k", RS256, exponent(1)},
		"exponent 3":         {"k", RS256, exponent(3)},
		"exponent 65536":     {"k", RS256, exponent(65536)},
		"exponent negative":  {"k", RS256, exponent(-65537)},
		"exponent long":      {"k", RS256, exponent(1<<31 + 1)},
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

func TestASetDoesNotChangeWithTheCallersKeys(t *testing.T) {
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
		t.Error("the set has a key that was not in it")
	}
}

func TestParseReadsWhatNewSetWrote(t *testing.T) {
	set := mustSet(t, edKey("ed"), rsaKey("rsa"), edKey(`odd "kid" <&> ü`))
	again, err := Parse(set.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.JSON(), set.JSON()) || again.Skipped().Count != 0 {
		t.Errorf("read back %s, skipped %v", again.JSON(), again.Skipped())
	}
}

// TestBadKeysAreSkippedAndTheOthersUsed: a key that is not understood or not trusted does not
// affect the others.
//
// R87.
func TestBadKeysAreSkippedAndTheOthersUsed(t *testing.T) {
	for _, tt := range badKeys() {
		t.Run(tt.name, func(t *testing.T) {
			good := strings.Replace(rfc7515Key, `"b"`, `"good"`, 1)
			set, err := Parse([]byte(`{"keys": [ ` + tt.member + ` , ` + good + ` ]}`))
			if err != nil {
				t.Fatal(err)
			}
			if keys := set.Keys(); len(keys) != 1 || keys[0].KID != "good" {
				t.Errorf("keys = %v", keys)
			}
			if s := set.Skipped(); s.Count != 1 || len(s.Keys) != 1 || s.Keys[0].Index != 0 || !strings.Contains(s.Keys[0].Reason, tt.reason) {
				t.Errorf("skipped = %v, want %q", s, tt.reason)
			}
		})
	}
}

type badKey struct{ name, member, reason string }

// badKeys are valid keys with one thing changed.
func badKeys() []badKey {
	return slices.Concat(foreignKeys(), misusedKeys(), leakedKeys(), unclearKeys(), badNumbers(), badP256Keys())
}

// goodMembers are the members of an Ed25519 key.
const goodMembers = `"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`

func rsaMember(e, n string) string   { return `{"kty":"RSA","kid":"k","e":"` + e + `","n":"` + n + `"}` }
func withMember(more string) string  { return `{` + more + `,` + goodMembers + `}` }
func changed(old, new string) string { return strings.Replace(`{`+goodMembers+`}`, old, new, 1) }

// foreignKeys have an unsupported type, or are no keys.
func foreignKeys() []badKey {
	return []badKey{
		{"unknown kty", `{"kty":"AKP","kid":"k","alg":"ML-DSA-44","pub":"AA"}`, `kty "AKP" is not supported`},
		{"kty in lower case", changed("OKP", "okp"), `kty "okp"`},
		{"no kty", changed(`"kty":"OKP",`, ""), `kty ""`},
		{"kty of another", changed("OKP", "RSA"), "n must have"},
		{"symmetric", `{"kty":"oct","kid":"k","k":"AAAA"}`, `secret member "k"`},
		{"another curve", changed("Ed25519", "Ed448"), `crv "Ed448"`},
		{"X25519", changed("Ed25519", "X25519"), `crv "X25519"`},
		{"no curve", changed(`"crv":"Ed25519",`, ""), `crv ""`},

		{"a number", `7`, "not a JSON object"},
		{"null", `null`, "not a JSON object"},
		{"an array", `[]`, "not a JSON object"},
	}
}

// misusedKeys are not for signatures of tokens.
func misusedKeys() []badKey {
	n := rsaModulus()
	return []badKey{
		{"encryption", withMember(`"use":"enc"`), `use is "enc"`},
		{"empty use", withMember(`"use":""`), `use is ""`},
		{"use in capitals", withMember(`"use":"SIG"`), `use is "SIG"`},
		{"use of a number", withMember(`"use":1`), "use is not a string"},
		{"only to sign", withMember(`"key_ops":["sign"]`), "key_ops"},
		{"no operation", withMember(`"key_ops":[]`), "key_ops"},
		{"key_ops a string", withMember(`"key_ops":"verify"`), "key_ops"},
		{"key_ops null", withMember(`"key_ops":null`), "key_ops"},
		{"key_ops mixed", withMember(`"key_ops":["verify",1]`), "key_ops"},

		{"other alg", withMember(`"alg":"HS256"`), `not "HS256"`},
		{"RS256 on Ed25519", withMember(`"alg":"RS256"`), `not "RS256"`},
		{"empty alg", withMember(`"alg":""`), `not ""`},
		{"alg in lower case", withMember(`"alg":"eddsa"`), `not "eddsa"`},
		{"null alg", withMember(`"alg":null`), "alg is not a string"},
		{"PS256", strings.Replace(rsaMember("AQAB", n), `{`, `{"alg":"PS256",`, 1), `not "PS256"`},
		{"RS512", strings.Replace(rsaMember("AQAB", n), `{`, `{"alg":"RS512",`, 1), `not "RS512"`},
		{"EdDSA on RSA", strings.Replace(rsaMember("AQAB", n), `{`, `{"alg":"EdDSA",`, 1), `not "EdDSA"`},
	}
}

// leakedKeys contain a private member.
func leakedKeys() []badKey {
	n := rsaModulus()
	return []badKey{
		{"private half", withMember(`"d":"AA"`), `secret member "d"`},
		{"private and null", withMember(`"d":null`), `secret member "d"`},
		{"private by escape", withMember(`"\u0064":"AA"`), `secret member "d"`},
		{"a prime", strings.Replace(rsaMember("AQAB", n), `{`, `{"p":"AA",`, 1), `secret member "p"`},
		{"other primes", strings.Replace(rsaMember("AQAB", n), `{`, `{"oth":[],`, 1), `secret member "oth"`},
	}
}

// unclearKeys have no usable kid, or can be read in two ways.
func unclearKeys() []badKey {
	return []badKey{
		{"no kid", changed(`"kid":"k",`, ""), "kid must be"},
		{"empty kid", changed(`"kid":"k"`, `"kid":""`), "kid must be"},
		{"long kid", changed(`"kid":"k"`, `"kid":"`+strings.Repeat("k", 257)+`"`), "kid must be"},
		{"kid of a number", changed(`"kid":"k"`, `"kid":7`), "kid is not a string"},
		{"kid twice", withMember(`"kid":"j"`), "occurs twice"},
		{"kid twice, escaped", withMember(`"\u006bid":"j"`), "occurs twice"},
		{"twice below", withMember(`"x":{"a":1,"a":2}`), "occurs twice"},
		{"deep", withMember(`"y":` + strings.Repeat("[", 16) + strings.Repeat("]", 16)), "nested deeper"},
		{"half a pair", withMember(`"z":"\ud800"`), "surrogate"},
	}
}

// badNumbers are weak, or not in their canonical encoding.
func badNumbers() []badKey {
	n := rsaModulus()
	return []badKey{
		{"a y", withMember(`"y":"AA"`), "has no y"},
		{"short x", `{"kty":"OKP","crv":"Ed25519","kid":"k","x":"AAAA"}`, "32 bytes, not 3"},
		{"long x", changed(`Ro"`, `RoAA"`), "1 to 32 octets"},
		{"padded x", changed(`Ro"`, `Ro="`), "1 to 32 octets"},
		{"line break in x", changed(`cHURo"`, `cHUR\n"`), "not base64url"},
		{"other encoding", changed(`Ro"`, `Rp"`), "not canonical"}, // an unused bit is set

		{"1024 bits", rsaMember("AQAB", number(odd(1024))), "2048 to 8192 bits, not 1024"},
		{"2047 bits", rsaMember("AQAB", number(odd(2047))), "not 2047"},
		{"8193 bits", rsaMember("AQAB", number(odd(8193))), "1 to 1024 octets"},
		{"even modulus", rsaMember("AQAB", number(new(big.Int).Lsh(big.NewInt(1), 2047))), "even modulus"},
		{"leading zero", rsaMember("AQAB", "AAAA"+n), "zero octet"},
		{"no n", `{"kty":"RSA","kid":"k","e":"AQAB"}`, "n must have"},
		{"n a number", `{"kty":"RSA","kid":"k","e":"AQAB","n":7}`, "n is not a string"},
		{"padded n", rsaMember("AQAB", n+"=="), "not base64url"},
		{"e of one", rsaMember("AQ", n), "not 1"},
		{"e of three", rsaMember("Aw", n), "not 3"},
		{"e of 65535", rsaMember("__8", n), "not 65535"},
		{"even e", rsaMember("AQAC", n), "not 65538"},
		{"e past 31 bits", rsaMember("gAAAAQ", n), "odd exponent"},
		{"e of 32 bits", rsaMember("_____w", n), "odd exponent"},
		{"long e", rsaMember("AQAAAAAAAAAAAQAB", n), "1 to 4 octets"},
		{"zero in e", rsaMember("AAEAAQ", n), "zero octet"},
		{"no e", `{"kty":"RSA","kid":"k","n":"` + n + `"}`, "e must have"},
	}
}

// rsaModulus returns the n of rfc7515Key.
func rsaModulus() string { return number(testKeys().rsa.N) }

func number(n *big.Int) string { return encode(string(n.Bytes())) }

// odd returns an odd number of that many bits, for keys that are refused for their size.
func odd(bits int) *big.Int { return new(big.Int).SetBit(big.NewInt(1), bits-1, 1) }

// TestParseAcceptsHarmlessVariants shows that the rows above are refused for their fault only.
func TestParseAcceptsHarmlessVariants(t *testing.T) {
	const ed = goodMembers
	for member, alg := range map[string]string{
		`{` + ed + `}`:                                EdDSA,
		`{"alg":"EdDSA","use":"sig",` + ed + `}`:      EdDSA,
		`{"alg":"Ed25519",` + ed + `}`:                EdDSA, // RFC 9864
		`{"key_ops":["verify"],` + ed + `}`:           EdDSA,
		`{"key_ops":["wrapKey","verify"],` + ed + `}`: EdDSA,
		`{"x5c":["AA"],"x5t":7,"x5u":null,"nested":{"d":1},"KID":"other","D":1,` + ed + `}`:     EdDSA,
		`{"\u006bid":"k",` + strings.Replace(ed, `"kid":"k",`, "", 1) + `}`:                     EdDSA,
		rsaMember("AQAB", rsaModulus()):                                                         RS256,
		rsaMember("f____w", rsaModulus()):                                                       RS256, // 2^31-1
		rsaMember("AQAB", number(goodModuli(t)[2])):                                             RS256, // 3072 bits
		rsaMember("AQAB", number(goodModuli(t)[4])):                                             RS256, // 8192 bits
		strings.Replace(rsaMember("AQAB", rsaModulus()), `{`, `{"alg":"RS256","use":"sig",`, 1): RS256,
	} {
		if key := onlyKey(t, member); key.KID != "k" || key.Alg != alg {
			t.Errorf("%s: %v", member, key)
		}
	}
}

func TestParseSkipsBothKeysThatShareAKid(t *testing.T) {
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
		"half a pair":   `{"keys":[],"\ud800":1}`,
		"BOM":           "\xef\xbb\xbf{\"keys\":[]}",
		"over 256 KiB":  `{"keys":[]}` + strings.Repeat(" ", 256<<10),
		"nested deeply": strings.Repeat(`{"keys":`, 20000),
	} {
		if set, err := Parse([]byte(document)); err == nil {
			t.Errorf("%s: accepted as %s", name, set.JSON())
		}
	}
	// A fault in a member that is not read does no harm.
	for _, document := range []string{`{"keys":[],"x":{"a":1,"a":"\ud800"}}`, `{"keys":[],"x":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`} {
		if _, err := Parse([]byte(document)); err != nil || !referenceDocument([]byte(document)) {
			t.Errorf("%.40s: %v", document, err)
		}
	}
	if deep := `{"keys":[],"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`; referenceDocument([]byte(deep)) {
		t.Error("the reference nests deeper")
	} else if _, err := Parse([]byte(deep)); err == nil {
		t.Error("accepted deeper than the reference")
	}
	if set, err := Parse([]byte(`{"keys":[]}`)); err != nil || string(set.JSON()) != `{"keys":[]}` {
		t.Errorf("an empty set: %v", err)
	}
}

// TestASetWithoutES256HasTheBytesThatItAlwaysHad, so that no cache and no client sees a difference.
//
// R59.
func TestASetWithoutES256HasTheBytesThatItAlwaysHad(t *testing.T) {
	const want = `{"keys":[{"kty":"OKP","kid":"a","use":"sig","alg":"EdDSA","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},` +
		`{"kty":"RSA","kid":"b","use":"sig","alg":"RS256","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}]}`
	set := mustSet(t, onlyKey(t, rfc7515Key), onlyKey(t, rfc8037Key))
	if got := string(set.JSON()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
