package keystore

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"keymill/storage"
)

// signUntil lets all nodes sign every half second until end, and returns when each of them signed with kid last.
func signUntil(t *testing.T, end time.Time, kid string, all ...*node) map[string]time.Time {
	t.Helper()
	last := map[string]time.Time{}
	for time.Now().Before(end) {
		for _, n := range all {
			if n.signer() == kid {
				last[n.cfg.Nodes.ID()] = time.Now()
			}
		}
		time.Sleep(time.Second / 2)
	}
	return last
}

// TestARotationOnASharedStoreIsTheSameForAllNodes: it returns when every live node has read it, and all of them
// change the key at the same time, also one that cannot read the store in between.
func TestARotationOnASharedStoreIsTheSameForAllNodes(t *testing.T) {
	for what, req := range map[string]RotateRequest{"rotate": {Alg: EdDSA}, "force": {Alg: EdDSA, Force: true}, "flush": {Alg: EdDSA, Flush: true}} {
		for _, away := range []bool{false, true} {
			inCluster(t, func(t *testing.T, c *cluster) {
				a, b, d := c.start("a"), c.start("b"), c.start("d")
				c.raise(a)
				time.Sleep(20*time.Minute + time.Second)
				old, began := a.signer(), time.Now()
				d.away.Store(away)
				got, err := a.Rotate(t.Context(), req, "test")
				took := time.Since(began)
				if err != nil || got.Previous != old || got.KID == old {
					t.Fatalf("%s: %+v, %v", what, got, err)
				}
				if until := got.Sign.Sub(began); until != 3*testPoll {
					t.Errorf("%s: signs after %v", what, until)
				}
				if missing := strings.Join(got.Missing, " "); away && (missing != "d" || took < 2*testPoll || took > 3*testPoll) || !away && (missing != "" || took > testPoll+2*time.Second) {
					t.Errorf("%s: missing %q after %v", what, missing, took)
				}
				last := signUntil(t, began.Add(time.Minute), old, a, b, d)
				for id, at := range last {
					if at.After(got.Sign) || !away && at.Before(got.Sign.Add(-2*time.Second)) {
						t.Errorf("%s: %s signed with the old key until %v after the decision", what, id, at.Sub(began))
					}
				}
				if kid := b.signer(); kid != got.KID || a.signer() != kid {
					t.Errorf("%s: a signs with %s, b with %s, want %s", what, a.signer(), kid, got.KID)
				}
				if kids := strings.Join(publishedBy(b), " "); kids != strings.Join(publishedBy(a), " ") || !strings.Contains(kids, old) {
					t.Errorf("%s: published by b: %s", what, kids)
				}
			})
		}
	}
}

// TestASecondRotationWaitsForTheFirst: what was decided does not move.
func TestASecondRotationWaitsForTheFirst(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a, b := c.start("a"), c.start("b")
		time.Sleep(time.Minute)
		first, err := a.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test")
		if err != nil {
			t.Fatal(err)
		}
		var refused *NotReadyError
		if _, err := b.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test"); !errors.As(err, &refused) || !refused.At.Equal(first.Sign) {
			t.Errorf("a second rotation: %v", err)
		}
		time.Sleep(3 * testPoll)
		if kid := b.signer(); kid != first.KID {
			t.Errorf("b signs with %s, want %s", kid, first.KID)
		}
	})
}

// TestARevocationOnASharedStore: the spare signs at once, and the others follow within 3p. With a flush the spare signs
// until every node knows the reserve.
func TestARevocationOnASharedStore(t *testing.T) {
	for _, flush := range []bool{false, true} {
		inCluster(t, func(t *testing.T, c *cluster) {
			a, b, d := c.start("a"), c.start("b"), c.start("d")
			time.Sleep(20*time.Minute + time.Second)
			old, spare := stage(t, a.Rings, Active), stage(t, a.Rings, Spare)
			d.away.Store(true)
			began := time.Now()
			got, err := b.Revoke(t.Context(), RevokeRequest{KID: old, Flush: flush}, "test")
			if err != nil || strings.Join(got.Missing, " ") != "d" {
				t.Fatalf("%+v, %v", got, err)
			}
			time.Sleep(time.Until(began.Add(3 * testPoll)))
			if kid := a.signer(); kid != spare && !flush || flush && (kid != got.Successor || got.Successor == spare) {
				t.Errorf("flush %v: after 3p a signs with %s, want %s", flush, kid, got.Successor)
			}
			if d.signer() != "" {
				t.Error("a node that has not read the revocation signs after 3p")
			}
			d.away.Store(false)
			time.Sleep(testPoll)
			for _, n := range []*node{a, b, d} {
				if kids := publishedBy(n); strings.Contains(strings.Join(kids, " "), old) || n.signer() != got.Successor {
					t.Errorf("flush %v: %s publishes %v and signs with %q", flush, n.cfg.Nodes.ID(), kids, n.signer())
				}
			}
			if until := got.CachedUntil.Sub(began); until < time.Minute+3*testPoll {
				t.Errorf("caches may have it for %v", until)
			}
		})
	}
}

// TestARevocationThatAllNodesReadReturnsSoon, and the key that signs on each of them changes at once.
func TestARevocationThatAllNodesReadReturnsSoon(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a, b := c.start("a"), c.start("b")
		time.Sleep(20*time.Minute + time.Second)
		began := time.Now()
		got, err := a.Revoke(t.Context(), RevokeRequest{KID: a.signer()}, "test")
		if err != nil || len(got.Missing) > 0 || time.Since(began) > testPoll+2*time.Second {
			t.Errorf("%+v, %v after %v", got, err, time.Since(began))
		}
		if a.signer() != got.Successor || b.signer() != got.Successor {
			t.Errorf("a signs with %s, b with %s, want %s", a.signer(), b.signer(), got.Successor)
		}
	})
}

