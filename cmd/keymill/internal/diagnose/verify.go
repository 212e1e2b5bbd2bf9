package diagnose

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"keymill/jwks"
)

// A TokenCheck checks one token as a service does, and explains the result. Fill in the
// exported fields, call Run once, and then Print or Report. Everything that it shows of a
// refused token may be an attacker's text, so it is cut to a bounded length.
type TokenCheck struct {
	Token      Token
	Issuer     string        // as the service has it configured
	KeySetURL  string        // address of the key set; "" asks the issuer's discovery document
	Audience   string        // the name of the service
	Algorithms []string      // that the service allows
	Type       string        // that the audience has: jwks.TypeAccessToken or jwks.TypeJWT
	Scopes     []string      // that the token must grant
	Leeway     time.Duration // allowed clock difference

	claims  *jwks.Claims  // nil unless the verifier accepted the token
	err     error         // why the token is refused; nil if it is accepted
	failure *jwks.Failure // the step of err; nil if err is nil, or there was no key set
	wrong   wrongInput    // what was given in place of a token
	now     time.Time     // when the token was verified
	keys    jwks.RemoteStatus
	seen    answer // the last answer of the issuer
}

// A ConfigError is the error for a TokenCheck that cannot be run.
type ConfigError struct {
	Err    error
	Advice string
}

// Error returns the text of Err.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

// Run fetches the keys and verifies the token. Its error is a *ConfigError, which says
// nothing about the token. Outcome tells whether the token is refused.
func (c *TokenCheck) Run(ctx context.Context) error {
	recorder := newRecorder()
	config := jwks.RemoteConfig{
		URL: c.KeySetURL, Client: &http.Client{Transport: recorder},
		Log: slog.New(slog.DiscardHandler), // the report says why
	}
	if c.KeySetURL == "" {
		config.Issuer = c.Issuer
	}
	remote, err := jwks.NewRemote(config)
	if err != nil {
		return &ConfigError{err, "write --issuer as https://host or https://host/path, exactly as in the claim iss, and --jwks as a complete URL: https://host/path"}
	}
	defer remote.Close()
	verifier, err := jwks.NewVerifier(jwks.VerifierConfig{
		Issuer: c.Issuer, Audience: c.Audience, Algorithms: c.Algorithms, Leeway: c.Leeway, Type: c.Type, Keys: remote,
	})
	if err != nil {
		return &ConfigError{err, "run \"keymill verify --help\" to see the flags"}
	}
	c.claims, c.err = verifier.Verify(ctx, c.Token.text)
	c.now = time.Now()
	if c.err == nil {
		c.err = c.claims.Grants(c.Scopes...) // a service asks that for each route
	}
	errors.As(c.err, &c.failure)
	c.wrong = c.findWrongInput()
	if c.lookedForKey() {
		c.keys, c.seen = remote.Status(), recorder.last()
	}
	return nil
}

// lookedForKey reports whether the verifier asked for the key set. If it did not, the set may
// have arrived by now or not, and the output must not depend on that.
func (c *TokenCheck) lookedForKey() bool { return c.reached() >= jwks.StepKey }

// reached returns the step at which the verification ended: the one that failed, StepKey if
// there was no key set, and a number after all steps if the token is accepted.
func (c *TokenCheck) reached() jwks.Step {
	switch {
	case c.failure != nil:
		return c.failure.Step
	case c.err != nil:
		return jwks.StepKey
	}
	return jwks.StepScope + 1
}

// noKeySet reports whether there was no key set, so that the token was not verified.
func (c *TokenCheck) noKeySet() bool { return c.err != nil && c.failure == nil }

// An Outcome is how a check ended.
type Outcome struct {
	Accepted bool
	NoKeySet bool   // there was no key set to check with, which says nothing about the token
	Reason   string // why the token is refused or there is no key set, on one line
	Advice   string // what it probably means and what to do, on one line
}

// Outcome returns how the check ended.
func (c *TokenCheck) Outcome() Outcome {
	switch {
	case c.err == nil:
		return Outcome{Accepted: true}
	case c.noKeySet():
		return Outcome{NoKeySet: true, Reason: c.fault(), Advice: c.faultAdvice()}
	}
	return Outcome{Reason: c.reason(), Advice: c.advice()}
}

// reason returns the verifier's reason, or a clearer one if it was given no token at all:
// "5 parts" for two tokens, or "not base64url" for an address, would mislead.
func (c *TokenCheck) reason() string {
	if c.wrong.what != "" {
		return jwks.ErrMalformed.Error() + ": " + c.wrong.what
	}
	return c.err.Error()
}
