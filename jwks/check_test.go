package jwks

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

var now = time.Unix(1_800_000_000, 0)

func wanted() Expectation {
	return Expectation{Issuer: "https://id.example", Audience: "orders", Algorithms: Algorithms()}
}

// payload returns a valid payload. Pairs of name and value replace claims; "" removes one.
func payload(pairs ...string) string {
	claims := [][2]string{
		{"iss", `"https://id.example"`}, {"aud", `"orders"`}, {"sub", `"alice"`}, {"client_id", `"web"`},
		{"exp", "1800000060"}, {"iat", "1799999995"}, {"jti", `"j1"`}, {"scope", `"read write"`}, {"sid", `"f1"`},
	}
	for i := 0; i < len(pairs); i += 2 {
		claims = append(claims, [2]string{pairs[i], pairs[i+1]})
	}
	last := map[string]string{}
	for _, c := range claims {
		last[c[0]] = c[1]
	}
	var out []string
	for _, c := range claims {
		if value := last[c[0]]; value != "" {
			out = append(out, fmt.Sprintf("%q:%s", c[0], value))
			last[c[0]] = ""
		}
	}
	return "{" + strings.Join(out, ",") + "}"
}

func refused(t *testing.T, name, token string, want error) {
	t.Helper()
	claims, err := Check(token, mustSet(t, edKey("ed"), rsaKey("rsa"), ecKey("ec")), wanted(), now)
	if !errors.Is(err, want) || claims != nil {
		t.Errorf("%s: %v, %v; want %v", name, claims, err, want)
	}
	if err != nil && token != "" && strings.Contains(err.Error(), token) {
		t.Errorf("%s: the error contains the token", name)
	}
}

func TestCheckReturnsTheClaims(t *testing.T) {
	set := mustSet(t, edKey("ed"), rsaKey("rsa"), ecKey("ec"))
	for _, header := range []string{edHeader(""), ecHeader, `{"alg":"RS256","kid":"rsa","typ":"application/AT+JWT"}`} {
		c, err := Check(sign(header, payload("user_id", "7")), set, wanted(), now)
		if err != nil {
			t.Fatal(err)
		}
		if c.Issuer != "https://id.example" || c.Subject != "alice" || c.ClientID != "web" || c.ID != "j1" ||
			c.Scope != "read write" || c.SessionID != "f1" || len(c.Audience) != 1 || c.Audience[0] != "orders" ||
			!c.Expires.Equal(now.Add(time.Minute)) || !c.IssuedAt.Equal(now.Add(-5*time.Second)) || !c.NotBefore.IsZero() ||
			c.KID == "" || c.Alg == "" || !strings.Contains(string(c.Raw), `"user_id":7`) {
			t.Errorf("claims = %+v", c)
		}
	}
}

// R52.
func TestBothNamesOfEd25519AreTheKeysAlgorithm(t *testing.T) {
	set := mustSet(t, edKey("ed"))
	token := sign(`{"alg":"Ed25519","kid":"ed","typ":"at+jwt"}`, payload())
	if _, err := Check(token, set, wanted(), now); err != nil {
		t.Error(err)
	}
	refused(t, "Ed448", sign(`{"alg":"Ed448","kid":"ed","typ":"at+jwt"}`, payload()), ErrAlgorithm)
}

