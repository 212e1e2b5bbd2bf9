package keystore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/integration_test/counts"
	"keymill/storage"
	"keymill/storage/nodes"
)

const yearPoll = 5 * time.Minute

// TestNoTokenOutlivesItsKeyOnSeveralServers: three servers of one store start, stop, are killed and paused, lose the store and
// have clocks that differ by what is allowed. No token is signed after the Stop time of its key, or 3p after a revocation. A
// verifier that fetches from any ready server, and obeys max-age, knows the key of each token, except where an answer said that it
// may not. No ring gets two reserves.
//
// I1, I2.
func TestNoTokenOutlivesItsKeyOnSeveralServers(t *testing.T) {
	nodesYear(t, counts.Of("simulated-node-days"))
}

// TestNoTokenOutlivesItsKeyWhereFunctionsRunAgain is the same on a store that discards runs of functions.
func TestNoTokenOutlivesItsKeyWhereFunctionsRunAgain(t *testing.T) {
	t.Setenv("KEYMILL_RERUN", "1")
	nodesYear(t, max(4, counts.Of("simulated-node-days")/10))
}

func nodesYear(t *testing.T, days int) {
	inCluster(t, func(t *testing.T, c *cluster) {
		c.cfg.RotateEvery, c.cfg.Propagation, c.cfg.MaxAge = 12*time.Hour, time.Hour, 5*time.Minute
		y := &nodeYear{
			t: t, c: c, rnd: rand.New(rand.NewPCG(2031, 7)), revoked: map[string]time.Time{}, stops: map[string]time.Time{},
			excused: map[string]time.Time{}, counts: map[string]int{}, services: make([]service, 5),
		}
		for n := range y.nodes {
			y.start(n)
		}
		raise(t, y.nodes[0].Rings, EdDSA, time.Hour)
		for range days * 24 {
			y.event()
			for range 15 {
				y.pass(4 * time.Minute)
			}
		}
		for n := range y.nodes {
			y.stop(n)
		}
		y.asked.Wait()
		y.judge()
		t.Logf("counted: %d days: %v", days, y.counts)
		for _, what := range []string{"token", "refused", "stop", "kill", "pause", "away", "clock", "rotate", "revoke", "flush", "retired"} {
			if y.counts[what] == 0 {
				t.Errorf("the simulation saw no %s", what)
			}
		}
	})
}

// A nodeYear is three servers and the services that verify their tokens.
type nodeYear struct {
	t        *testing.T
	c        *cluster
	rnd      *rand.Rand
	nodes    [3]*node // nil while it is down
	services []service
	tokens   []liveToken
	stops    map[string]time.Time // kid → its Stop, decision time
	unknown  []liveToken          // that a service did not know, with the time in exp
	counts   map[string]int
	asked    sync.WaitGroup

	mu      sync.Mutex
	revoked map[string]time.Time // kid → since when; owned by mu
	excused map[string]time.Time // kid → until when an answer said that caches may not know it; owned by mu
}

// off is a clock error within what is allowed.
func (y *nodeYear) off() time.Duration { return time.Duration(y.rnd.IntN(100)-50) * time.Second }

func (y *nodeYear) start(n int) {
	y.t.Helper()
	got, err := y.c.nodeOf(nodes.Config{ID: fmt.Sprint("n", n), Poll: yearPoll, Skew: 2 * time.Minute}, y.off())
	if err != nil {
		y.t.Fatal(err)
	}
	got.run(y.t)
	y.nodes[n] = got
}

func (y *nodeYear) stop(n int) {
	y.nodes[n].stop()
	y.nodes[n].away.Store(false)
	if err := y.nodes[n].Close(); err != nil {
		y.t.Fatal(err)
	}
	y.nodes[n] = nil
}

// event is what happens in an hour.
func (y *nodeYear) event() {
	n, down := y.rnd.IntN(3), time.Duration(y.rnd.IntN(45)+1)*time.Minute
	who := y.nodes[n]
	what := []string{"stop", "kill", "pause", "away", "clock", "rotate", "force", "revoke", "flush", "all", "", "", "", ""}[y.rnd.IntN(14)]
	y.counts[what]++
	switch what {
	case "stop", "kill", "all":
		some := []int{n}
		if what == "all" {
			some = []int{0, 1, 2}
		}
		for _, n := range some {
			if what == "kill" {
				y.nodes[n].stop()
				y.nodes[n] = nil
			} else {
				y.stop(n)
			}
		}
		y.minutes(down)
		for _, n := range some {
			y.start(n)
		}
	case "pause":
		who.stop()
		y.nodes[n] = nil
		y.others(n, down)
		y.nodes[n] = who
		y.sign(who) // before it reads anything
		who.run(y.t)
	case "away":
		who.away.Store(true)
		y.others(n, down)
		who.away.Store(false)
	case "clock":
		who.off.Store(int64(y.off()))
	case "rotate", "force", "flush":
		y.rotate(who, RotateRequest{Alg: EdDSA, Force: what == "force", Flush: what == "flush"})
	case "revoke":
		kid, flush := who.signer(), y.rnd.IntN(3) == 0
		if kid == "" {
			return
		}
		y.ask(func() (string, time.Time, error) {
			y.mu.Lock()
			y.revoked[kid] = time.Now()
			y.mu.Unlock()
			got, err := who.Revoke(y.t.Context(), RevokeRequest{KID: kid, Flush: flush}, "test")
			if err != nil {
				y.mu.Lock()
				delete(y.revoked, kid)
				y.mu.Unlock()
			}
			return got.Successor, got.UnknownUntil, err
		}, who)
	}
}

