package jwks

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// An origin is the server of an issuer in a synctest bubble: the real handlers without sockets,
// which would stop the clock of the bubble.
type origin struct {
	mu     sync.Mutex
	answer http.Handler // nil: connections are refused
	hangs  bool         // no request is answered
	asked  int
	bodies int // answers with a body
	header http.Header
}

func (o *origin) RoundTrip(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	o.asked++
	o.header = r.Header
	answer, hangs := o.answer, o.hangs
	o.mu.Unlock()
	if hangs {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if answer == nil {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	answer.ServeHTTP(w, r)
	o.mu.Lock()
	defer o.mu.Unlock()
	if w.Body.Len() > 0 {
		o.bodies++
	}
	return w.Result(), nil
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

// become changes what the server does.
func (o *origin) become(answer http.Handler, hangs bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer, o.hangs = answer, hangs
}

func (o *origin) publish(t testing.TB, maxAge time.Duration, keys ...Key) {
	h := NewHandler(maxAge)
	h.Publish(mustSet(t, keys...))
	o.become(h, false)
}

// follows returns a Remote for the set of o that is closed with the test.
func follows(t testing.TB, o *origin, c RemoteConfig) *Remote {
	t.Helper()
	if c.Issuer == "" {
		c.URL = "https://id.example/keys"
	}
	c.Client = &http.Client{Transport: o}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r, err := NewRemote(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// lasting returns a payload that is valid in the year 2000, when bubbles begin, and long after.
func lasting() string { return payload("exp", "4000000000", "iat", "") }

func tokenOf(kid string) string {
	return sign(fmt.Sprintf(`{"alg":"EdDSA","kid":%q,"typ":"at+jwt"}`, kid), lasting())
}

// wantSet fails unless r uses exactly the keys with these kids.
func wantSet(t testing.TB, r *Remote, kids ...string) {
	t.Helper()
	set, err := r.Set(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range set.Keys() {
		got = append(got, k.KID)
	}
	if strings.Join(got, " ") != strings.Join(kids, " ") {
		t.Fatalf("keys %q, want %q", got, kids)
	}
}

func wantUnavailable(t testing.TB, r *Remote) {
	t.Helper()
	if set, err := r.Set(t.Context()); !errors.Is(err, ErrUnavailable) || set != nil {
		t.Fatalf("%v, %v; want ErrUnavailable", set, err)
	}
}

// pass lets time pass in a bubble, and waits until everything that is due is done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// after answers like h, but late.
func after(d time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(d)
		h.ServeHTTP(w, r)
	})
}
