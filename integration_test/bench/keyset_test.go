package main

import (
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keymill/jwks"
)

// TestEachLoadOfTheKeySetFetchesInItsOwnWay: with the credential where the load says, and with 304 after its first answer if
// the caller knows the set.
func TestEachLoadOfTheKeySetFetchesInItsOwnWay(t *testing.T) {
	set, err := jwks.NewSet(jwks.Key{KID: "ed", Alg: jwks.EdDSA, Public: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public()})
	if err != nil {
		t.Fatal(err)
	}
	h := jwks.NewHandler(time.Minute)
	h.Publish(set)
	var requests, known, header, parameter atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.Header.Get("If-None-Match") == set.ETag() {
			known.Add(1)
		}
		if r.Header.Get(jwks.VerifierHeader) == unpinned {
			header.Add(1)
		}
		if r.URL.Query().Get(jwks.VerifierParameter) == unpinned {
			parameter.Add(1)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	to := target{address: strings.TrimPrefix(s.URL, "http://"), credential: unpinned}
	if err := checkKeySet(to); err != nil {
		t.Fatal(err)
	}
	for _, l := range keySetLoads() {
		for _, n := range []*atomic.Int64{&requests, &known, &header, &parameter} {
			n.Store(0)
		}
		conn, err := dial(to.address, 2, func() caller { return l.caller(to) })
		if err != nil {
			t.Fatal(err)
		}
		// On a busy machine a slice can have very few requests.
		for end := time.Now().Add(10 * time.Second); requests.Load() < 6 && time.Now().Before(end); {
			if _, err := conn.run(20 * time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
		conn.close()
		all := requests.Load()
		want := func(what string, got int64, expected bool, first int64) {
			t.Helper()
			if expected && got != all-first || !expected && got != 0 {
				t.Errorf("%s: %d of %d requests with %s", l.name, got, all, what)
			}
		}
		want("the ETag", known.Load(), l.known, 2) // each connection learns it
		want("a header", header.Load(), l.header, 0)
		want("a parameter", parameter.Load(), l.parameter, 0)
		if all < 6 {
			t.Errorf("%s: %d requests", l.name, all)
		}
	}
	s.Config.Handler = http.NotFoundHandler()
	if err := checkKeySet(to); err == nil {
		t.Error("an answer of 404 would be measured")
	}
}