// others lets time pass without node n. The next one rotates in it.
func (y *nodeYear) others(n int, down time.Duration) {
	y.rotate(y.nodes[(n+1)%3], RotateRequest{Alg: EdDSA, Force: true})
	y.minutes(down)
}

func (y *nodeYear) rotate(who *node, req RotateRequest) {
	y.ask(func() (string, time.Time, error) {
		got, err := who.Rotate(y.t.Context(), req, "test")
		return got.KID, got.UnknownUntil, err
	}, who)
}

// ask lets an operator ask while time passes, and notes until when the answer excuses verifiers.
func (y *nodeYear) ask(decide func() (kid string, until time.Time, err error), who *node) {
	y.asked.Go(func() {
		kid, until, err := decide()
		y.mu.Lock()
		defer y.mu.Unlock()
		if err == nil && !until.IsZero() {
			y.excused[kid] = time.Now().Add(until.Sub(who.Now()))
		}
	})
	synctest.Wait()
}

func (y *nodeYear) minutes(d time.Duration) {
	for ; d > 0; d -= 4 * time.Minute {
		y.pass(4 * time.Minute)
	}
}

// pass lets time pass. In it, servers sign, services fetch, and everything is checked.
func (y *nodeYear) pass(d time.Duration) {
	first := time.Duration(y.rnd.Int64N(int64(d)))
	time.Sleep(first)
	synctest.Wait()
	for _, n := range y.nodes {
		y.sign(n)
	}
	y.check()
	time.Sleep(d - first)
}

// sign asks a server for a token, as a client does.
func (y *nodeYear) sign(n *node) {
	if n == nil {
		return
	}
	exp := n.WallTime().Add(time.Duration(y.rnd.IntN(60)) * time.Minute)
	_, kid, err := n.activeSigner(EdDSA, exp)
	if err != nil {
		y.counts["refused"]++
		return
	}
	y.counts["token"]++
	y.mu.Lock()
	defer y.mu.Unlock()
	if at, found := y.revoked[kid]; found && time.Since(at) > 3*yearPoll {
		y.t.Fatalf("%s signs with %s, which was revoked %v ago", n.cfg.Nodes.ID(), kid, time.Since(at))
	}
	if stop, known := y.stops[kid]; known && n.Now().After(stop) {
		y.t.Fatalf("%s signs with %s %v after it stopped", n.cfg.Nodes.ID(), kid, n.Now().Sub(stop))
	}
	y.tokens = append(y.tokens, liveToken{kid: kid, exp: exp})
}

// check checks what must hold at every instant.
func (y *nodeYear) check() {
	now := time.Now()
	y.mu.Lock()
	y.tokens = slices.DeleteFunc(y.tokens, func(t liveToken) bool { return !now.Before(t.exp) || !y.revoked[t.kid].IsZero() })
	y.mu.Unlock()
	for _, n := range y.nodes {
		if n == nil || n.current() != nil {
			continue
		}
		y.counts["reserves"] = 0
		for _, k := range n.snapshot.Load().rings[EdDSA].Keys {
			if k.Publish.Year() == 9999 {
				y.counts["reserves"]++
			}
		}
		if y.counts["reserves"] > 1 {
			y.t.Fatalf("%d reserves", y.counts["reserves"])
		}
		for _, k := range n.snapshot.Load().retired {
			if y.stops[k.KID].IsZero() {
				y.counts["retired"]++
				y.stops[k.KID] = k.Stop
			}
		}
		kids := publishedBy(n)
		for _, t := range y.tokens {
			if !slices.Contains(kids, t.kid) {
				y.unknown = append(y.unknown, liveToken{kid: t.kid, exp: now})
			}
		}
	}
	for i := range y.services {
		s := &y.services[i]
		if !now.Before(s.expires) {
			y.fetch(s, now)
		}
		for _, t := range y.tokens {
			if now.Before(s.expires) && !s.kids[t.kid] {
				y.unknown = append(y.unknown, liveToken{kid: t.kid, exp: now})
			}
		}
	}
}

// fetch gets the set from one of the servers that are ready.
func (y *nodeYear) fetch(s *service, now time.Time) {
	n := y.nodes[y.rnd.IntN(3)]
	if n == nil || n.current() != nil {
		return
	}
	s.expires, s.kids = now.Add(n.cfg.MaxAge), map[string]bool{}
	for _, kid := range publishedBy(n) {
		s.kids[kid] = true
	}
}

// judge compares what verifiers did not know with what answers said.
func (y *nodeYear) judge() {
	for _, u := range y.unknown {
		if y.revoked[u.kid].IsZero() && u.exp.After(y.excused[u.kid]) {
			y.t.Fatalf("at %s a verifier did not know %s, and no answer had said so (only until %s)", u.exp, u.kid, y.excused[u.kid])
		}
	}
	y.counts["excused"] = len(y.unknown)
	if err := y.c.store.View(y.t.Context(), func(storage.Reader) error { return nil }); err != nil {
		y.t.Fatal(err)
	}
}
