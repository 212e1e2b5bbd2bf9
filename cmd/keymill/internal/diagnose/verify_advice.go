package diagnose

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

// advice returns one line about a refused token: what the refusal probably means, and what
// to do or to type. Commands in it stand between quotes; a test runs them against the CLI.
func (c *TokenCheck) advice() string {
	switch c.failure.Step {
	case jwks.StepForm:
		return c.formAdvice()
	case jwks.StepHeader:
		return "this header parameter changes what the token means, and Keymill never sets it: find out who issued the token"
	case jwks.StepType:
		return c.typeAdvice()
	case jwks.StepAlgorithm:
		return c.algorithmAdvice()
	case jwks.StepKeyID:
		return "a token without kid does not come from Keymill: find out who issued it"
	case jwks.StepKey:
		return c.keyAdvice()
	case jwks.StepKeyAlgorithm:
		return fmt.Sprintf("key %s is for %s only: the token is forged, or the issuer signed it wrongly", quoted(c.Token.headerText("kid")), c.failure.Expected)
	case jwks.StepSignature:
		if c.Token.headerText("alg") == jwks.ES256 && strings.HasSuffix(c.failure.Found, " bytes") {
			return "a program signed it in the form of ASN.1 (DER), and not in that of RFC 7518, section 3.4, or it was changed: Keymill signs with 64 bytes"
		}
		return "the token was changed or truncated after it was signed: copy the complete token again; if it was complete, it is forged"
	case jwks.StepIssuer:
		return c.issuerAdvice()
	case jwks.StepAudience:
		return c.audienceAdvice()
	case jwks.StepClaimTypes, jwks.StepClaims:
		return "the issuer does not follow RFC 9068, section 2.2: send an access token from Keymill"
	case jwks.StepExpiry:
		return fmt.Sprintf("it expired %s ago: the client has to fetch a new one; %s", span(c.clock().Sub(c.Token.numericDate("exp"))), c.compareClocks())
	case jwks.StepNotBefore:
		bound, _ := c.notBefore()
		return fmt.Sprintf("it becomes valid in %s, so the clocks differ: %s", span(bound.Sub(c.clock())), c.compareClocks())
	case jwks.StepScope:
		return fmt.Sprintf("the token is valid and grants %s: request one with the missing scope, which the client must be allowed (\"keymill client show ID\" lists what it is allowed)",
			quoted(c.claims.Scope))
	}
	return ""
}

func (c *TokenCheck) formAdvice() string {
	token := c.Token.text
	switch {
	case c.wrong.what != "":
		return c.wrong.advice
	case c.Token.parts == 5:
		return "only its recipient can read it: ask the issuer for a signed access token (a JWS)"
	case len(token) > 16<<10:
		return "Keymill tokens are shorter: give the token alone, not a log or a file that contains it"
	case c.Token.parts != 3:
		return "it is not a JWT: it is an opaque token of another issuer or a part of a token; copy the complete token"
	case strings.ContainsAny(token, "+/="):
		return "it is in plain base64: a token is base64url without padding (RFC 7515, section 2)"
	case errors.Is(c.err, jwks.ErrDuplicateMember): // copying does not cause that
		return "someone built it so that two verifiers read two different values: find out who sends it"
	}
	return "it was truncated or changed: copy the complete token again"
}

func (c *TokenCheck) typeAdvice() string {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return c.Token.claims[name] != nil })
	}
	typ := strings.TrimPrefix(strings.ToLower(c.Token.headerText("typ")), "application/")
	switch {
	case typ == jwks.TypeAccessToken:
		return "it is an access token, and its audience has not the type JWT: leave out --type JWT, or change the audience with \"keymill audience set NAME --type JWT\""
	case has("nonce", "at_hash", "c_hash", "auth_time"):
		return "it looks like an ID token, which tells a client who logged in: send the access token to services"
	case has("token_type"):
		return "it looks like a token that djangorestframework-simplejwt signed itself: fetch one from Keymill"
	case typ == "jwt" && has("client_id"):
		return "if its audience has the type JWT (\"keymill audience show NAME\" tells), the service has to expect that type: --type JWT; otherwise the issuer does not follow RFC 9068, section 2.1"
	case typ == "jwt" || typ == "":
		return "it is an ID token, or the issuer does not follow RFC 9068, section 2.1: send an access token from Keymill"
	}
	return "it is a JWT for another purpose: send the access token"
}

