package verifiers

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A front serves an issuer's key set below the name of each library, with a max-age of four seconds, and counts.
type front struct {
	set     []byte
	broken  atomic.Bool
	mu      sync.Mutex     // guards fetches
	fetches map[string]int // library → how often it has fetched the set
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.fetches[strings.TrimPrefix(path.Dir(path.Dir(r.URL.Path)), "/")]++
	f.mu.Unlock()
	if f.broken.Load() {
		http.Error(w, "broken", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=4")
	w.Write(f.set)
}

func (f *front) fetched(library string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fetches[library]
}

// TestThePagesFetchSeldomAndFailClosed: verifiers whose page says so use a cached set without a fetch, do not fetch for every
// invented kid, refuse all tokens when max-age is over and the issuer does not answer, and accept them when it answers again.
func TestThePagesFetchSeldomAndFailClosed(t *testing.T) {
	t.Parallel() // it waits for max-age
	srv, clients := issuer(t, slow, "10m")
	m := newMints(t, srv, clients)["EdDSA"]
	resp, err := http.Get(srv.Issuer + "/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	f := &front{fetches: map[string]int{}}
	if f.set, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	site := httptest.NewServer(f)
	defer site.Close()
	invented := m.key
	invented.kid = "invented"
	valid := map[string]string{} // library → token
	var running []service
	for _, name := range []string{"ruby-jwt", "crypt-jwt", "php", "jose4j"} {
		l := libraryOf(t, name)
		s := l.prepare(t, "EdDSA")
		origin := site.URL + "/" + name
		if s.url, err = l.start(t, settings{issuer: origin, audience: s.audience, alg: s.alg}); err != nil {
			didNotStart(t, err)
		}
		running, valid[name] = append(running, s), m.claim(object{"iss": origin})
	}
	inTurn(running, func(s service) { f.flood(t, s, valid[s.library.name], m.by(invented)) })
	f.broken.Store(true)
	time.Sleep(4*time.Second + maxAge/4)
	inTurn(running, func(s service) { s.want(t, 401, valid[s.library.name], "a valid token when max-age is over") })
	f.broken.Store(false)
	inTurn(running, func(s service) {
		status := 0
		for begun := time.Now(); status != 200 && time.Since(begun) < 20*time.Second; time.Sleep(100 * time.Millisecond) {
			status, _, _ = s.ask(t.Context(), valid[s.library.name])
		}
		if status != 200 {
			t.Errorf("%s: %d after the issuer answers again, want 200", s.name, status)
		}
	})
}

// flood sends a valid token and one with an invented kid in turns.
func (f *front) flood(t *testing.T, s service, valid, invented string) {
	between := 3 * time.Second // the cooldown is no longer than max-age, and PHP counts whole seconds
	if s.library.name == "jose4j" {
		between = 300 * time.Millisecond
	}
	begun := time.Now()
	for range 20 {
		s.want(t, 200, valid, "a valid token")
		s.want(t, 401, invented, "an invented kid")
	}
	if n := f.fetched(s.library.name); n < 1 || n > 1+int(time.Since(begun)/between) {
		t.Errorf("%s has fetched the set %d times in %v", s.name, n, time.Since(begun))
	}
}
