package jwks

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A site is an origin with discovery, at https://id.example.
type site struct {
	origin
	discovered int
	issuer     string // in the document
	location   string // of the set
	sets       map[string]http.Handler
}

func newSite(location string, set http.Handler) *site {
	s := &site{issuer: "https://id.example", location: location, sets: map[string]http.Handler{location: set}}
	s.become(http.HandlerFunc(s.serve), false)
	return s
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/.well-known/openid-configuration" {
		s.discovered++
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, s.issuer, s.location)
		return
	}
	if h := s.sets[r.URL.String()]; h != nil {
		h.ServeHTTP(w, r)
		return
	}
	http.NotFound(w, r)
}

// change changes the site between two requests.
func (s *site) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func publishing(t testing.TB, maxAge time.Duration, keys ...Key) *Handler {
	h := NewHandler(maxAge)
	h.Publish(mustSet(t, keys...))
	return h
}

func TestDiscoveryIsReadOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite("https://id.example/keys", publishing(t, 5*time.Minute, edKey("ed")))
		s.mu.Lock() // the first attempt waits for it, so discovery cannot be over yet
		r := follows(t, &s.origin, RemoteConfig{Issuer: "https://id.example"})
		if got := r.Status().Location; got != "" {
			t.Errorf("location %q before discovery", got)
		}
		s.mu.Unlock()
		wantSet(t, r, "ed")
		if got := r.Status().Location; got != "https://id.example/keys" {
			t.Errorf("location %q", got)
		}
		pass(10*time.Hour + 30*time.Minute)
		if s.discovered < 9 || s.discovered > 11 {
			t.Errorf("read %d times in ten hours and a half", s.discovered)
		}
		if s.bodies != s.discovered+1 {
			t.Errorf("%d bodies; the set has not changed", s.bodies-s.discovered)
		}
	})
}

// TestAnIssuerMayHaveAPath, as the realms and tenants of other servers have: its document is
// after the path, and the whole name is compared.
func TestAnIssuerMayHaveAPath(t *testing.T) {
	for issuer, document := range map[string]string{
		"https://id.example/realms/a": "/realms/a/.well-known/openid-configuration",
		"https://id.example/t/v2.0":   "/t/v2.0/.well-known/openid-configuration",
		"https://id.example/":         "/.well-known/openid-configuration",
		"https://id.example/a/":       "/a/.well-known/openid-configuration",
	} {
		synctest.Test(t, func(t *testing.T) {
			var o origin
			claimed := issuer
			keys := publishing(t, time.Minute, edKey("ed"))
			o.become(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case document:
					fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"https://id.example/keys"}`, claimed)
				case "/keys":
					keys.ServeHTTP(w, r)
				default:
					http.NotFound(w, r)
				}
			}), false)
			r := follows(t, &o, RemoteConfig{Issuer: issuer})
			wantSet(t, r, "ed")
			r.Close()
			claimed = strings.TrimSuffix(issuer, "/") + map[bool]string{true: "", false: "/"}[strings.HasSuffix(issuer, "/")]
			wantUnavailable(t, follows(t, &o, RemoteConfig{Issuer: issuer}))
		})
	}
}

func TestASetThatMovedIsFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite("https://id.example/keys", publishing(t, 5*time.Minute, edKey("a")))
		r := follows(t, &s.origin, RemoteConfig{Issuer: "https://id.example"})
		wantSet(t, r, "a")
		s.change(func() {
			s.location = "https://keys.example/new"
			s.sets = map[string]http.Handler{s.location: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tag := r.Header.Get("If-None-Match"); tag != "" {
					t.Errorf("sent the tag %s of another address", tag)
				}
				publishing(t, 5*time.Minute, edKey("b")).ServeHTTP(w, r)
			})}
		})
		pass(4 * time.Minute) // a refresh that fails, and the next attempt
		if got := r.Status(); got.Location != "https://keys.example/new" || got.Err != nil {
			t.Errorf("%+v", got)
		}
		wantSet(t, r, "b")
		if s.discovered != 2 {
			t.Errorf("discovery read %d times", s.discovered)
		}
	})
}

// R93.
func TestKeysComeFromTheConfiguredIssuerOnly(t *testing.T) {
	const keys = "https://id.example/keys"
	for name, spoil := range map[string]func(s *site){
		"another issuer": func(s *site) { s.issuer = "https://evil.example" },
		"trailing slash": func(s *site) { s.issuer += "/" },
		"plain http":     func(s *site) { s.location = "http://id.example/keys" },
		"loopback":       func(s *site) { s.location = "http://127.0.0.1/keys" },
		"with user":      func(s *site) { s.location = "https://alice:secret@id.example/keys" },
		"with fragment":  func(s *site) { s.location += "#a" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(keys, publishing(t, 5*time.Minute, edKey("ed")))
				s.sets["https://alice:secret@id.example/keys"] = s.sets[keys]
				s.sets["http://id.example/keys"] = s.sets[keys]
				s.sets["http://127.0.0.1/keys"] = s.sets[keys]
				spoil(s)
				r := follows(t, &s.origin, RemoteConfig{Issuer: "https://id.example"})
				wantUnavailable(t, r)
				if got := r.Status(); got.Location != "" || s.count() != 1 || strings.Contains(got.Err.Error(), "secret") {
					t.Errorf("%d requests, %+v", s.count(), got)
				}
			})
		})
	}
}

// R85.
func TestARemoteNotFromNewRemoteIsRefused(t *testing.T) {
	for name, keys := range map[string]*Remote{"nil": nil, "zero": {}} {
		_, err := NewVerifier(VerifierConfig{
			Issuer: "https://id.example", Audience: "orders", Algorithms: []string{EdDSA}, Keys: keys,
		})
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// R93.
func TestAVerifierRefusesAnotherIssuersKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		r := follows(t, &o, RemoteConfig{Issuer: "https://other.example"})
		_, err := NewVerifier(VerifierConfig{
			Issuer: "https://id.example", Audience: "orders", Algorithms: []string{EdDSA}, Keys: r,
		})
		if !errors.Is(err, ErrConfig) {
			t.Error(err)
		}
		// An issuer that becomes another one later is the same case.
		s := newSite("https://id.example/keys", publishing(t, 5*time.Minute, edKey("a")))
		r = follows(t, &s.origin, RemoteConfig{Issuer: "https://id.example"})
		wantSet(t, r, "a")
		s.change(func() {
			s.issuer = "https://evil.example"
			s.sets[s.location] = http.NotFoundHandler() // so that discovery is read again
		})
		pass(5 * time.Minute)
		s.change(func() { s.sets[s.location] = publishing(t, 5*time.Minute, edKey("evil")) })
		pass(30 * time.Minute)
		wantSet(t, r, "a")
		pass(time.Hour)
		wantUnavailable(t, r)
	})
}

func TestAnUnsupportedKeyIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.become(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"keys":[{"kty":"AKP","kid":"new","alg":"ML-DSA-44","pub":"AA"},%s]}`, rfc8037Key)
		}), false)
		r := follows(t, &o, RemoteConfig{})
		wantSet(t, r, "a")
		if s := r.Status(); s.Skipped.Count != 1 || s.Skipped.Keys[0].KID != "new" || s.Err != nil {
			t.Errorf("%+v", s)
		}
	})
}