func (c *TokenCheck) algorithmAdvice() string {
	alg, known := c.Token.headerText("alg"), strings.Join(jwks.Algorithms(), ", ")
	switch {
	case strings.EqualFold(alg, "none"):
		return "it is unsigned, so anyone can have written it: find out who sends it"
	case strings.HasPrefix(alg, "HS"):
		return "it is signed with a shared secret, or forged with a public key as the secret: Keymill signs only with " + known
	case alg == "Ed25519" || slices.Contains(jwks.Algorithms(), alg):
		allowed := c.Algorithms
		if !slices.Contains(allowed, alg) {
			allowed = append(slices.Clone(allowed), alg)
		}
		return fmt.Sprintf("if the service should allow it: --alg %s; if not, the client needs an audience with %s: \"keymill audience add NAME --alg %s\"",
			strings.Join(allowed, " --alg "), c.Algorithms[0], c.Algorithms[0])
	}
	return "Keymill signs only with " + known + ": the token comes from another issuer"
}

func (c *TokenCheck) keyAdvice() string {
	kid := c.Token.headerText("kid")
	for _, k := range c.keys.Skipped.Keys {
		if k.HasKID(kid) {
			return "the issuer publishes the key, but it is not trusted: " + clipped(k.String())
		}
	}
	if len(c.keys.Keys) == 0 {
		return fmt.Sprintf("the key set has no usable key at all: check whether %s is the right address", clipped(c.keySetURL()))
	}
	if c.Token.claimText("iss") != c.Issuer {
		if issuer := c.Token.Claim("iss"); issuer != "" {
			return fmt.Sprintf("the token names %s (unverified): if you trust that issuer, --issuer %s", quoted(issuer), terminal.ShellWord(issuer))
		}
		return "the token comes from another issuer"
	}
	if exp := c.Token.numericDate("exp"); !exp.IsZero() && exp.Before(c.now) {
		return fmt.Sprintf("it says that it expired %s ago, and a key is removed after its last token: the client has to fetch a new one", span(c.clock().Sub(exp)))
	}
	held := ""
	if cached := c.cachedFor(); cached > 0 {
		held = fmt.Sprintf(", %s of that in caches, so a new key may be missing", span(cached))
	}
	key := "the key"
	if more := c.keys.Skipped.Count - len(c.keys.Skipped.Keys); more > 0 {
		key = fmt.Sprintf("the key may be one of %d more that are not trusted; if not, it", more)
	}
	return fmt.Sprintf("%s was revoked or dropped, or the token is forged; the key set is %s old%s: run \"keymill key list\" and \"keymill audit tail\" at the issuer",
		key, span(c.keys.Age), held)
}

func (c *TokenCheck) issuerAdvice() string {
	iss := c.Token.claimText("iss")
	switch {
	case strings.TrimRight(iss, "/") == strings.TrimRight(c.Issuer, "/"):
		return "only a slash at the end differs, but issuers are compared letter for letter: configure the service as the token says"
	case strings.EqualFold(iss, c.Issuer):
		return "only capital letters differ, but issuers are compared letter for letter: configure the service as the token says"
	}
	return "the client gets its tokens from another issuer than the one this service trusts: correct one of them"
}

func (c *TokenCheck) audienceAdvice() string {
	list := c.Token.stringList("aud")
	if len(list) == 0 {
		return "the token is for no audience: the issuer has to name the service in aud"
	}
	return fmt.Sprintf("the token is for %s: request it with audience %s, or, if that is the name of the service, use --audience %s",
		quoted(strings.Join(list, " ")), terminal.ShellWord(c.Audience), terminal.ShellWord(clipped(list[0])))
}

// clockGrain allows for a Date header of whole seconds and for the time an answer takes.
const clockGrain = 3 * time.Second

// compareClocks compares the clock of this machine with the issuer's, if its answer had one.
func (c *TokenCheck) compareClocks() string {
	here := "the clock here says " + formatTime(c.now)
	if c.seen.clock.IsZero() {
		return here + ", compare it with the issuer's"
	}
	switch ahead := c.seen.clock.Sub(c.seen.at); {
	case ahead >= clockGrain:
		return fmt.Sprintf("%s, the issuer's is %s ahead", here, span(ahead))
	case ahead <= -clockGrain:
		return fmt.Sprintf("%s, the issuer's is %s behind", here, span(-ahead))
	}
	return here + ", and so does the issuer's"
}
