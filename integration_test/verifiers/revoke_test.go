package verifiers

import (
	"testing"
	"time"

	"keymill/integration_test/server"
)

// With slow settings no key rotates by itself during a test.
const (
	slow      = "keys:\n" + slowly
	slowOfAll = "keys:\n  algorithms: [RS256, EdDSA, ES256]\n" + slowly

	slowly = "  rotate_every: 1h\n  propagation: 2s\njwks:\n  max_age: 1s"
)

// A key is a row of `key list --json`, with the fields that are needed here.
type key struct {
	KID, Alg, Stage string
	Publish         *time.Time
}

type revocation struct {
	Was, Successor string
	CachedUntil    time.Time  `json:"cached_until"`
	UnknownUntil   *time.Time `json:"unknown_until"`
}

// TestARevokedKeyIsRefusedAfterCachedUntil: when the active key is revoked, the spare signs at once,
// and every cache has it already. The revoked key is refused when the answer's cached_until has
// passed, in every service whose cache obeys max-age or can be configured to.
func TestARevokedKeyIsRefusedAfterCachedUntil(t *testing.T) {
	srv, clients := issuer(t, slow, "10m")
	running := services(t, srv, maxAge)
	for alg := range clients {
		awaitSpare(t, srv, alg)
	}
	before := map[string]string{} // algorithm → token of the key to be revoked
	for alg, c := range clients {
		before[alg] = token(t, srv, c, audienceOf(alg))
	}
	for _, s := range running {
		s.want(t, 200, before[s.alg], "before the revocation")
	}
	after, until := map[string]string{}, time.Time{}
	for alg, c := range clients {
		r := revoke(t, srv, kidOf(before[alg]))
		if r.Was != "active" || r.UnknownUntil != nil {
			t.Fatalf("%s: %+v: want an active key with a successor that every cache knows", alg, r)
		}
		if until.Before(r.CachedUntil) {
			until = r.CachedUntil
		}
		if after[alg] = token(t, srv, c, audienceOf(alg)); kidOf(after[alg]) != r.Successor {
			t.Errorf("%s: signed by %s, want the successor %s", alg, kidOf(after[alg]), r.Successor)
		}
	}
	// No service has had time to fetch. One that accepts the token had the spare in its cache.
	for _, s := range running {
		s.want(t, 200, after[s.alg], "the successor at once")
	}
	if wait := time.Until(until); wait > 2*maxAge {
		t.Errorf("caches may hold the key for %v, longer than max-age", wait)
	}
	time.Sleep(time.Until(until) + maxAge/4)
	for _, s := range running {
		// A service that cannot be configured to obey max-age still accepts the key.
		status := map[bool]int{true: 200, false: 401}[s.least > maxAge]
		if s.reloads {
			s.awaitRefusal(t, before[s.alg])
		}
		s.want(t, status, before[s.alg], "the revoked key after cached_until")
		s.want(t, 200, after[s.alg], "the successor after cached_until")
	}
}

// awaitRefusal waits until the service refuses the token, for at most ten seconds.
func (s service) awaitRefusal(t *testing.T, token string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if status, _, err := s.ask(t.Context(), token); err == nil && status == 401 {
			return
		}
	}
}

func revoke(t *testing.T, srv *server.Server, kid string, flags ...string) revocation {
	t.Helper()
	var r revocation
	srv.RunJSON(t, &r, append([]string{"key", "revoke", kid}, flags...)...)
	return r
}

// awaitSpare waits until alg's ring has a spare that has been published for longer than
// keys.propagation.
func awaitSpare(t *testing.T, srv *server.Server, alg string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var keys []key
		srv.RunJSON(t, &keys, "key", "list")
		for _, k := range keys {
			if k.Alg == alg && k.Stage == "spare" && k.Publish != nil && time.Since(*k.Publish) > 3*time.Second {
				return
			}
		}
	}
	t.Fatalf("%s has no spare", alg)
}
