package verifiers

import (
	"testing"
	"time"

	"keymill/integration_test/server"
)

// slow keys: within the test only a command moves them.
const slow = "keys:\n  rotate_every: 1h\n  propagation: 2s\njwks:\n  max_age: 1s"

// A key is a row of `key list --json`; the other fields are not needed here.
type key struct {
	KID, Alg, Stage string
	Publish         *time.Time
}

type revocation struct {
	Was, Successor string
	CachedUntil    time.Time  `json:"cached_until"`
	UnknownUntil   *time.Time `json:"unknown_until"`
}

// TestARevokedKeyDiesWithTheCaches: the spare signs at once and every cache knows it
// already; the revoked key is refused as soon as the cached_until of the answer has
// passed, in every service whose cache obeys max-age or can be told to.
func TestARevokedKeyDiesWithTheCaches(t *testing.T) {
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
	// Nobody has had time to fetch: whoever accepts knew the spare beforehand.
	for _, s := range running {
		s.want(t, 200, after[s.alg], "the successor at once")
	}
	if wait := time.Until(until); wait > 2*maxAge {
		t.Errorf("caches may hold the key for %v, longer than max-age", wait)
	}
	time.Sleep(time.Until(until) + maxAge/4)
	for _, s := range running {
		// Who cannot be told to obey max-age is known to keep the key.
		status := map[bool]int{true: 200, false: 401}[s.least > maxAge]
		s.want(t, status, before[s.alg], "the revoked key after cached_until")
		s.want(t, 200, after[s.alg], "the successor after cached_until")
	}
}

// TestGoOIDCRefusesARevokedKeyAfterTheNextUnknownKid: left as it is, go-oidc keeps a
// key that it knows until some token makes it fetch. `key rotate --force` onto a
// key that it has not met is the operator's way to make that happen.
func TestGoOIDCRefusesARevokedKeyAfterTheNextUnknownKid(t *testing.T) {
	srv, clients := issuer(t, slow, "10m")
	for _, alg := range both { // both first: the second spare is there when the first one is
		awaitSpare(t, srv, alg)
	}
	running, before := map[string]service{}, map[string]string{} // by algorithm
	for _, alg := range both {
		s := makerOf(t, "go-oidc").service(t, srv, alg, 0)
		running[alg], before[alg] = s, token(t, srv, clients[alg], s.audience)
		s.want(t, 200, before[alg], "before the revocation")
		revoke(t, srv, kidOf(before[alg]))
		s.want(t, 200, token(t, srv, clients[alg], s.audience), "the successor, which it knows")
	}
	for alg, s := range running {
		awaitSpare(t, srv, alg)
		srv.Run(t, "key", "rotate", "--alg", alg, "--force")
		s.want(t, 200, token(t, srv, clients[alg], s.audience), "a key that it has to fetch")
		s.want(t, 401, before[alg], "the revoked key after that fetch")
	}
}

func revoke(t *testing.T, srv *server.Server, kid string) revocation {
	t.Helper()
	var r revocation
	srv.RunJSON(t, &r, "key", "revoke", kid)
	return r
}

// awaitSpare waits until alg's ring has a spare that has been published for longer than
// propagation.
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
