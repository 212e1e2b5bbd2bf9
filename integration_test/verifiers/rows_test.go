package verifiers

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"keymill/integration_test/server"
	"keymill/jwks"
)

// A gap names rows of the matrix whose token a verifier accepts.
type gap []string

// The gaps of the verifiers.
var (
	ignoresType       = gap{"typ JWT", "no typ", "typ refresh+jwt"} // a token of another type is accepted (RFC 8725, section 3.11)
	acceptsNoExp      = gap{"no exp"}                               // such a token never expires
	acceptsExpired    = gap{"an hour ago", "two seconds ago"}
	forgivesSeconds   = gap{"two seconds ago"}
	acceptsNoAudience = gap{"no audience"} // although an audience is set
	ignoresNbf        = gap{"nbf in the future"}
	anyIssuer         = gap{"another issuer", "a longer issuer", "no issuer"}
	anyAudience       = gap{"another audience", "other audiences", "a longer audience", "no audience"}
	ignoresCrit       = gap{"crit"}                         // against RFC 7515, section 4.1.11
	takesAnyAlgorithm = gap{"the other algorithm"}          // if a key of the set has it
	ignoresAlg        = gap{"alg none with a signature"}    // the key decides the algorithm (RFC 7515, section 10.7)
	readsLoosely      = gap{"a claim twice", "spare bits"}  // the last claim wins; one token has several encodings
	takesSpareBits    = gap{"spare bits"}                   // one token has several encodings
	takesOneClaim     = gap{"a claim twice"}                // and ignores the other
	breaksOnOKP       = gap{"a key of the other algorithm"} // refused, but with 500
	takesJSON         = gap{"as JSON"}                      // which a JWT must not be
	keepsRevokedKey   = gap{"a revoked key"}                // past max-age
	takesPadding      = gap{"both halves a zero longer"}    // one token of ES256 has several encodings, against RFC 7518, section 3.4
	takesLength       = gap{"a signature of 65 bytes"}      // the same
	slowToNewKeys     = gap{"a key that it does not know"}  // it fetches the set at intervals only
)

// A row is a token that every verifier must refuse. why is the error of package jwks, which must
// find this fault and no other.
type row struct {
	column, name string
	why          error
	token        func(m mint) string
}

// columns are the columns of the summary, in its order.
var columns = []string{"valid", "expired", "aud", "iss", "tampered", "none", "HS256", "typ", "exp",
	"nbf", "alg", "crit", "strict", "new", "revoked"}

