package verifiers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	jwx "github.com/lestrrat-go/jwx/v3/jwt"
)

// goLibraries returns the verifiers that run in the test's own process.
func goLibraries() []library {
	return []library{
		{name: "go-oidc", algs: all, sight: seesAFlush, start: startGoOIDC,
			gaps: []gap{ignoresType, readsLoosely, takesJSON, keepsRevokedKey}},
		{name: "keyfunc", algs: all, sight: seesOnce, start: startKeyfunc,
			gaps:    []gap{readsLoosely, slowToNewKeys, keepsRevokedKey},
			settled: []gap{acceptsNoExp, anyIssuer, anyAudience, ignoresType, ignoresCrit, takesAnyAlgorithm}},
		{name: "jwx", algs: all, sight: seesNoKid, start: startJWX,
			gaps:    []gap{readsLoosely, slowToNewKeys, keepsRevokedKey},
			settled: []gap{acceptsNoExp, anyIssuer, anyAudience, ignoresType, ignoresCrit, takesAnyAlgorithm, ignoresAlg}},
	}
}

// A verify returns the subject of a valid token.
type verify func(ctx context.Context, token string) (subject string, err error)

func (v verify) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	subject, err := v(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"sub": subject})
}

// serve serves h on an address of its own and returns its URL.
func serve(t *testing.T, h http.Handler) string {
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	return ts.URL
}

// every calls f at every interval until the test ends.
func every(t *testing.T, interval time.Duration, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ticks := time.Tick(interval); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticks:
				f(ctx)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// startGoOIDC serves coreos/go-oidc. Its RemoteKeySet never expires. It accepts a key that it knows
// until a token makes it fetch the set again (one with an unknown kid or a wrong signature), so
// a service with little traffic can accept a revoked key forever. A team that wants a limit
// replaces the verifier within every max-age. That is what s.lifespan does here.
func startGoOIDC(t *testing.T, s settings) (string, error) {
	provider, err := oidc.NewProvider(t.Context(), s.issuer)
	if err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	var document struct {
		JWKS string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return "", err
	}
	config := &oidc.Config{ClientID: s.audience, SupportedSigningAlgs: []string{s.alg}}
	var verifier atomic.Pointer[oidc.IDTokenVerifier]
	verifier.Store(provider.Verifier(config))
	if s.lifespan > 0 {
		every(t, s.lifespan/2, func(context.Context) {
			keys := oidc.NewRemoteKeySet(context.Background(), document.JWKS)
			verifier.Store(oidc.NewVerifier(s.issuer, keys, config))
		})
	}
	return serve(t, verify(func(ctx context.Context, raw string) (string, error) {
		token, err := verifier.Load().Verify(ctx, raw)
		if err != nil {
			return "", err
		}
		return token.Subject, nil
	})), nil
}

// startKeyfunc serves golang-jwt with the keys of MicahParks/keyfunc, which polls every hour and
// ignores max-age. An unknown kid makes it fetch too, at most once in five minutes, so a client
// that sends an invented kid uses that fetch up.
func startKeyfunc(t *testing.T, s settings) (string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{s.issuer + "/.well-known/jwks.json"},
		keyfunc.Override{RefreshInterval: s.lifespan / 2}) // 0 leaves the hour
	if err != nil {
		return "", err
	}
	demands := []jwt.ParserOption{jwt.WithValidMethods([]string{s.alg}), jwt.WithIssuer(s.issuer),
		jwt.WithAudience(s.audience), jwt.WithExpirationRequired()}
	if s.bare {
		demands = nil
	}
	parser := jwt.NewParser(demands...)
	return serve(t, verify(func(ctx context.Context, raw string) (string, error) {
		token, err := parser.Parse(raw, keys.KeyfuncCtx(ctx))
		if err != nil {
			return "", err
		}
		// The library leaves both checks to its users. The signature covers the header.
		if !s.bare && (token.Header["typ"] != "at+jwt" || token.Header["crit"] != nil) {
			return "", errors.New("not an access token")
		}
		return token.Claims.GetSubject()
	})), nil
}

// startJWX serves lestrrat-go/jwx with its cache. The cache follows max-age, but it fetches at most
// every 15 minutes and never because of a token. A shorter interval can be set, but is checked
// only every two seconds, so the test refreshes the cache itself.
func startJWX(t *testing.T, s settings) (string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	cache, err := jwk.NewCache(ctx, httprc.NewClient())
	if err != nil {
		return "", err
	}
	location := s.issuer + "/.well-known/jwks.json"
	if err := cache.Register(ctx, location); err != nil {
		return "", err
	}
	keys, err := cache.CachedSet(location)
	if err != nil {
		return "", err
	}
	if s.lifespan > 0 {
		every(t, s.lifespan/2, func(ctx context.Context) {
			if _, err := cache.Refresh(ctx, location); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("jwx: %v", err)
			}
		})
	}
	demands := []jwx.ParseOption{jwx.WithKeySet(keys), jwx.WithIssuer(s.issuer),
		jwx.WithAudience(s.audience), jwx.WithRequiredClaim("exp")}
	if s.bare {
		demands = demands[:1]
	}
	return serve(t, verify(func(_ context.Context, raw string) (string, error) {
		token, err := jwx.ParseString(raw, demands...)
		if err != nil {
			return "", err
		}
		if err := checkHeader(raw, s.alg); err != nil && !s.bare {
			return "", err
		}
		subject, _ := token.Subject()
		return subject, nil
	})), nil
}

// checkHeader does the checks that jwt.Parse leaves out. Parse takes the algorithm from the key,
// ignores the one in the header and accepts every key of the set.
func checkHeader(raw, want string) error {
	message, err := jws.ParseString(raw)
	if err != nil {
		return err
	}
	header := message.Signatures()[0].ProtectedHeaders()
	typ, _ := header.Type()
	alg, _ := header.Algorithm()
	if _, critical := header.Critical(); typ != "at+jwt" || alg.String() != want || critical {
		return errors.New("not an access token")
	}
	return nil
}
