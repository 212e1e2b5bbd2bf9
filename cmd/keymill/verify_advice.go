package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keymill/jwks"
)

// advice is one line for who has to act on a refusal: what it probably means, and what to
// do or to type.
func (v *verification) advice() string {
	switch failedCheck(v.err) {
	case "form":
		return v.formAdvice()
	case "header":
		return "a verifier that skipped such a header would read another token than was signed: it is not one of Keymill's"
	case "type":
		return v.typeAdvice()
	case "algorithm":
		return v.algorithmAdvice()
	case "key":
		return v.keyAdvice()
	case "signature":
		return "it was changed after it was signed, or cut: copy it again, whole; if it was whole, somebody made it up"
	case "issuer":
		return v.issuerAdvice()
	case "audience":
		return v.audienceAdvice()
	case "claims":
		return "its issuer does not follow RFC 9068, section 2.2: such a token is refused by every service that uses package jwks"
	case "expired":
		return fmt.Sprintf("it expired %s ago: the client has to fetch a new one; %s", span(v.clock().Sub(v.says.instant("exp"))), v.clocks())
	case "not_yet":
		bound, _ := v.begins()
		return fmt.Sprintf("it begins in %s, so the clocks differ: %s", span(bound.Sub(v.clock())), v.clocks())
	case "scope":
		return fmt.Sprintf("the token is good and grants %s: the client has to ask for more, and to be allowed to (\"keymill client show\")",
			quoted(v.claims.Scope))
	case "key_set":
		return v.faultAdvice()
	}
	return ""
}

func (v *verification) formAdvice() string {
	switch {
	case v.mistake.is != "":
		return v.mistake.advice
	case v.says.parts == 5:
		return "only its recipient can read it: ask the issuer for a signed access token (a JWS)"
	case len(v.token) > 16<<10:
		return "no Keymill token is that long: is it a whole log or file?"
	case v.says.parts != 3:
		return "it is no JWT: an opaque token of another issuer, or a piece of a token; copy it again, whole"
	case strings.ContainsAny(v.token, "+/="):
		return "it is in plain base64: a token is base64url without padding (RFC 7515, section 2)"
	case errors.Is(v.err, jwks.ErrDuplicateMember): // no copying does that
		return "somebody built it so: of the two, one reader takes the first and another the last; find out who sends it"
	}
	return "it was cut or changed on the way: copy it again, whole"
}

func (v *verification) typeAdvice() string {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return v.says.claims[name] != nil })
	}
	typ := shown(v.says.header, "typ")
	switch {
	case has("nonce", "at_hash", "c_hash", "auth_time"):
		return "it looks like an ID token, which tells a client who logged in: send the access token to services"
	case has("token_type"):
		return "it looks like one that djangorestframework-simplejwt signed itself: fetch it from Keymill"
	case strings.EqualFold(typ, "JWT") || typ == "":
		return "an ID token, or one of an issuer that does not follow RFC 9068, section 2.1: send an access token of Keymill's"
	}
	return "it is a JWT for another purpose: send the access token"
}

func (v *verification) algorithmAdvice() string {
	alg := text(v.says.header, "alg")
	key, known := v.namedKey()
	switch {
	case strings.EqualFold(alg, "none"):
		return "it is unsigned, so anybody can have written it: find out who sends it"
	case strings.HasPrefix(alg, "HS"):
		return "it is signed with a shared secret, or forged with a public key in its place: Keymill signs with RS256 and EdDSA only"
	case known && v.allowed():
		return fmt.Sprintf("key %s is for %s only: the token is forged, or its signer broken", quoted(key.KID), key.Alg)
	case alg == jwks.RS256 || oneName(alg) == jwks.EdDSA:
		return "if the service should allow it: --alg RS256 --alg EdDSA; else give the audience the other algorithm (\"keymill audience set\")"
	}
	return "Keymill signs with RS256 and EdDSA only: the token is of another issuer"
}

func (v *verification) keyAdvice() string {
	kid := text(v.says.header, "kid")
	if kid == "" {
		return "without a kid no key is tried: the token is of another issuer"
	}
	for _, k := range v.keys.Skipped.Keys {
		if k.HasKID(kid) {
			return "the issuer publishes it, but it is not to be trusted: " + clipped(k.String())
		}
	}
	if len(v.keys.Keys) == 0 {
		return fmt.Sprintf("the set holds no key to be trusted, for any token: is %s the right address?", clipped(v.keyLocation()))
	}
	if iss := text(v.says.claims, "iss"); iss != v.issuer {
		return v.says.suggest("iss", "if you trust that issuer, --issuer", "the token is of another issuer")
	}
	if exp := v.says.instant("exp"); !exp.IsZero() && exp.Before(v.now) {
		return fmt.Sprintf("it says that it expired %s ago, and a key goes after its last token: the client has to fetch a new one", span(v.clock().Sub(exp)))
	}
	held := ""
	if cached := v.cached(); cached > 0 {
		held = fmt.Sprintf(", %s of that in caches, so that a new key may be missing", span(cached))
	}
	unnamed := ""
	if more := v.keys.Skipped.Count - len(v.keys.Skipped.Keys); more > 0 {
		unnamed = fmt.Sprintf("one of %d more that are not trusted, ", more)
	}
	return fmt.Sprintf("%srevoked, past its time, or made up; the set is %s old%s: \"keymill key list\" and \"keymill audit tail\" at the issuer know more",
		unnamed, span(v.keys.Age), held)
}

func (v *verification) issuerAdvice() string {
	iss := text(v.says.claims, "iss")
	switch {
	case strings.TrimRight(iss, "/") == strings.TrimRight(v.issuer, "/"):
		return "only a slash at the end differs, but they are compared letter for letter: configure the service as the token says"
	case strings.EqualFold(iss, v.issuer):
		return "only capital letters differ, but they are compared letter for letter: configure the service as the token says"
	}
	return "the client asks another server for tokens than this service trusts: correct one of the two"
}

func (v *verification) audienceAdvice() string {
	list := v.says.list("aud")
	if len(list) == 0 {
		return "the token is for nobody in particular: its issuer has to name the service in aud"
	}
	return fmt.Sprintf("the token is for %s: the client has to ask for audience %s, or if the service has the other name, --audience %s",
		quoted(strings.Join(list, " ")), shellWord(v.audience), shellWord(clipped(list[0])))
}

// clocks compares the one here with the issuer's, as far as its answer told it.
func (v *verification) clocks() string {
	here := "the clock here says " + instant(&v.now)
	if v.seen.clock.IsZero() {
		return here + ", compare it with the issuer's"
	}
	switch ahead := v.seen.clock.Sub(v.seen.at); {
	case ahead >= clockGrain:
		return fmt.Sprintf("%s, the issuer's is %s ahead", here, span(ahead))
	case ahead <= -clockGrain:
		return fmt.Sprintf("%s, the issuer's is %s behind", here, span(-ahead))
	}
	return here + ", and so does the issuer's"
}

// clockGrain: a Date header has whole seconds, and an answer takes its time.
const clockGrain = 3 * time.Second
