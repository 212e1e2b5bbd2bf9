package keyset

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"keymill/issuer/verifiers"
	"keymill/keystore"
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

// BenchmarkHandler compares an answer that is not followed with those that are.
func BenchmarkHandler(b *testing.B) {
	set := New(time.Minute)
	set.Publish(keys(b, 4))
	watch := Watch{
		Addresses: func(*http.Request) (client, through netip.Addr) { return netip.IPv4Unspecified(), netip.Addr{} },
		Identify:  func(string) string { return "orders-api" },
		Served:    func(verifiers.Fetch) {},
	}
	for _, tt := range []struct {
		name, target, header string
		watch                Watch
	}{
		{"plain", Path, "", Watch{}}, {"followed", Path, "", watch}, {"header", Path, good, watch}, {"parameter", Path + "?verifier=" + good, "", watch},
	} {
		b.Run(tt.name, func(b *testing.B) {
			h, r, w := set.Handler(tt.watch), httptest.NewRequest("GET", tt.target, nil), httptest.NewRecorder()
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