// R85.
func TestAnEmptyExpectationIsAnErrorAndNotASkippedCheck(t *testing.T) {
	set, token := mustSet(t, edKey("ed")), sign(edHeader(""), payload())
	for name, spoil := range map[string]func(*Expectation){
		"issuer":            func(w *Expectation) { w.Issuer = "" },
		"audience":          func(w *Expectation) { w.Audience = "" },
		"algorithms":        func(w *Expectation) { w.Algorithms = nil },
		"unknown algorithm": func(w *Expectation) { w.Algorithms = []string{EdDSA, "none"} },
		"leeway":            func(w *Expectation) { w.Leeway = time.Minute + 1 },
		"negative leeway":   func(w *Expectation) { w.Leeway = -1 },
	} {
		want := wanted()
		spoil(&want)
		if c, err := Check(token, set, want, now); !errors.Is(err, ErrConfig) || c != nil {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	if _, err := Check(token, nil, wanted(), now); !errors.Is(err, ErrConfig) {
		t.Errorf("no set: %v", err)
	}
}

// R86.
func TestOnlyTheCanonicalCompactFormIsAccepted(t *testing.T) {
	good := sign(edHeader(""), payload())
	head, rest, _ := strings.Cut(good, ".")
	last := good[len(good)-1] // 64 octets leave 4 unused bits in the last character
	for name, token := range map[string]string{
		"empty":           "",
		"dots":            "..",
		"many dots":       strings.Repeat(".", 10_000),
		"one part":        head,
		"two parts":       good[:strings.LastIndexByte(good, '.')],
		"four parts":      good + ".AA",
		"JSON":            `{"payload":"","signatures":[]}`,
		"padding":         good + "==",
		"space":           " " + good,
		"line end":        good + "\n",
		"line inside":     head[:8] + "\r\n" + head[8:] + "." + rest,
		"base64, not url": strings.Replace(good, ".", "+.", 1),
		"slack bits":      good[:len(good)-1] + string(last+1),
		"header array":    sign(`[]`, payload()),
		"header twice":    sign(edHeader(`,"alg":"EdDSA"`), payload()),
		"nested twice":    sign(edHeader(`,"x":[{"a":1,"a":2}]`), payload()),
		"alg a number":    sign(`{"alg":7,"kid":"ed","typ":"at+jwt"}`, payload()),
		"kid null":        sign(`{"alg":"EdDSA","kid":null,"typ":"at+jwt"}`, payload()),
		"header deep":     sign(edHeader(`,"x":`+strings.Repeat("[", 17)+strings.Repeat("]", 17)), payload()),
		"over 16 KiB":     sign(edHeader(""), payload("x", `"`+strings.Repeat("x", 12<<10)+`"`)),
	} {
		refused(t, name, token, ErrMalformed)
	}
}

// R87.
func TestTheAlgorithmMustBeAllowedAndTheKeys(t *testing.T) {
	for _, alg := range []string{"none", "None", "HS256", "eddsa", "rs256", "RS512", "PS256", ""} {
		refused(t, alg, sign(fmt.Sprintf(`{"alg":%q,"kid":"ed","typ":"at+jwt"}`, alg), payload()), ErrAlgorithm)
	}
	refused(t, "none, unsigned", encode(`{"alg":"none","kid":"ed","typ":"at+jwt"}`)+"."+encode(payload())+".", ErrAlgorithm)
	refused(t, "alg missing", sign(`{"kid":"ed","typ":"at+jwt"}`, payload()), ErrAlgorithm)
	refused(t, "the other key's", sign(`{"alg":"RS256","kid":"ed","typ":"at+jwt"}`, payload()), ErrAlgorithm)
	refused(t, "the key of ES256", sign(`{"alg":"ES256","kid":"ed","typ":"at+jwt"}`, payload()), ErrAlgorithm)
	refused(t, "the key for ES256", sign(`{"alg":"EdDSA","kid":"ec","typ":"at+jwt"}`, payload()), ErrAlgorithm)
	refused(t, "and back", sign(`{"alg":"EdDSA","kid":"rsa","typ":"at+jwt"}`, payload()), ErrAlgorithm)

	want := wanted()
	want.Algorithms = []string{RS256}
	_, err := Check(sign(edHeader(""), payload()), mustSet(t, edKey("ed")), want, now)
	if !errors.Is(err, ErrAlgorithm) {
		t.Errorf("an algorithm that is not allowed: %v", err)
	}
}

func TestAnUnknownKeyIsNotAWrongSignature(t *testing.T) {
	refused(t, "kid", sign(`{"alg":"EdDSA","kid":"gone","typ":"at+jwt"}`, payload()), ErrUnknownKey)
	refused(t, "no kid", sign(`{"alg":"EdDSA","typ":"at+jwt"}`, payload()), ErrUnknownKey)
	good := sign(edHeader(""), payload())
	other := sign(edHeader(""), payload("sub", `"mallory"`))
	refused(t, "another's signature", good[:strings.LastIndexByte(good, '.')]+other[strings.LastIndexByte(other, '.'):], ErrSignature)
	refused(t, "no signature", good[:strings.LastIndexByte(good, '.')+1], ErrSignature)
	refused(t, "embedded key", sign(`{"alg":"EdDSA","kid":"x","typ":"at+jwt","jwk":`+rfc8037Key+`}`, payload()), ErrUnknownKey)
}

// R88.
func TestOnlyAccessTokensAreAccepted(t *testing.T) {
	for _, typ := range []string{`"JWT"`, `""`, `"refresh+jwt"`, `"at+jwt "`, `"application/jwt"`, `"id_token"`} {
		refused(t, typ, sign(`{"alg":"EdDSA","kid":"ed","typ":`+typ+`}`, payload()), ErrType)
	}
	refused(t, "no typ", sign(`{"alg":"EdDSA","kid":"ed"}`, payload()), ErrType)
}

// TestTheServiceSaysWhichTypeItExpects: a service whose audience has the type JWT accepts that type and no
// other, and while the type changes both. An ID token has the type JWT, but no client_id.
// R88.
func TestTheServiceSaysWhichTypeItExpects(t *testing.T) {
	set := mustSet(t, edKey("ed"), rsaKey("rsa"))
	at, jwt := TypeAccessToken, TypeJWT
	for _, tt := range []struct{ want, old, typ, found string }{
		{"", "", "at+jwt", at}, {"", "", "Application/At+JWT", at}, {"", "", "JWT", ""}, {at, "", "at+jwt", at}, {at, "", "JWT", ""},
		{jwt, "", "JWT", jwt}, {jwt, "", "jwt", jwt}, {jwt, "", "application/jwt", jwt}, {jwt, "", "APPLICATION/JWT", jwt},
		{jwt, "", "at+jwt", ""}, {jwt, "", "application/at+jwt", ""}, {jwt, "", "", ""}, {jwt, "", " JWT", ""}, {jwt, "", "JWT ", ""},
		{jwt, "", "application/application/JWT", ""}, {jwt, "", "text/JWT", ""}, {jwt, "", "+jwt", ""},
		{jwt, at, "JWT", jwt}, {jwt, at, "at+jwt", at}, {jwt, at, "refresh+jwt", ""}, {at, jwt, "JWT", jwt}, {"", jwt, "jwt", jwt}, {"", jwt, "", ""},
	} {
		want := wanted()
		want.Type, want.OldType = tt.want, tt.old
		token := sign(fmt.Sprintf(`{"alg":"EdDSA","kid":"ed","typ":%q}`, tt.typ), payload())
		c, err := Check(token, set, want, now)
		switch {
		case tt.found == "" && (!errors.Is(err, ErrType) || c != nil):
			t.Errorf("type %q, old type %q: a token of type %q: %+v, %v", tt.want, tt.old, tt.typ, c, err)
		case tt.found != "" && (err != nil || c.Type != tt.found):
			t.Errorf("type %q, old type %q: a token of type %q: %+v, %v, want type %q", tt.want, tt.old, tt.typ, c, err, tt.found)
		}
		cfg := VerifierConfig{Issuer: want.Issuer, Audience: want.Audience, Algorithms: want.Algorithms, Type: tt.want, OldType: tt.old, Keys: set}
		v, err := NewVerifier(cfg)
		if err != nil {
			t.Fatal(err)
		}
		fresh := sign(fmt.Sprintf(`{"alg":"EdDSA","kid":"ed","typ":%q}`, tt.typ), freshPayload())
		if c, err := v.Verify(t.Context(), fresh); (err == nil) != (tt.found != "") || err == nil && c.Type != tt.found {
			t.Errorf("a Verifier of type %q, old type %q: a token of type %q: %+v, %v", tt.want, tt.old, tt.typ, c, err)
		}
	}
	want := wanted()
	want.Type = TypeJWT
	idToken := sign(`{"alg":"EdDSA","kid":"ed","typ":"JWT"}`, payload("client_id", "", "azp", `"web"`, "nonce", `"n"`))
	if _, err := Check(idToken, set, want, now); !errors.Is(err, ErrClaims) {
		t.Errorf("an ID token: %v, want %v", err, ErrClaims)
	}
	want.OldType = TypeAccessToken
	var failure *Failure
	if _, err := Check(sign(`{"alg":"EdDSA","kid":"ed"}`, payload()), set, want, now); !errors.As(err, &failure) || failure.Expected != "JWT or at+jwt" {
		t.Errorf("no typ: %v", err)
	}
}

// TestOnlyTheTwoTypesCanBeExpected: a mistyped type would refuse every token.
func TestOnlyTheTwoTypesCanBeExpected(t *testing.T) {
	for _, typ := range []string{"jwt", "at+JWT", "AT+JWT", "application/at+jwt", "ID", " ", "JWT ", strings.Repeat("J", 10_000)} {
		for _, change := range []func(*Expectation){func(w *Expectation) { w.Type = typ }, func(w *Expectation) { w.OldType = typ }} {
			want := wanted()
			change(&want)
			_, err := Check(sign(edHeader(""), payload()), mustSet(t, edKey("ed")), want, now)
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "is neither at+jwt nor JWT") || len(err.Error()) > 300 {
				t.Errorf("type %.20q: %.400v", typ, err)
			}
		}
	}
}

// R89.
func TestATokenIsValidFromNbfAndIatUntilExp(t *testing.T) {
	for name, value := range map[string]string{
		"missing": "", "null": "null", "text": `"1800000060"`, "huge": "1e300", "infinite": "1e400",
		"negative": "-1", "array": "[1800000060]", "true": "true", "year 10000": "253402300800",
	} {
		refused(t, "exp "+name, sign(edHeader(""), payload("exp", value)), ErrClaims)
	}
	for name, pairs := range map[string][]string{"iat": {"iat", `"1"`}, "nbf": {"nbf", "null"}} {
		refused(t, name, sign(edHeader(""), payload(pairs...)), ErrClaims)
	}
	for _, tt := range []struct {
		claim  string
		value  string
		leeway time.Duration
		want   error
	}{
		{"exp", "1800000001", 0, nil},
		{"exp", "1800000000.5", 0, nil},
		{"exp", "1800000000", 0, ErrExpired}, // at exp itself the token is expired
		{"exp", "1799999990", 10 * time.Second, ErrExpired},
		{"exp", "1799999991", 10 * time.Second, nil},
		{"nbf", "1800000000", 0, nil},
		{"nbf", "1800000001", 0, ErrNotYet},
		{"nbf", "1800000010", 10 * time.Second, nil},
		{"iat", "1800000001", 0, ErrNotYet},
		{"iat", "1800000010", 10 * time.Second, nil},
		{"iat", "1800000011", 10 * time.Second, ErrNotYet},
		{"iat", "", 0, nil},
	} {
		want := wanted()
		want.Leeway = tt.leeway
		_, err := Check(sign(edHeader(""), payload(tt.claim, tt.value)), mustSet(t, edKey("ed")), want, now)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s %s, leeway %v: %v, want %v", tt.claim, tt.value, tt.leeway, err, tt.want)
		}
	}
}

