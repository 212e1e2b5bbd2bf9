package jwks

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

// TestErrorsContainNoTokenAndNoLineOfAnAttacker: text of the token is quoted and cut.
//
// R95.
func TestErrorsContainNoTokenAndNoLineOfAnAttacker(t *testing.T) {
	v := newVerifier(t, mustSet(t, edKey("ed")), 0)
	long := strings.Repeat("x", 5000)
	for name, token := range map[string]string{
		"kid":    sign(`{"alg":"EdDSA","typ":"at+jwt","kid":"a\nlevel=INFO\u001b[2J"}`, livePayload()),
		"alg":    sign(`{"alg":"\n`+long+`","typ":"at+jwt","kid":"ed"}`, livePayload()),
		"typ":    sign(`{"alg":"EdDSA","typ":"\n`+long+`","kid":"ed"}`, livePayload()),
		"name":   sign(edHeader(`,"\n`+long+`":1,"\n`+long+`":2`), livePayload()),
		"iss":    sign(edHeader(""), livePayload("iss", `"\n`+long+`"`)),
		"aud":    sign(edHeader(""), livePayload("aud", `["\n`+long+`","\u0000"]`)),
		"claims": sign(edHeader(""), livePayload("\n"+long, `1`, `x`, "{\"\\n"+long+"\":1,\"\\n"+long+"\":2}")),
	} {
		_, err := v.Verify(t.Context(), token)
		if err == nil {
			t.Fatalf("%s: accepted", name)
		}
		if text := err.Error(); len(text) > 300 || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("%s: %d bytes, %q", name, len(text), text)
		}
		holdsNothingOf(t, token, err)
	}
}

// A change makes one fault in a valid token. With another header or payload the token is signed
// again, by the key that it names. The function token keeps the signature.
type change struct {
	rule    string
	header  string              // in place of the header
	payload string              // in place of the payload
	token   func(string) string // changes the signed token
	want    error
	word    string // in the reason
}

// TestOneFaultIsEnoughToRefuseAToken: each row differs from a valid token in one thing, and is refused for
// that.
//
// R86, R87, R88, R89, R90, R91, R92, R93, R94.
func TestOneFaultIsEnoughToRefuseAToken(t *testing.T) {
	good := sign(edHeader(""), livePayload())
	set := mustSet(t, edKey("ed"), rsaKey("rsa"))
	for name, v := range map[string]*Verifier{"plain": newVerifier(t, set, 0), "caching": newVerifier(t, set, 10)} {
		for _, row := range changes() {
			t.Run(name+"/"+row.rule, func(t *testing.T) {
				if _, err := v.Verify(t.Context(), good); err != nil {
					t.Fatalf("without the change: %v", err)
				}
				token := row.apply(good)
				if token == good {
					t.Fatal("the row changes nothing")
				}
				claims, err := v.Verify(t.Context(), token)
				if claims != nil || !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.word) {
					t.Fatalf("%v, %v; want %v and %q", claims, err, row.want, row.word)
				}
				oneSentinel(t, err)
				holdsNothingOf(t, token, err)
			})
		}
	}
}

func (c change) apply(good string) string {
	switch {
	case c.token != nil:
		return c.token(good)
	case c.header != "":
		return sign(c.header, livePayload())
	}
	return sign(edHeader(""), c.payload)
}

// holdsNothingOf fails if the error contains the token or any third of its signature.
func holdsNothingOf(t *testing.T, token string, err error) {
	t.Helper()
	_, signature, _ := cutLast(token)
	text := err.Error()
	if f := (*Failure)(nil); errors.As(err, &f) {
		text += f.Expected + f.Found
	}
	if token != "" && strings.Contains(text, token) {
		t.Error("the error contains the token")
	}
	if third := len(signature) / 3; third > 0 {
		for i := range len(signature) - third {
			if strings.Contains(text, signature[i:i+third]) {
				t.Fatalf("the error contains a third of the signature: %v", err)
			}
		}
	}
}

func changes() []change {
	var all []change
	for _, more := range [][]change{formChanges(), headerChanges(), claimChanges(), timeChanges()} {
		all = append(all, more...)
	}
	return all
}

