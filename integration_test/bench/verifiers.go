package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwk"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"

	"keymill/jwks"
)

// A verifier verifies tokens of one algorithm for one audience and returns their subject.
// Each is set up once, as its documentation recommends, and follows the same key set. Each
// checks at least iss, aud, exp and alg (see checkVerifier).
type verifier struct {
	name          string
	verify        func(context.Context, *signed) (subject string, err error)
	library       bool // one that package jwks is compared with
	signatureOnly bool
}

// The verifiers that the bounds name.
const (
	bare, first, cached = "bare", "keymill", "cached"
)

// verifiers returns the verifiers of one algorithm. They fetch keys until ctx is done.
func (s *testIssuer) verifiers(ctx context.Context, alg string) ([]verifier, error) {
	out := []verifier{{name: bare, verify: verifyBare, signatureOnly: true}}
	for _, entry := range []struct {
		name string
		make func(ctx context.Context, alg string) (verify, error)
	}{
		{first, s.keymill(0)},
		{cached, s.keymill(4 * poolSize)},
		{"go-oidc", s.goOIDC},
		{"keyfunc", s.keyfunc},
		{"jwx", s.jwx},
	} {
		v, err := entry.make(ctx, alg)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.name, err)
		}
		library := entry.name != first && entry.name != cached
		out = append(out, verifier{name: entry.name, library: library, verify: func(ctx context.Context, t *signed) (string, error) {
			return v(ctx, t.text)
		}})
	}
	return out, nil
}

// A verify takes a token as a service receives it.
type verify func(ctx context.Context, token string) (subject string, err error)

var errSignature = errors.New("wrong signature")

// verifyBare checks the signature only, which every verifier has to do.
func verifyBare(_ context.Context, t *signed) (string, error) {
	ok := false
	switch key := t.key.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, t.covered, t.signature)
	case *rsa.PublicKey:
		sum := sha256.Sum256(t.covered)
		ok = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], t.signature) == nil
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(t.covered)
		r, s := new(big.Int).SetBytes(t.signature[:32]), new(big.Int).SetBytes(t.signature[32:])
		ok = ecdsa.Verify(key, sum[:], r, s)
	}
	if !ok {
		return "", errSignature
	}
	return t.subject, nil
}

// keymill returns a constructor for package jwks with a cache of that many tokens.
func (s *testIssuer) keymill(cache int) func(context.Context, string) (verify, error) {
	return func(ctx context.Context, alg string) (verify, error) {
		remote, err := jwks.NewRemote(jwks.RemoteConfig{Issuer: s.issuer})
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, remote.Close)
		v, err := jwks.NewVerifier(jwks.VerifierConfig{
			Issuer: s.issuer, Audience: issuerAudience, Algorithms: []string{alg}, Keys: remote, Cache: cache,
		})
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, token string) (string, error) {
			c, err := v.Verify(ctx, token)
			if err != nil {
				return "", err
			}
			return c.Subject, nil
		}, nil
	}
}

func (s *testIssuer) goOIDC(ctx context.Context, alg string) (verify, error) {
	v := oidc.NewVerifier(s.issuer, oidc.NewRemoteKeySet(ctx, s.issuer+keySetPath), &oidc.Config{
		ClientID: issuerAudience, SupportedSigningAlgs: []string{alg},
	})
	return func(ctx context.Context, token string) (string, error) {
		t, err := v.Verify(ctx, token)
		if err != nil {
			return "", err
		}
		return t.Subject, nil
	}, nil
}

// keyfuncClaims is a struct, which golang-jwt decodes faster than a map.
type keyfuncClaims struct {
	jwt.RegisteredClaims
	Client  string `json:"client_id"`
	Scope   string `json:"scope"`
	Session string `json:"sid"`
}

func (s *testIssuer) keyfunc(ctx context.Context, alg string) (verify, error) {
	keys, err := keyfunc.NewDefaultCtx(ctx, []string{s.issuer + keySetPath})
	if err != nil {
		return nil, err
	}
	parser := jwt.NewParser(jwt.WithIssuer(s.issuer), jwt.WithAudience(issuerAudience),
		jwt.WithExpirationRequired(), jwt.WithValidMethods([]string{alg}))
	return func(_ context.Context, token string) (string, error) {
		var c keyfuncClaims
		if _, err := parser.ParseWithClaims(token, &c, keys.Keyfunc); err != nil {
			return "", err
		}
		return c.Subject, nil
	}, nil
}

// jwx takes the algorithm from the key, not from the token. It is not told which algorithms
// are allowed, since it has no such option for key sets.
func (s *testIssuer) jwx(ctx context.Context, _ string) (verify, error) {
	cache, err := jwk.NewCache(ctx, httprc.NewClient())
	if err != nil {
		return nil, err
	}
	if err := cache.Register(ctx, s.issuer+keySetPath); err != nil {
		return nil, err
	}
	set, err := cache.CachedSet(s.issuer + keySetPath)
	if err != nil {
		return nil, err
	}
	options := []jwxjwt.ParseOption{
		jwxjwt.WithKeySet(set), jwxjwt.WithValidate(true), jwxjwt.WithIssuer(s.issuer),
		jwxjwt.WithAudience(issuerAudience), jwxjwt.WithRequiredClaim(jwxjwt.ExpirationKey),
	}
	return func(_ context.Context, token string) (string, error) {
		t, err := jwxjwt.ParseString(token, options...)
		if err != nil {
			return "", err
		}
		subject, _ := t.Subject()
		return subject, nil
	}, nil
}
