package schedule

import (
	"math/rand/v2"
	"testing"
	"time"

	"keymill/keystore/internal/keytype"
)

// shared is the policy of a shared store whose nodes poll every five seconds.
var shared = Policy{
	RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute, Lead: 15 * time.Second, NodeSkew: 2 * time.Minute,
}

// TestAKeyOfASharedStoreStopsAfterLead: a node that has not read the change yet signs no longer than that.
func TestAKeyOfASharedStoreStopsAfterLead(t *testing.T) {
	now, lead := at(2), at(2).Add(shared.Lead)
	for what, change := range map[string]func(Ring) Ring{
		"b": func(r Ring) Ring { r, _, _ = r.Rotate(now, shared, false); return r },
		"c": func(r Ring) Ring { return r.Flush(2, now, shared) },
		"x": func(r Ring) Ring { return r.Insert(NewKey("x", keytype.EdDSA, nil, 0), now, shared, true) },
	} {
		r, _ := newRing(t).Advance(now, shared)
		r, stopped := change(r).Advance(now, shared)
		next := r.Keys[r.Index(what)]
		if a := r.Keys[0]; len(stopped) > 0 || a.Stage(now) != Active || !a.Stop.Equal(lead) || !next.Sign.Equal(lead) || !next.Publish.Before(lead.Add(-shared.Lead+1)) {
			t.Errorf("%s: %+v", what, r.Keys)
		}
		for tick := now; !tick.After(lead); tick = tick.Add(time.Second) {
			r, stopped = r.Advance(tick, shared) // no node moves it
		}
		if len(stopped) != 1 || r.Keys[0].KID != what || r.LastSigner != what || !r.Keys[0].Sign.Equal(lead) {
			t.Errorf("%s: after lead: %+v", what, r.Keys)
		}
		if d := stopped[0].Drop.Sub(lead); d != stopped[0].MaxLifetime+2*time.Minute+shared.Lead {
			t.Errorf("%s: dropped after %v", what, d)
		}
	}
}

// TestAFlushAfterARevocationLetsTheSpareSignFirst: the reserve is published by no other node yet.
func TestAFlushAfterARevocationLetsTheSpareSignFirst(t *testing.T) {
	now := at(2)
	r, _ := newRing(t).Revoke("a", now).Flush(1, now, shared).Advance(now, shared)
	expect(t, r, now, "b:active c:spare ")
	expect(t, r, now.Add(shared.Lead), "b:retiring c:active ")
	r, _ = newRing(t).Revoke("a", now).Revoke("b", now).Flush(0, now, shared).Advance(now, shared)
	expect(t, r, now, "c:active ") // nothing else can sign
}

// TestTheNextKeyOfASharedStoreRotatesOnce: a second rotation before Lead is over is refused.
func TestTheNextKeyOfASharedStoreRotatesOnce(t *testing.T) {
	r, _, _ := newRing(t).Rotate(at(2), shared, true)
	r, _ = r.Advance(at(2), shared)
	_, _, refused := r.Rotate(at(2).Add(time.Second), shared, true)
	if refused == nil || !refused.Decided || !refused.At.Equal(at(2).Add(shared.Lead)) {
		t.Errorf("a second rotation: %v", refused)
	}
}

// TestAShorterRotationIsDecidedAhead: with a lower rotate_every a key is due at once, and the nodes are told first.
func TestAShorterRotationIsDecidedAhead(t *testing.T) {
	r, p := newRing(t), shared
	p.RotateEvery = 3 * time.Hour
	for tick := at(5); !tick.After(at(5).Add(p.Lead)); tick = tick.Add(time.Second) {
		r, _ = r.Advance(tick, p)
	}
	if b := r.Keys[0]; b.KID != "b" || !b.Sign.Equal(at(5).Add(p.Lead)) {
		t.Errorf("%+v", r.Keys)
	}
}

// TestNoStopOfASharedStoreComesSoonerThanLead, in random rings: whatever is decided, a key that signs for a node that has
// not read it goes on for Lead.
func TestNoStopOfASharedStoreComesSoonerThanLead(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		r, now, next := newRing(t), day0, 0
		for range 200 {
			step := 400 * time.Hour
			if rnd.IntN(2) == 0 {
				step = 20 * time.Second
			}
			now = now.Add(time.Duration(rnd.Int64N(int64(step))))
			r, _ = r.Advance(now, shared)
			before := r.Clone()
			r = randomStep(rnd, r, now, shared, &next)
			var stopped []Key
			r, stopped = r.Advance(now, shared)
			if err := checkRing(r, stopped, now); err != nil {
				t.Fatalf("seed %d at %s: %v\n%s", seed, now, err, stages(r, now))
			}
			for _, k := range before.Keys {
				i := r.Index(k.KID)
				if i >= 0 && r.Keys[i].Stop.Before(k.Stop) && r.Keys[i].Stop.Before(now.Add(shared.Lead)) && k.Stage(now) == Active {
					t.Fatalf("seed %d at %s: %s stops at %s, %v ahead", seed, now, k.KID, r.Keys[i].Stop, r.Keys[i].Stop.Sub(now))
				}
			}
			if again, more := r.Advance(now, shared); !again.Equal(r) || len(more) > 0 {
				t.Fatalf("seed %d: advancing again changed the ring", seed)
			}
		}
	}
}