func formChanges() []change {
	form := func(rule, word string, f func(string) string) change {
		return change{rule: rule, token: f, want: ErrMalformed, word: word}
	}
	after := func(s string) func(string) string { return func(t string) string { return t + s } }
	before := func(s string) func(string) string { return func(t string) string { return s + t } }
	inPayload := func(s string) func(string) string {
		return func(t string) string { i := strings.IndexByte(t, '.'); return t[:i+9] + s + t[i+9:] }
	}
	slack := func(t string) string { return t[:len(t)-1] + string(t[len(t)-1]+1) }
	return []change{
		form("R86 nothing", "3 parts, not 1", func(string) string { return "" }),
		form("R86 no signature part", "3 parts, not 2", func(t string) string { s, _, _ := cutLast(t); return s }),
		form("R86 fourth part", "3 parts, not 4", after(".AA")),
		form("R86 JSON", "parts", func(t string) string {
			signed, signature, _ := cutLast(t)
			first, payload, _ := strings.Cut(signed, ".")
			return `{"payload":"` + payload + `","protected":"` + first + `","signature":"` + signature + `"}`
		}),
		form("R86 padding", "not base64url", after("==")),
		form("R86 line end", "not base64url", after("\n")),
		form("R86 carriage return", "not base64url", after("\r")),
		form("R86 line break in the payload", "not base64url", inPayload("\r\n")),
		form("R86 space", "not base64url", before(" ")),
		form("R86 BOM", "not base64url", before("\xef\xbb\xbf")),
		form("R86 NUL", "not base64url", after("\x00")),
		form("R86 other alphabet", "not base64url", inPayload("+/")),
		form("R86 slack bits", "not canonical", slack),
		form("R86 half an octet", "not canonical", func(t string) string { return t[:len(t)-1] }),
		form("R86 over 16 KiB", "the limit is 16384", after(strings.Repeat("A", maxTokenBytes))),
		form("R92 encrypted", "encrypted", after(".AA.AA")),
		{rule: "signature of another token", want: ErrSignature, word: `key "ed"`, token: func(t string) string {
			signed, _, _ := cutLast(t)
			_, other, _ := cutLast(sign(edHeader(""), livePayload("sub", `"mallory"`)))
			return signed + "." + other
		}},
		{rule: "signature too long", want: ErrSignature, word: `key "ed"`, token: after("A")},
		{rule: "signature empty", want: ErrSignature, word: `key "ed"`, token: func(t string) string {
			signed, _, _ := cutLast(t)
			return signed + "."
		}},
		{rule: "another key's signature", want: ErrSignature, word: `key "ed"`, token: func(t string) string {
			signed, _, _ := cutLast(t)
			return signed + "." + encode(string(ed25519.Sign(attackersKey(), []byte(signed))))
		}},
		{rule: "payload altered", want: ErrSignature, word: `key "ed"`, token: func(t string) string {
			first, rest, _ := strings.Cut(t, ".")
			_, signature, _ := strings.Cut(rest, ".")
			return first + "." + encode(livePayload("sub", `"root"`)) + "." + signature
		}},
	}
}

func attackersKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", ed25519.SeedSize)))
}

