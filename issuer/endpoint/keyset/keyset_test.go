package keyset

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/verifiers"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage/bolt"
)

// TestAnInvalidKeyIsLeftOutAndNamed, and the others are published.
func TestAnInvalidKeyIsLeftOutAndNamed(t *testing.T) {
	set, odd := New(time.Minute), keystore.PublicKey{KID: "odd", Alg: "HS256", Public: []byte("x")}
	set.Publish(append(keys(t, 2), odd))
	served := func() string {
		w := httptest.NewRecorder()
		if err := set.Handler(Watch{})(w, httptest.NewRequest("GET", Path, nil)); err != nil || w.Code != 200 {
			t.Fatalf("%d, %v", w.Code, err)
		}
		return w.Body.String()
	}
	if body := served(); !strings.Contains(body, "key-0") || !strings.Contains(body, "key-1") || strings.Contains(body, "odd") {
		t.Errorf("the set is %s", body)
	}
	if issue := set.Issue(); !strings.HasPrefix(issue, "key odd is not published: ") {
		t.Errorf("the issue is %q", issue)
	}
	set.Publish(keys(t, 1))
	if issue, body := set.Issue(), served(); issue != "" || strings.Contains(body, "key-1") {
		t.Errorf("after a set without fault: %q, %s", issue, body)
	}
}

// pinnedIn opens a registry and pins a verifier in it. The set gets the keys of the same store.
func pinnedIn(b testing.TB, set *KeySet) (r *verifiers.Registry, credential string) {
	b.Helper()
	store, err := bolt.Open(filepath.Join(b.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	cfg := keystore.Config{
		Algorithms: []string{jwks.EdDSA}, RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: set.MaxAge(), Changed: set.Publish,
	}
	_, err = keystore.Create(b.Context(), store, cfg, "test", "test")
	if err != nil {
		b.Fatal(err)
	}
	rings, err := keystore.Open(b.Context(), store, cfg)
	if err != nil {
		b.Fatal(err)
	}
	r, err = verifiers.Open(b.Context(), verifiers.Config{URL: "https://id.example" + Path, Store: rings.Store(), Keys: rings, MaxAge: set.MaxAge()})
	if err != nil {
		b.Fatal(err)
	}
	v, err := r.Add(b.Context(), api.NewVerifier{Name: "orders-api"}, "uid:0")
	if err != nil {
		b.Fatal(err)
	}
	return r, v.Credential
}

// BenchmarkHandler compares an answer that is not followed with those that are.
func BenchmarkHandler(b *testing.B) {
	set := New(time.Minute)
	registry, credential := pinnedIn(b, set)
	peer := func(r *http.Request) (client, through netip.Addr) {
		a, _ := netip.ParseAddrPort(r.RemoteAddr)
		return a.Addr(), netip.Addr{}
	}
	watch := Watch{Pinned: registry.ServedPinned, Observed: registry.Served, Again: registry.ServedAgain, Addresses: peer}
	for _, tt := range []struct {
		name, target, header string
		watch                Watch
	}{
		{"plain", Path, "", Watch{}}, {"observed", Path, "", watch}, {"header", Path, credential, watch}, {"parameter", Path + "?verifier=" + credential, "", watch},
	} {
		b.Run(tt.name, func(b *testing.B) {
			h, r, w := set.Handler(tt.watch), httptest.NewRequest("GET", tt.target, nil), httptest.NewRecorder()
			r.Header.Set("User-Agent", "Go-http-client/1.1")
			if tt.header != "" {
				r.Header.Set("Keymill-Verifier", tt.header)
			}
			b.ReportAllocs()
			for b.Loop() {
				w.Body.Reset()
				if h(w, r) != nil || w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
