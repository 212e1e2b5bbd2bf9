package keyset

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/verifiers"
	"keymill/jwks"
)

// TestACallerThatIsKnownByItsConnectionIsTheSame: 1,500 callers come in any order, on connections that share places,
// change their programs and come through proxies. The list is that of a registry to which each one is new.
func TestACallerThatIsKnownByItsConnectionIsTheSame(t *testing.T) {
	set := New(time.Minute)
	registry, credential := pinnedIn(t, set)
	reference, _ := pinnedIn(t, New(time.Minute))
	addresses := func(r *http.Request) (client, through netip.Addr) {
		a, _ := netip.ParseAddrPort(r.RemoteAddr)
		if Proxied(r) {
			return netip.MustParseAddr("203.0.113.9"), a.Addr()
		}
		return a.Addr(), netip.Addr{}
	}
	observed, again := 0, 0
	h := set.Handler(Watch{
		Pinned: registry.ServedPinned, Addresses: addresses,
		Observed: func(f verifiers.Fetch) *verifiers.Visitor {
			observed++
			return registry.Served(f)
		},
		Again: func(v *verifiers.Visitor, s *jwks.Set) bool {
			known := registry.ServedAgain(v, s)
			if known {
				again++
			}
			return known
		},
	})
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	agents := []string{"", "PyJWT/2.8", "Go-http-client/1.1", strings.Repeat("a", maxKnownAgent), strings.Repeat("a", maxKnownAgent+1), strings.Repeat("a", 10_000)}
	const requests = 20_000
	pinned, last := 0, new(http.Request)
	for n := range requests {
		callers := 1500
		if n%2 != 0 {
			callers = 20 // who come often
		}
		r := httptest.NewRequest("GET", Path, nil)
		at := rnd.IntN(callers)
		r.RemoteAddr = fmt.Sprintf("192.0.%d.%d:%d", at>>8, at&255, 1001+at%3*1000)
		r.Header.Set("User-Agent", agents[rnd.IntN(len(agents))])
		if n%4000 == 0 { // one that is forgotten in between, while the place of its connection is left alone
			r.RemoteAddr = "192.0.2.7:7777"
			r.Header.Set("User-Agent", "rare")
		}
		switch rnd.IntN(12) {
		case 0:
			r.Header.Set([]string{"Via", "X-Forwarded-For", "Forwarded"}[rnd.IntN(3)], "x")
		case 1:
			r.Header.Set(jwks.VerifierHeader, credential)
			pinned++
		case 2:
			r.Header.Set(jwks.VerifierHeader, "orders-api.aaaaaaaaaaaaaaaa")
		case 3, 4, 5:
			if n > 0 {
				r = last
			}
		}
		if last = r; h(httptest.NewRecorder(), r) != nil {
			t.Fatal("no answer")
		}
		if r.Header.Get(jwks.VerifierHeader) != credential {
			client, through := addresses(r)
			reference.Served(verifiers.Fetch{Address: client, Through: through, Agent: r.UserAgent(), Set: set.set})
		}
	}
	show := func(r *verifiers.Registry) (list []string) {
		for _, o := range r.Observed() {
			list = append(list, fmt.Sprint(o.Address, " ", o.Through, " ", o.Agent, " ", o.Fetches))
		}
		return list
	}
	got, want := show(registry), show(reference)
	if !slices.Equal(got, want) || len(got) != 1000 {
		t.Errorf("seed %d: %d callers, want %d", seed, len(got), len(want))
		for n := range min(len(got), len(want)) {
			if got[n] != want[n] {
				t.Fatalf("number %d is %.80s, want %.80s", n, got[n], want[n])
			}
		}
	}
	if again < requests/10 || observed < requests/10 || pinned == 0 {
		t.Errorf("%d answers to callers known by their connections, %d to others", again, observed)
	}
}