func headerChanges() []change {
	header := func(rule, header string, want error, word string) change {
		return change{rule: rule, header: header, want: want, word: word}
	}
	alg := func(name string) string { return fmt.Sprintf(`{"alg":%q,"kid":"ed","typ":"at+jwt"}`, name) }
	typ := func(value string) string { return `{"alg":"EdDSA","kid":"ed","typ":` + value + `}` }
	all := []change{
		header("R86 header twice", edHeader(`,"alg":"EdDSA"`), ErrMalformed, "twice"),
		header("R86 header twice, escaped", edHeader(`,"\u0061lg":"none"`), ErrMalformed, "twice"),
		header("R86 header twice below", edHeader(`,"jwk":{"kty":1,"kty":2}`), ErrMalformed, "twice"),
		header("R86 header array", `[]`, ErrMalformed, "not a JSON object"),
		header("R86 header BOM", "\xef\xbb\xbf"+edHeader(""), ErrMalformed, "not a JSON object"),
		header("R86 header not UTF-8", edHeader(",\"x\":\"\xff\""), ErrMalformed, "not JSON"),
		header("R86 header half a pair", edHeader(`,"x":"\ud800"`), ErrMalformed, "surrogate"),
		header("R86 header trailing", edHeader("")+"x", ErrMalformed, "not JSON"),
		header("R86 header deep", edHeader(`,"x":`+strings.Repeat("[", 16)+strings.Repeat("]", 16)), ErrMalformed, "deeper than 16"),
		header("R86 header of many members", edHeader(","+manyMembers(62)[1:len(manyMembers(62))-1]), ErrMalformed, "over 64 members"),
		header("R86 header of many below", edHeader(`,"x":`+manyMembers(61)), ErrMalformed, "over 64 members"),
		header("R87 alg missing", `{"kid":"ed","typ":"at+jwt"}`, ErrAlgorithm, `""`),
		header("R87 alg a number", `{"alg":7,"kid":"ed","typ":"at+jwt"}`, ErrMalformed, "alg is not a string"),
		header("R87 alg a list", `{"alg":["EdDSA"],"kid":"ed","typ":"at+jwt"}`, ErrMalformed, "alg is not a string"),
		header("R87 alg of the other key", alg(RS256), ErrAlgorithm, "is for EdDSA"),
		header("R87 and back", `{"alg":"EdDSA","kid":"rsa","typ":"at+jwt"}`, ErrAlgorithm, "is for RS256"),
		header("R88 typ missing", `{"alg":"EdDSA","kid":"ed"}`, ErrType, "not at+jwt"),
		header("R91 cty", edHeader(`,"cty":"JWT"`), ErrHeader, "inside"),
		header("R91 cty, long", edHeader(`,"cty":"application/jwt"`), ErrHeader, "inside"),
		header("R93 no kid", `{"alg":"EdDSA","typ":"at+jwt"}`, ErrUnknownKey, "no kid"),
		header("R93 unknown kid", `{"alg":"EdDSA","kid":"gone","typ":"at+jwt"}`, ErrUnknownKey, `"gone"`),
		header("R93 kid of other case", `{"alg":"EdDSA","kid":"ED","typ":"at+jwt"}`, ErrUnknownKey, `"ED"`),
		header("R93 kid a path", `{"alg":"EdDSA","kid":"../ed","typ":"at+jwt"}`, ErrUnknownKey, `"../ed"`),
		header("R93 kid null", `{"alg":"EdDSA","kid":null,"typ":"at+jwt"}`, ErrMalformed, "kid is not a string"),
		header("R93 long kid", `{"alg":"EdDSA","kid":"`+strings.Repeat("k", 257)+`","typ":"at+jwt"}`, ErrMalformed, "257 bytes"),
		header("R93 kid with its own key", `{"alg":"EdDSA","kid":"x","typ":"at+jwt","jwk":`+rfc8037Key+`}`, ErrUnknownKey, `"x"`),
	}
	for _, name := range []string{"none", "None", "HS256", "eddsa", "EDDSA", "ed25519", "ED25519", "Ed448", "rs256", "RS384", "PS256", "ES384", "es256", "RS256 "} {
		all = append(all, header("R87 alg "+name, alg(name), ErrAlgorithm, fmt.Sprintf("%q, allowed", name)))
	}
	for _, value := range []string{`"JWT"`, `""`, `"refresh+jwt"`, `"at+jwt "`, `"application/jwt"`, `"id_token"`, `"application/application/at+jwt"`, `"at+jwt; v=1"`, `"text/at+jwt"`} {
		all = append(all, header("R88 typ "+value, typ(value), ErrType, value))
	}
	all = append(all, header("R88 typ null", typ("null"), ErrMalformed, "typ is not a string"))
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		for _, value := range []string{`null`, `[]`, `["b64"]`, `false`, `"DEF"`} {
			all = append(all, header("R91 "+name+" "+value, edHeader(`,"`+name+`":`+value), ErrHeader, name))
		}
	}
	return all
}