// R90.
func TestIssuerAndAudienceMatchExactly(t *testing.T) {
	for _, iss := range []string{`"https://id.example/"`, `"https://id.exampl"`, `"HTTPS://id.example"`, `""`, ""} {
		refused(t, "iss "+iss, sign(edHeader(""), payload("iss", iss)), ErrIssuer)
	}
	for _, aud := range []string{`"order"`, `"orders2"`, `"Orders"`, `["billing"]`, `[]`, `""`, ""} {
		refused(t, "aud "+aud, sign(edHeader(""), payload("aud", aud)), ErrAudience)
	}
	for _, aud := range []string{`7`, `null`, `{"orders":1}`, `["orders",7]`, `["orders",null]`} {
		refused(t, "aud "+aud, sign(edHeader(""), payload("aud", aud)), ErrClaims)
	}
	token := sign(edHeader(""), payload("aud", `["billing","orders"]`))
	if _, err := Check(token, mustSet(t, edKey("ed")), wanted(), now); err != nil {
		t.Error(err)
	}
}

// R91.
func TestHeadersThatChangeTheMeaningAreRefused(t *testing.T) {
	for _, more := range []string{
		`"crit":[]`, `"crit":null`, `"crit":["b64"],"b64":false`, `"b64":true`, `"zip":"DEF"`,
		`"enc":"A256GCM"`, `"cty":"JWT"`, `"cty":"application/jwt"`,
	} {
		refused(t, more, sign(edHeader(","+more), payload()), ErrHeader)
	}
}