// TestAStartBesideOtherNodesMovesNoSchedule: the set was served all the time, so a rotation stays possible.
func TestAStartBesideOtherNodesMovesNoSchedule(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a")
		time.Sleep(30 * time.Minute)
		before := fmt.Sprint(a.snapshot.Load().rings[EdDSA].Keys)
		for range 3 {
			b := c.start("b")
			time.Sleep(time.Minute)
			b.stop()
			time.Sleep(time.Minute)
		}
		if after := fmt.Sprint(a.snapshot.Load().rings[EdDSA].Keys); after != before {
			t.Errorf("the ring was\n%s\nand is\n%s", before, after)
		}
		if _, err := a.Rotate(t.Context(), RotateRequest{Alg: EdDSA}, "test"); err != nil {
			t.Error(err)
		}
	})
}

// TestARingGoesOnWhileAnotherNodeSignsWithIt, although a node starts without it, and stops when the last one is gone.
func TestARingGoesOnWhileAnotherNodeSignsWithIt(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		c.cfg.Algorithms = []string{EdDSA, ES256}
		without := func(cfg *Config) { cfg.Algorithms = []string{EdDSA} }
		a := c.start("a")
		time.Sleep(15 * time.Minute) // the ring is new, and signs after propagation
		b := c.start("b", without)
		time.Sleep(time.Minute)
		if ring := b.snapshot.Load().rings[ES256]; !ring.Has(b.Now(), Active) || a.Ready(ES256) != nil {
			t.Errorf("the ring that a signs with is %+v", ring)
		}
		a.stop()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		b.stop()
		b = c.start("b", without)
		if ring := b.snapshot.Load().rings[ES256]; len(ring.Keys) > 0 {
			t.Errorf("no node signs with the ring, and it is %+v", ring)
		}
	})
}

// TestTheLongestTimesOfAllNodesCount, and those of a node that has gone until caches of its set expire.
func TestTheLongestTimesOfAllNodesCount(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a")
		time.Sleep(time.Minute)
		b := c.start("b", func(cfg *Config) {
			cfg.MaxAge, cfg.Propagation, cfg.RotateEvery = 4*time.Minute, 20*time.Minute, 2*time.Hour
		})
		time.Sleep(testPoll + time.Second)
		if p := a.policy(); p.MaxAge != 4*time.Minute || p.Propagation != 20*time.Minute || p.RotateEvery != 2*time.Hour {
			t.Errorf("%+v", p)
		}
		if st := a.Status(); st.MaxAge != time.Minute {
			t.Errorf("the own setting is %v", st.MaxAge)
		}
		b.stop()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(testPoll + time.Second)
		if p := a.policy(); p.MaxAge != time.Minute || p.OldCachesUntil.Sub(a.Now()) < 4*time.Minute {
			t.Errorf("%+v", p)
		}
	})
}

// TestNodesWithOtherSettingsMoveNoSignTimeToAndFro: all of them use the longest rotate_every.
func TestNodesWithOtherSettingsMoveNoSignTimeToAndFro(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a")
		c.start("b", func(cfg *Config) { cfg.RotateEvery = 3 * time.Hour })
		time.Sleep(time.Minute)
		moved, last := 0, a.snapshot.Load().rings[EdDSA].Keys[1].Sign
		for range 50 {
			time.Sleep(time.Minute)
			if next := a.snapshot.Load().rings[EdDSA].Keys[1].Sign; !next.Equal(last) {
				moved, last = moved+1, next
			}
		}
		if moved > 0 {
			t.Errorf("the Sign time moved %d times", moved)
		}
	})
}

// TestAShortPropagationStopsAStart beside a node with a longer max-age.
func TestAShortPropagationStopsAStart(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a := c.start("a", func(cfg *Config) { cfg.MaxAge, cfg.Propagation = 30*time.Minute, time.Hour })
		time.Sleep(time.Minute)
		_, err := c.node("b", 0)
		if err == nil || !strings.Contains(err.Error(), "keys.propagation is 10m0s") || !strings.Contains(err.Error(), "1h0m0s") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
		time.Sleep(testPoll + time.Second)
		if n := a.cfg.Nodes.Count(); n != 1 {
			t.Errorf("%d nodes are live", n)
		}
	})
}

// TestALongerLifetimeOfAnotherNodeIsReadWhenItIsNeeded: the first token with it is not refused.
func TestALongerLifetimeOfAnotherNodeIsReadWhenItIsNeeded(t *testing.T) {
	inCluster(t, func(t *testing.T, c *cluster) {
		a, b := c.start("a"), c.start("b")
		time.Sleep(time.Minute)
		c.raise(a)
		if _, err := b.Sign(t.Context(), EdDSA, "at+jwt", []byte("{}"), b.WallTime().Add(time.Hour)); err != nil {
			t.Error(err)
		}
		var unavailable *UnavailableError
		if _, err := b.Sign(t.Context(), EdDSA, "at+jwt", []byte("{}"), b.WallTime().Add(2*time.Hour)); !errors.As(err, &unavailable) || errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("a token that outlives its key: %v", err)
		}
	})
}