func claimChanges() []change {
	claim := func(name, value string, want error, word string) change {
		return change{rule: name + " " + value, payload: livePayload(name, value), want: want, word: word}
	}
	whole := func(rule, payload, word string) change {
		return change{rule: "R86 payload " + rule, payload: payload, want: ErrClaims, word: word}
	}
	good := livePayload()
	all := []change{
		whole("nothing", " ", "not a JSON object"),
		whole("array", "["+good+"]", "not a JSON object"),
		whole("BOM", "\xef\xbb\xbf"+good, "not a JSON object"),
		whole("trailing", good+"{}", "not JSON"),
		whole("trailing NUL", good+"\x00", "not JSON"),
		whole("not UTF-8", livePayload("x", "\"\xff\""), "not JSON"),
		whole("NUL", livePayload("x", "\"\x00\""), "not JSON"),
		whole("half a pair", livePayload("x", `"\ud800"`), "surrogate"),
		whole("deep", livePayload("x", strings.Repeat("[", 16)+strings.Repeat("]", 16)), "deeper"),
		whole("twice", `{"sub":"mallory",`+good[1:], `"sub" occurs twice`),
		whole("twice, escaped", `{"\u0073ub":"mallory",`+good[1:], `"sub" occurs twice`),
		whole("twice below", livePayload("cnf", `{"jkt":"a","jkt":"b"}`), `"jkt" occurs twice`),
		{rule: "R90 ISS for iss", payload: livePayload("iss", "", "ISS", `"https://id.example"`), want: ErrIssuer, word: `""`},
		{rule: "R90 ISS beside iss", payload: livePayload("iss", `"https://evil.example"`, "ISS", `"https://id.example"`), want: ErrIssuer, word: "evil"},
	}
	for _, value := range []string{`"https://id.example/"`, `"https://id.exampl"`, `"https://id.example.evil"`, `"HTTPS://id.example"`, `"https://other.example"`, `""`, ""} {
		all = append(all, claim("iss", value, ErrIssuer, "wrong issuer"))
	}
	for _, value := range []string{`7`, `null`, `["https://id.example"]`, `{"a":1}`} {
		all = append(all, claim("iss", value, ErrClaims, "iss is not a string"))
	}
	for _, value := range []string{`"order"`, `"orders2"`, `"Orders"`, `"orders billing"`, `" orders"`, `["billing"]`, `["order","s"]`, `[]`, `""`, ""} {
		all = append(all, claim("aud", value, ErrAudience, `not "orders"`))
	}
	for _, value := range []string{`7`, `null`, `true`, `{"orders":1}`, `["orders",7]`, `["orders",null]`, `[["orders"]]`} {
		all = append(all, claim("aud", value, ErrClaims, "aud is"))
	}
	for _, name := range []string{"sub", "client_id"} {
		all = append(all, claim(name, `""`, ErrClaims, name+" is missing or empty"), claim(name, ``, ErrClaims, name+" is missing or empty"))
		for _, value := range []string{`7`, `null`, `["a"]`} {
			all = append(all, claim(name, value, ErrClaims, name+" is not a string"))
		}
	}
	for _, name := range []string{"scope", "jti", "sid"} {
		all = append(all, claim(name, `["read"]`, ErrClaims, name+" is not a string"))
	}
	for i := range all {
		all[i].rule = prefixed(all[i].rule)
	}
	return all
}

// prefixed puts the number of the rule before the name of a claim.
func prefixed(row string) string {
	name, _, _ := strings.Cut(row, " ")
	switch name {
	case "iss", "aud":
		return "R90 " + row
	case "sub", "client_id", "scope", "jti", "sid":
		return "R94 " + row
	}
	return row
}

func timeChanges() []change {
	var all []change
	add := func(name, value string, want error, word string) {
		all = append(all, change{rule: "R89 " + name + " " + value, payload: livePayload(name, value), want: want, word: word})
	}
	add("exp", "", ErrClaims, "exp is missing")
	for _, name := range []string{"exp", "nbf", "iat"} {
		for _, value := range []string{
			`"4102444800"`, "null", "1e400", "-1", "-0.5", "1e300", "253402300800", "[4102444800]", `{"n":1}`, "true",
		} {
			add(name, value, ErrClaims, name+" is not a time")
		}
	}
	for _, value := range []string{"NaN", "Infinity", "0x7fffffff", "04102444800", "+4102444800", "4102444800.", "4_102_444_800"} {
		add("exp", value, ErrClaims, "not JSON")
	}
	add("exp", "0", ErrExpired, "1970-01-01")
	add("exp", "1700000000.75", ErrExpired, "2023-11-14")
	add("nbf", "4102444799", ErrNotYet, "nbf is 2099-12-31")
	add("iat", "4102444799", ErrNotYet, "iat is 2099-12-31")
	return all
}

