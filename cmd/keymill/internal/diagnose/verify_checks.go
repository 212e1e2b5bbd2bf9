package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

// How a check ended.
const (
	passed     = "ok"
	failed     = "FAILED"
	notReached = "not reached"
)

// A row is one line of the list of checks. Expected and found are the texts for a token
// that passes. A jwks.Failure replaces them.
type row struct {
	name            string
	step            jwks.Step // tells whether the check was reached and passed
	also            jwks.Step // another step whose failure this row shows; 0 if there is none
	expected, found string
	result          string
}

// rows lists the checks in the order of jwks.Check. Two rows stand for two steps each: alg is
// compared with the allowed algorithms and later with the key's, and the types of the claims
// are checked before the issuer and audience, but their presence after those.
func (c *TokenCheck) rows() []row {
	t := c.Token
	list := []row{
		{name: "form", step: jwks.StepForm, expected: "3 parts of base64url, at most 16384 bytes",
			found: terminal.Count(t.parts, "part") + ", " + terminal.Count(len(t.text), "byte")},
		{name: "header", step: jwks.StepHeader, expected: "no crit, b64, zip, enc; no token inside", found: "none of them"},
		{name: "algorithm", step: jwks.StepAlgorithm, also: jwks.StepKeyAlgorithm, expected: strings.Join(c.Algorithms, ", "), found: t.headerText("alg")},
		{name: "type", step: jwks.StepType, expected: c.Type, found: t.headerText("typ")},
		{name: "key", step: jwks.StepKey, also: jwks.StepKeyID, expected: fmt.Sprintf("one of the %d in the set", len(c.keys.Keys)), found: t.headerText("kid")},
		{name: "signature", step: jwks.StepSignature, expected: "by that key", found: "by that key"},
		{name: "issuer", step: jwks.StepIssuer, expected: c.Issuer, found: t.claimText("iss")},
		{name: "audience", step: jwks.StepAudience, expected: c.Audience, found: strings.Join(t.stringList("aud"), " ")},
		{name: "claims", step: jwks.StepClaims, also: jwks.StepClaimTypes, expected: "sub, client_id, exp, each of its type", found: "all present"},
		c.lifetimeRow(),
	}
	if len(c.Scopes) > 0 {
		list = append(list, row{name: "scope", step: jwks.StepScope, expected: strings.Join(c.Scopes, " "), found: t.claimText("scope")})
	}
	for i := range list {
		c.finish(&list[i])
	}
	return list
}

// finish sets the result of r.
func (c *TokenCheck) finish(r *row) {
	switch f := c.failure; {
	case f != nil && (f.Step == r.step || f.Step == r.also):
		r.result = failed
		if r.step != jwks.StepExpiry { // lifetimeRow knows more
			r.expected, r.found = f.Expected, cmp.Or(c.wrong.what, f.Found)
		}
		if f.Step == jwks.StepKeyAlgorithm {
			r.expected += ", the algorithm of the key"
		}
	case r.step < c.reached():
		r.result = passed
	default:
		r.result, r.expected, r.found = notReached, "", ""
		return
	}
	r.found = clipped(cmp.Or(r.found, "none"))
}

// failedRow returns the check that failed, and an empty row if there is none.
func (c *TokenCheck) failedRow() row {
	list := c.rows()
	if i := slices.IndexFunc(list, func(r row) bool { return r.result == failed }); i >= 0 {
		return list[i]
	}
	return row{}
}

// lifetimeRow shows the bound that the token breaks, or else its end.
func (c *TokenCheck) lifetimeRow() row {
	exp, now := c.Token.numericDate("exp"), c.clock()
	bound, word, found := exp, "before exp", c.left(exp, " left")
	switch c.reached() {
	case jwks.StepNotBefore:
		bound, word = c.notBefore()
		found = span(bound.Sub(now)) + " too early"
	case jwks.StepExpiry:
		found = span(now.Sub(exp)) + " too late"
	}
	r := row{name: "lifetime", step: jwks.StepExpiry, also: jwks.StepNotBefore,
		expected: word + " " + formatTime(bound), found: "now " + formatTime(now) + ", " + found}
	if c.Leeway > 0 {
		r.expected += " (leeway " + c.Leeway.String() + ")"
	}
	return r
}

// left says how long an accepted token stays valid. After exp only the leeway allows it.
func (c *TokenCheck) left(exp time.Time, word string) string {
	now := c.clock()
	if c.Leeway > 0 && !now.Before(exp) {
		return span(now.Sub(exp)) + " past exp, within the leeway"
	}
	return span(max(0, exp.Sub(now))) + word
}

// clock returns the time of the verification in whole seconds, as it is printed, so that the
// printed times and spans add up.
func (c *TokenCheck) clock() time.Time { return c.now.UTC().Truncate(time.Second) }

// notBefore returns the later of nbf and iat. The token is not valid before either.
func (c *TokenCheck) notBefore() (bound time.Time, word string) {
	nbf, iat := c.Token.numericDate("nbf"), c.Token.numericDate("iat")
	if nbf.After(iat) {
		return nbf, "from nbf"
	}
	return iat, "from iat"
}

// signed reports whether the signature holds, even if the token is refused. If it does, the
// claims come from the issuer.
func (c *TokenCheck) signed() bool { return c.reached() > jwks.StepSignature }

// span formats a duration in whole seconds, and a shorter one as "under 1s".
func span(d time.Duration) string {
	if d >= 0 && d < time.Second {
		return "under 1s"
	}
	return d.Round(time.Second).String()
}

func formatTime(t time.Time) string { return terminal.FormatTime(&t) }
