package cluster

import (
	"context"
	"strings"
	"testing"
	"time"
)

const (
	allowedSkew = 15 * time.Second          // keys.propagation / 4 of scripts/cluster
	wrongBy     = allowedSkew - time.Second // what the clocks of two nodes are wrong by, with a second for the measurement
)

// wrongClocks runs two nodes whose clocks are wrong by as much as is allowed, one each way, across a rotation and a
// revocation.
func (w *world) wrongClocks(t *testing.T, through *load, b billing) {
	var all []refresher
	for number, clock := range map[int]time.Duration{4: wrongBy, 5: -wrongBy} {
		n := w.addNode(t, number, setting{clock: clock})
		if off := w.clockOf(t, number); (off - clock).Abs() > 5*time.Second {
			t.Fatalf("the clock of node-%d is wrong by %s, and should be by %s", number, off, clock)
		}
		at := func(ctx context.Context, try int, token string) (grant, error) {
			if try%2 == 1 {
				return w.refresh(ctx, nginx, token)
			}
			return n.refresh(ctx, token)
		}
		all = append(all, at, at)
	}
	lenient := *w
	lenient.verify = w.verifier(t, allowedSkew) // a node whose clock is ahead issues tokens of the future
	l := lenient.beginWith(t, all)

	old := w.pausedAcrossARotation(t, b)
	stop := old.Stop.Add(time.Second) // it is shown in seconds
	l.settle(t)
	for _, seen := range []signed{through.lastOf(old.KID), l.lastOf(old.KID)} {
		if seen.issued.After(stop) || seen.asked.After(stop.Add(allowedSkew)) {
			t.Errorf("a token of %s was issued at %s and asked for at %s, and its key stopped at %s", old.KID, seen.issued, seen.asked, stop)
		}
	}
	t.Logf("counted: the last token of a key was asked for %s after it stopped, by the true clock", l.lastOf(old.KID).asked.Sub(stop).Round(time.Millisecond))
	l.check(t)
	w.revoked(t, []*load{through, l}, b, stop)
	t.Logf("counted: with wrong clocks: %s", l.since())
}

// revoked revokes the key that signs. Nothing is signed with it once every node has read that, and services refuse what was.
func (w *world) revoked(t *testing.T, loads []*load, b billing, rotated time.Time) {
	t.Helper()
	// The spare is as old as the last rotation. Caches know it after that time.
	time.Sleep(time.Until(rotated.Add(signingLimit)))
	active := w.key(t, func(k key) bool { return k.Alg == "EdDSA" && k.Stage == "active" })
	token := ""
	for kid := ""; kid != active.KID; {
		var g grant
		if err := w.post(t.Context(), nginx, "/token", "application/x-www-form-urlencoded", string(b), &g); err != nil {
			t.Fatal(err)
		}
		token = g.Access
		kid, _, _ = parts(token)
	}
	for _, l := range loads {
		l.revoke(active.KID)
	}
	began := time.Now()
	out := w.keymill(t, 2, "", "key", "revoke", active.KID)
	known := time.Now()
	if took := known.Sub(began); took > signingLimit+5*time.Second {
		t.Errorf("the command took %s", took)
	}
	if strings.Contains(out, "node-") {
		t.Errorf("a node has not read the revocation: %s", out)
	}
	for _, err := w.verify.Verify(t.Context(), token); err == nil; _, err = w.verify.Verify(t.Context(), token) {
		if time.Since(began) > signingLimit+5*time.Second {
			t.Fatal("a service accepts a token of a revoked key")
		}
		time.Sleep(50 * time.Millisecond)
	}
	refused := time.Since(began)
	time.Sleep(3 * time.Second) // in which each client refreshes many times
	for _, l := range loads {
		l.settle(t)
		if last := l.lastOf(active.KID).asked; last.After(known) {
			t.Errorf("a token of a revoked key was signed %s after every node knew", last.Sub(known))
		}
		l.check(t)
	}
	t.Logf("counted: every node knew of a revocation after %s, and a service after %s", known.Sub(began).Round(time.Millisecond), refused.Round(time.Millisecond))
}
