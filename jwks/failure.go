package jwks

import (
	"errors"
	"fmt"

	"keymill/jwks/internal/strictjson"
)

// The errors that tell why a token is refused, for errors.Is. Each is wrapped in a Failure.
// A service logs them, and responds to each of them with the same invalid_token.
var (
	ErrMalformed  = errors.New("not a well-formed token")
	ErrHeader     = errors.New("unsupported header")
	ErrType       = errors.New("wrong type")
	ErrAlgorithm  = errors.New("wrong algorithm")
	ErrUnknownKey = errors.New("unknown key")
	ErrSignature  = errors.New("wrong signature")
	ErrClaims     = errors.New("wrong claims")
	ErrIssuer     = errors.New("wrong issuer")
	ErrAudience   = errors.New("wrong audience")
	ErrExpired    = errors.New("expired")
	ErrNotYet     = errors.New("not valid yet")
	ErrScope      = errors.New("insufficient scope") // only Claims.Grants returns it

	// ErrDuplicateMember is wrapped as well if a JSON object in the token has two members
	// of the same name. Damage in transit does not cause that: the token was made that way.
	ErrDuplicateMember = strictjson.ErrDuplicateMember
)

// A Step is one step of the verification of a token. Steps are numbered in the order in
// which Check takes them: the steps before the one that failed have passed, and the steps
// after it were not reached.
type Step int

// The steps of Check, and StepScope, which Claims.Grants adds.
const (
	StepForm         Step = iota + 1 // the compact form of a JWS, within the size limit
	StepHeader                       // no header parameter that changes what the token means
	StepAlgorithm                    // alg is an algorithm that the service allows
	StepType                         // typ is the type that the service expects
	StepKeyID                        // the header has a kid
	StepKey                          // the key set has a key with that kid
	StepKeyAlgorithm                 // alg is the algorithm of that key
	StepSignature                    // the signature was made with that key
	StepClaimTypes                   // the payload is JSON and every known claim has its type
	StepIssuer                       // iss is the expected issuer
	StepAudience                     // aud contains the expected audience
	StepClaims                       // sub, client_id and exp are present
	StepExpiry                       // now is before exp
	StepNotBefore                    // now is not before nbf and iat
	StepScope                        // scope contains every required scope
)

// steps holds the name and the error of each Step. Two steps may share both, since a caller
// seldom needs to know which of the two refused a token.
var steps = [...]struct {
	name string
	err  error
}{
	StepForm:         {"form", ErrMalformed},
	StepHeader:       {"header", ErrHeader},
	StepAlgorithm:    {"algorithm", ErrAlgorithm},
	StepType:         {"type", ErrType},
	StepKeyID:        {"key", ErrUnknownKey},
	StepKey:          {"key", ErrUnknownKey},
	StepKeyAlgorithm: {"algorithm", ErrAlgorithm},
	StepSignature:    {"signature", ErrSignature},
	StepClaimTypes:   {"claims", ErrClaims},
	StepIssuer:       {"issuer", ErrIssuer},
	StepAudience:     {"audience", ErrAudience},
	StepClaims:       {"claims", ErrClaims},
	StepExpiry:       {"expired", ErrExpired},
	StepNotBefore:    {"not_yet", ErrNotYet},
	StepScope:        {"scope", ErrScope},
}

// String returns a short name for logs and metrics: "form", "key", "expired" and so on.
func (s Step) String() string {
	if s < StepForm || s > StepScope {
		return fmt.Sprintf("step %d", int(s))
	}
	return steps[s].name
}

// A Failure is the error for a token that one step refuses. Find it with errors.As. It wraps
// the error of its step, so errors.Is(err, ErrAudience) works as well.
//
// Expected and Found are for people. Found holds text of the token, in any characters:
// quote it before it is printed. Both are cut at 100 bytes. The text of Error is already
// quoted and cut, and never contains the token.
type Failure struct {
	Step     Step
	Expected string // what the step requires
	Found    string // what the token has instead; "" if it has nothing there

	detail string // the text of Error, after the text of the step's error
	cause  error  // why the token could not be read; may be nil
}

// Error returns the text of the step's error and the details.
func (f *Failure) Error() string { return fmt.Sprintf("%v: %s", f.sentinel(), f.detail) }

// Unwrap returns the error of the step, and the cause if there is one.
func (f *Failure) Unwrap() []error { return []error{f.sentinel(), f.cause} }

func (f *Failure) sentinel() error {
	if f.Step < StepForm || f.Step > StepScope {
		return nil
	}
	return steps[f.Step].err
}

// fail returns a Failure whose detail says more than what was expected and found.
func fail(step Step, expected, found, format string, args ...any) *Failure {
	return &Failure{Step: step, Expected: clip(expected), Found: clip(found), detail: fmt.Sprintf(format, args...)}
}

// unreadable returns a Failure of a step that could not read the token because of cause.
func unreadable(step Step, expected string, cause error) *Failure {
	text := cause.Error()
	return &Failure{Step: step, Expected: expected, Found: clip(text), detail: text, cause: cause}
}