var rows = []row{
	{"expired", "an hour ago", jwks.ErrExpired, func(m mint) string { return m.claim(object{"exp": in(-time.Hour), "iat": in(-2 * time.Hour)}) }},
	{"expired", "two seconds ago", jwks.ErrExpired, func(m mint) string { return m.claim(object{"exp": in(-2 * time.Second), "iat": in(-time.Minute)}) }},
	{"exp", "no exp", jwks.ErrClaims, func(m mint) string { return m.claim(object{"exp": nil}) }},
	{"nbf", "nbf in the future", jwks.ErrNotYet, func(m mint) string { return m.claim(object{"nbf": in(time.Hour), "exp": in(2 * time.Hour)}) }},

	{"aud", "another audience", jwks.ErrAudience, func(m mint) string { return m.claim(object{"aud": "elsewhere"}) }},
	{"aud", "other audiences", jwks.ErrAudience, func(m mint) string { return m.claim(object{"aud": []string{"elsewhere", "nowhere"}}) }},
	{"aud", "a longer audience", jwks.ErrAudience, func(m mint) string { return m.claim(object{"aud": fmt.Sprint(m.claims["aud"], "s")}) }},
	{"aud", "no audience", jwks.ErrAudience, func(m mint) string { return m.claim(object{"aud": nil}) }},
	{"iss", "another issuer", jwks.ErrIssuer, func(m mint) string { return m.claim(object{"iss": "http://127.0.0.1:1"}) }},
	{"iss", "a longer issuer", jwks.ErrIssuer, func(m mint) string { return m.claim(object{"iss": fmt.Sprint(m.claims["iss"], "/")}) }},
	{"iss", "no issuer", jwks.ErrIssuer, func(m mint) string { return m.claim(object{"iss": nil}) }},

	{"tampered", "another header", jwks.ErrSignature, func(m mint) string { return m.swap(0, m.header.and(object{"x": 1}).String()) }},
	{"tampered", "other claims", jwks.ErrSignature, func(m mint) string { return m.swap(1, m.claims.and(object{"sub": "root"}).String()) }},
	{"tampered", "another signature", jwks.ErrSignature, mint.flip},
	{"tampered", "no signature", jwks.ErrSignature, func(m mint) string { return m.swap(2, "") }},
	{"none", "none", jwks.ErrAlgorithm, func(m mint) string { return m.unsigned(object{"alg": "none"}) }},
	{"none", "none without kid", jwks.ErrAlgorithm, func(m mint) string { return m.unsigned(object{"alg": "none", "kid": nil}) }},
	{"none", "nOnE", jwks.ErrAlgorithm, func(m mint) string { return m.unsigned(object{"alg": "nOnE"}) }},
	{"HS256", "HS256 with the PEM", jwks.ErrAlgorithm, func(m mint) string { return m.hmac("PEM") }},
	{"HS256", "HS256 with the JWK", jwks.ErrAlgorithm, func(m mint) string { return m.hmac("JWK") }},
	{"HS256", "HS256 with the bytes", jwks.ErrAlgorithm, func(m mint) string { return m.hmac("bytes") }},
	{"alg", "alg none with a signature", jwks.ErrAlgorithm, func(m mint) string { return m.head(object{"alg": "none"}) }},
	{"alg", "the other algorithm", jwks.ErrAlgorithm, func(m mint) string { return m.by(m.other) }},

	{"alg", "a key of the other algorithm", jwks.ErrAlgorithm, func(m mint) string { return m.head(object{"kid": m.other.kid}) }},

	{"typ", "typ JWT", jwks.ErrType, func(m mint) string { return m.head(object{"typ": "JWT"}) }},
	{"typ", "no typ", jwks.ErrType, func(m mint) string { return m.head(object{"typ": nil}) }},
	{"typ", "typ refresh+jwt", jwks.ErrType, func(m mint) string { return m.head(object{"typ": "refresh+jwt"}) }},
	{"crit", "crit", jwks.ErrHeader, func(m mint) string { return m.head(object{"crit": []string{"tenant"}, "tenant": "a"}) }},
	{"strict", "a claim twice", jwks.ErrClaims, func(m mint) string { return m.twice("aud", "elsewhere") }},
	{"strict", "as JSON", jwks.ErrMalformed, mint.asJSON},
	{"strict", "spare bits", jwks.ErrMalformed, mint.respell},
}

// rowsOfES256 are signatures that are not 64 bytes.
var rowsOfES256 = []row{
	{"tampered", "a signature in DER", jwks.ErrSignature, func(m mint) string { return m.resign(toDER) }},
	{"tampered", "a signature of 65 bytes", jwks.ErrSignature, func(m mint) string {
		return m.resign(func(b []byte) []byte { return append(b, 0) })
	}},
	{"tampered", "both halves a zero longer", jwks.ErrSignature, func(m mint) string {
		return m.resign(func(b []byte) []byte { return slices.Concat([]byte{0}, b[:32], []byte{0}, b[32:]) })
	}},
	{"tampered", "r and s are zero", jwks.ErrSignature, func(m mint) string {
		return m.resign(func(b []byte) []byte { return make([]byte, 64) })
	}},
}

// rowsOf returns the rows for tokens of an algorithm.
func rowsOf(alg string) []row {
	if alg == "ES256" {
		return slices.Concat(rows, rowsOfES256)
	}
	return rows
}

// checkRows checks that each row's token has its fault and no other. Every verifier would refuse a
// token with another fault, so the row would test nothing.
func (m mint) checkRows(t *testing.T, srv *server.Server) {
	set, err := jwks.Fetch(t.Context(), nil, srv.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	want := jwks.Expectation{Issuer: srv.Issuer, Audience: audienceOf(m.key.alg), Algorithms: []string{m.key.alg}}
	for _, good := range []string{m.genuine, m.claim(nil), m.head(nil)} {
		if _, err := jwks.Check(good, set, want, time.Now()); err != nil {
			t.Errorf("a valid token: %v", err)
		}
	}
	for _, r := range rowsOf(m.key.alg) {
		if _, err := jwks.Check(r.token(m), set, want, time.Now()); !errors.Is(err, r.why) {
			t.Errorf("%s: %v, want %v", r.name, err, r.why)
		}
	}
}