// R92.
func TestEncryptedTokensAreRefused(t *testing.T) {
	token := sign(edHeader(""), payload()) + ".AA.AA"
	refused(t, "JWE", token, ErrMalformed)
	if _, err := Check(token, mustSet(t, edKey("ed")), wanted(), now); !strings.Contains(err.Error(), "encrypted") {
		t.Errorf("the error is %q", err)
	}
}

// R94.
func TestSubjectAndClientAreRequired(t *testing.T) {
	for _, claim := range []string{"sub", "client_id"} {
		for _, value := range []string{"", `""`, "7", "null"} {
			refused(t, claim+" "+value, sign(edHeader(""), payload(claim, value)), ErrClaims)
		}
	}
	c := &Claims{Scope: "read orders:write"}
	for scope, want := range map[string]bool{"read": true, "orders:write": true, "write": false, "rea": false, "": false, "read orders:write": false} {
		if c.HasScope(scope) != want {
			t.Errorf("HasScope(%q) = %v", scope, !want)
		}
	}
}

func TestPayloadsThatTwoReadersSeeDifferentlyAreRefused(t *testing.T) {
	good := payload()
	for name, p := range map[string]string{
		"claim twice":  `{"sub":"mallory",` + good[1:],
		"nested twice": payload("cnf", `{"jkt":"a","jkt":"b"}`),
		"escaped name": `{"\u0073ub":"mallory",` + good[1:],
		"not UTF-8":    payload("x", "\"\xff\""),
		"trailing":     good + "{}",
		"array":        `[` + good + `]`,
		"empty":        ``,
		"deep":         payload("x", strings.Repeat("[", 9000)+strings.Repeat("]", 9000)),
	} {
		want := ErrClaims
		if len(p) > 12<<10 {
			want = ErrMalformed
		}
		refused(t, name, sign(edHeader(""), p), want)
	}
	refused(t, "ISS for iss", sign(edHeader(""), payload("iss", "", "ISS", `"https://id.example"`)), ErrIssuer)
}
