package keystore

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/jwks"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
)

// check checks what must hold at every instant of the simulated year.
func (w *world) check() {
	w.t.Helper()
	now := time.Now()
	w.tokens = slices.DeleteFunc(w.tokens, func(t liveToken) bool { return !now.Before(t.exp) || w.revoked[t.kid] })
	published, _ := w.fetch()
	kids := make(map[string]bool)
	for _, k := range published.Keys() {
		kids[k.KID] = true
	}
	for _, t := range w.tokens {
		if !kids[t.kid] {
			w.t.Fatalf("at %s the key %s of a live token is not published", now, t.kid)
		}
	}
	for kid := range w.revoked {
		if kids[kid] {
			w.t.Fatalf("the revoked key %s is published", kid)
		}
	}
	for i, s := range w.services {
		if !now.Before(s.expires) {
			if w.turn%len(w.services) != i {
				continue
			}
			s.fetch(w, now)
		}
		w.verifyAt(s, now)
	}
	w.checkErased(now)
}

func (s *service) fetch(w *world, now time.Time) {
	set, maxAge := w.fetch()
	s.set, s.expires, s.kids = set, now.Add(maxAge), make(map[string]bool)
	for _, k := range set.Keys() {
		s.kids[k.KID] = true
	}
}

// verifyAt looks in the service's set for the keys of all live tokens, and sometimes
// verifies the newest token.
func (w *world) verifyAt(s *service, now time.Time) {
	for _, t := range w.tokens {
		w.tally.checks++
		switch {
		case s.kids[t.kid]:
		case now.Before(w.excused[t.kid]):
			w.tally.unknownExcused++
		default:
			w.t.Fatalf("at %s, %s after the start, a verifier that obeys max-age does not know the kid %s", now, now.Sub(w.booted), t.kid)
		}
	}
	if newest := len(w.tokens) - 1; newest >= 0 && w.rnd.IntN(10) == 0 && s.kids[w.tokens[newest].kid] {
		t := w.tokens[newest]
		if _, err := jwks.Check(t.text, s.set, expectation(t.alg), now); err != nil && !errors.Is(err, jwks.ErrExpired) && !errors.Is(err, jwks.ErrNotYet) {
			w.t.Fatalf("at %s a verifier refused a live token: %v", now, err)
		}
	}
}

// checkErased checks in the store that the private half of a key is erased after Stop and
// skew, unless the clock was disturbed.
func (w *world) checkErased(now time.Time) {
	for _, k := range w.list() {
		if k.Stage != Retiring {
			continue
		}
		if _, seen := w.stopped[k.KID]; !seen {
			w.stopped[k.KID] = now
			w.tally.scheduled++
		}
	}
	if now.Before(w.upset) {
		return
	}
	err := w.store.View(w.t.Context(), func(r storage.Reader) error {
		for kid, since := range w.stopped {
			if now.Sub(since) < 2*time.Minute+5*time.Minute { // skew and a tick
				continue
			}
			if _, err := r.Get(privateKey(kid)); !errors.Is(err, storage.ErrNotFound) {
				w.t.Fatalf("%s after its Stop time the private half of %s still exists (%v)", now.Sub(since), kid, err)
			}
			delete(w.stopped, kid)
			w.stopped[kid] = schedule.Never
			w.tally.erased++
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// fetch requests the set from the handler, as a client does.
func (w *world) fetch() (*jwks.Set, time.Duration) {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/.well-known/jwks.json", nil))
	if !bytes.Equal(rec.Body.Bytes(), w.document) { // a service with an ETag does not parse it again either
		set, err := jwks.Parse(rec.Body.Bytes())
		if err != nil {
			w.t.Fatal(err)
		}
		w.document, w.fetched = rec.Body.Bytes(), set
	}
	_, age, _ := strings.Cut(rec.Header().Get("Cache-Control"), "max-age=")
	seconds, err := strconv.Atoi(age)
	if err != nil {
		w.t.Fatalf("no max-age: %v", err)
	}
	return w.fetched, time.Duration(seconds) * time.Second
}

func (w *world) list() []KeyInfo {
	w.t.Helper()
	keys, err := w.rings.List(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

func (w *world) kids() []string {
	var out []string
	for _, k := range w.list() {
		out = append(out, k.KID+" "+string(k.Stage))
	}
	return out
}