// TestNewVerifierRefusesAConfigThatSkipsACheck tries every setting that can be forgotten.
//
// R85.
func TestNewVerifierRefusesAConfigThatSkipsACheck(t *testing.T) {
	complete := VerifierConfig{
		Issuer: "https://id.example", Audience: "orders", Algorithms: []string{EdDSA}, Keys: mustSet(t, edKey("ed")),
	}
	if _, err := NewVerifier(complete); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		word  string
		spoil func(*VerifierConfig)
	}{
		{"no issuer", func(c *VerifierConfig) { c.Issuer = "" }},
		{"no audience", func(c *VerifierConfig) { c.Audience = "" }},
		{"no algorithm", func(c *VerifierConfig) { c.Algorithms = nil }},
		{"no algorithm", func(c *VerifierConfig) { c.Algorithms = []string{} }},
		{`""`, func(c *VerifierConfig) { c.Algorithms = []string{EdDSA, ""} }},
		{`"none"`, func(c *VerifierConfig) { c.Algorithms = []string{EdDSA, "none"} }},
		{`"HS256"`, func(c *VerifierConfig) { c.Algorithms = []string{"HS256"} }},
		{`"ed25519"`, func(c *VerifierConfig) { c.Algorithms = []string{"ed25519"} }},
		{"leeway", func(c *VerifierConfig) { c.Leeway = -1 }},
		{"leeway", func(c *VerifierConfig) { c.Leeway = maxLeeway + 1 }},
		{"no keys", func(c *VerifierConfig) { c.Keys = nil }},
		{"no key set", func(c *VerifierConfig) { c.Keys = (*Set)(nil) }},
		{"-1", func(c *VerifierConfig) { c.Cache = -1 }},
	} {
		c := complete
		tt.spoil(&c)
		v, err := NewVerifier(c)
		if v != nil || !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tt.word) {
			t.Errorf("%s: %v, %v", tt.word, v, err)
		}
		if err != nil {
			oneSentinel(t, err)
		}
	}
}

// R85.
func TestAVerifierDoesNotChangeWithItsConfiguration(t *testing.T) {
	algorithms := []string{EdDSA}
	v, err := NewVerifier(VerifierConfig{Issuer: "https://id.example", Audience: "orders", Algorithms: algorithms, Keys: mustSet(t, rsaKey("rsa"))})
	if err != nil {
		t.Fatal(err)
	}
	algorithms[0] = RS256
	if _, err := v.Verify(t.Context(), sign(rsaHeader, livePayload())); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("an algorithm that was added later: %v", err)
	}
	if v.Issuer() != "https://id.example" || v.Audience() != "orders" {
		t.Errorf("%q, %q", v.Issuer(), v.Audience())
	}
}

// R52.
func TestServicesMayNameEd25519EitherWay(t *testing.T) {
	set := mustSet(t, edKey("ed"))
	for _, allowed := range []string{"EdDSA", "Ed25519"} {
		v, err := NewVerifier(VerifierConfig{Issuer: "https://id.example", Audience: "orders", Algorithms: []string{allowed}, Keys: set})
		if err != nil {
			t.Fatal(err)
		}
		for _, named := range []string{"EdDSA", "Ed25519"} {
			c, err := v.Verify(t.Context(), sign(`{"alg":"`+named+`","kid":"ed","typ":"at+jwt"}`, livePayload()))
			if err != nil || c.Alg != EdDSA {
				t.Errorf("%s, where %s is allowed: %v, %v", named, allowed, c, err)
			}
		}
	}
}

// R94.
func TestScopesAreComparedWhole(t *testing.T) {
	c := &Claims{Scope: "read orders:write  admin"}
	for _, tt := range []struct {
		asked   []string
		missing string // "" if all are granted
	}{
		{nil, ""},
		{[]string{"read"}, ""},
		{[]string{"orders:write", "read", "admin"}, ""},
		{[]string{"read", "write"}, `"write"`},
		{[]string{"rea"}, `"rea"`},
		{[]string{"reads"}, `"reads"`},
		{[]string{"READ"}, `"READ"`},
		{[]string{"orders"}, `"orders"`},
		{[]string{"read orders:write"}, `"read orders:write"`},
		{[]string{""}, `""`},
		{[]string{" "}, `" "`},
		{[]string{"read", "a", "b"}, `"a"`},
	} {
		err := c.Grants(tt.asked...)
		if (err == nil) != (tt.missing == "") || err != nil && (!errors.Is(err, ErrScope) || !strings.Contains(err.Error(), tt.missing)) {
			t.Errorf("%q: %v", tt.asked, err)
		}
	}
	for _, empty := range []*Claims{nil, {}} {
		if err := empty.Grants("read"); !errors.Is(err, ErrScope) {
			t.Errorf("%v grants read", empty)
		}
	}
	if err := (*Claims)(nil).Grants(); !errors.Is(err, ErrScope) {
		t.Error("missing claims grant a scope")
	}
}
