package jwks

import (
	"errors"
	"strings"
	"testing"
)

// A faultyToken has the faults of one step or of several.
type faultyToken struct {
	header, claims  []string // name, JSON value
	token           func(string) string
	expected, found string
}

// faults returns one fault for every step of Check, in the order of the steps. Faults of a
// header add up, and so do faults of claims.
func faults() map[Step]faultyToken {
	return map[Step]faultyToken{
		StepForm:         {token: func(s string) string { return "!" + s }, expected: "3 parts", found: "header is not base64url"},
		StepHeader:       {header: []string{"crit", `["exp"]`}, expected: "no crit", found: "crit"},
		StepAlgorithm:    {header: []string{"alg", `"HS256"`}, expected: "RS256, EdDSA, ES256", found: "HS256"},
		StepType:         {header: []string{"typ", `"JWT"`}, expected: "at+jwt", found: "JWT"},
		StepKeyID:        {header: []string{"kid", `""`}, expected: "a kid"},
		StepKey:          {header: []string{"kid", `"gone"`}, expected: "one of the 2 in the set", found: "gone"},
		StepKeyAlgorithm: {header: []string{"alg", `"RS256"`}, expected: "EdDSA", found: "RS256"},
		StepSignature:    {token: flip, expected: "by that key", found: "not by that key"},
		StepClaimTypes:   {claims: []string{"iat", `"soon"`}, expected: "each of its type", found: "iat is not a time"},
		StepIssuer:       {claims: []string{"iss", `"https://other.example"`}, expected: "https://id.example", found: "https://other.example"},
		StepAudience:     {claims: []string{"aud", `["shop","returns"]`}, expected: "orders", found: "shop returns"},
		StepClaims:       {claims: []string{"sub", `""`}, expected: "sub, client_id, exp", found: "sub is missing"},
		StepExpiry:       {claims: []string{"exp", "1799999999"}, expected: "before exp 2027-01-15T07:59:59Z", found: "now 2027-01-15T08:00:00Z"},
		StepNotBefore:    {claims: []string{"nbf", "1800000001"}, expected: "from nbf 2027-01-15T08:00:01Z", found: "now 2027-01-15T08:00:00Z"},
	}
}

// flip changes one character of the signature.
func flip(token string) string {
	i := strings.LastIndexByte(token, '.') + 1
	other := "A"
	if token[i] == 'A' {
		other = "B"
	}
	return token[:i] + other + token[i+1:]
}

// and returns a token with the faults of f and of other.
func (f faultyToken) and(other faultyToken) string {
	header := map[string]string{"alg": `"EdDSA"`, "kid": `"ed"`, "typ": `"at+jwt"`}
	var claims []string
	for _, one := range []faultyToken{other, f} {
		for i := 0; i < len(one.header); i += 2 {
			header[one.header[i]] = one.header[i+1]
		}
		claims = append(claims, one.claims...)
	}
	var members []string
	for name, value := range header {
		members = append(members, `"`+name+`":`+value)
	}
	token := sign("{"+strings.Join(members, ",")+"}", payload(claims...))
	for _, one := range []faultyToken{f, other} {
		if one.token != nil {
			token = one.token(token)
		}
	}
	return token
}

// TestAFailureNamesTheFirstStepThatRefuses checks every pair of steps: a token with the
// faults of both fails at the first one, so every step before that has passed.
func TestAFailureNamesTheFirstStepThatRefuses(t *testing.T) {
	set := mustSet(t, edKey("ed"), rsaKey("rsa"))
	all := faults()
	for first := StepForm; first < StepScope; first++ {
		for second := first + 1; second <= StepScope; second++ { // StepScope has no fault here
			if first == StepAlgorithm && second == StepKeyAlgorithm || first == StepKeyID && second == StepKey {
				continue // a token has one alg and one kid
			}
			want := all[first]
			_, err := Check(want.and(all[second]), set, wanted(), now)
			var f *Failure
			if !errors.As(err, &f) {
				t.Fatalf("%d and %d: %v", first, second, err)
			}
			if f.Step != first || !errors.Is(err, steps[first].err) {
				t.Errorf("%d and %d: failed at %d: %v", first, second, f.Step, err)
			}
			if !strings.Contains(f.Expected, want.expected) || !strings.Contains(f.Found, want.found) {
				t.Errorf("%v: expected %q, found %q", f, f.Expected, f.Found)
			}
		}
	}
}

// TestAMissingScopeIsAFailure, with what was asked for and what is granted.
func TestAMissingScopeIsAFailure(t *testing.T) {
	var f *Failure
	err := (&Claims{Scope: "read write"}).Grants("read", "admin")
	if !errors.As(err, &f) || f.Step != StepScope || f.Expected != "read admin" || f.Found != "read write" || !errors.Is(err, ErrScope) {
		t.Errorf("%+v", f)
	}
	if want := `insufficient scope: the token does not grant "admin"`; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

// TestOnlyARepeatedMemberIsCalledDuplicate, in the header and in the payload.
func TestOnlyARepeatedMemberIsCalledDuplicate(t *testing.T) {
	set := mustSet(t, edKey("ed"))
	for token, want := range map[string]bool{
		sign(edHeader(`,"alg":"none"`), payload()):            true,
		sign(edHeader(""), `{"sub":"mallory",`+payload()[1:]): true,
		sign(edHeader(`,"x":[`), payload()):                   false,
		sign(edHeader(""), payload()) + ".":                   false,
	} {
		if _, err := Check(token, set, wanted(), now); err == nil || errors.Is(err, ErrDuplicateMember) != want {
			t.Errorf("%v: is a duplicate member: %v", err, !want)
		}
	}
}

// TestWhatAFailureFoundIsBounded: a token is up to 16 KiB long, a log line must not be.
func TestWhatAFailureFoundIsBounded(t *testing.T) {
	long := `"` + strings.Repeat("é", 3000) + `"`
	set := mustSet(t, edKey("ed"))
	for _, token := range []string{
		sign(`{"alg":"EdDSA","kid":"ed","typ":`+long+`}`, payload()),
		sign(edHeader(""), payload("iss", long)),
		sign(edHeader(""), payload("aud", "["+long+","+long+"]")),
	} {
		var f *Failure
		if _, err := Check(token, set, wanted(), now); !errors.As(err, &f) || len(f.Found) > 110 || !strings.HasSuffix(f.Found, "é…") {
			t.Errorf("found %q", f.Found)
		}
	}
	if name := Step(99).String(); name != "step 99" || (&Failure{}).Error() == "" {
		t.Errorf("an unknown step is called %q", name)
	}
}
