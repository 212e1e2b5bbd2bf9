package schedule

import (
	"errors"
	"fmt"
	"keymill/keystore/internal/keytype"
	"math/rand/v2"
	"testing"
	"time"
)

// day0 is the start of most tests, and at counts hours from it.
var day0 = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func at(hours float64) time.Time { return day0.Add(time.Duration(hours * float64(time.Hour))) }

func TestTheStagesOfAKey(t *testing.T) {
	k := NewKey("k", keytype.EdDSA, nil, time.Hour)
	k.Publish, k.Ready, k.Sign, k.Stop, k.Drop = at(1), at(2), at(2), at(5), at(9)
	for _, tt := range []struct {
		hour             float64
		want             Stage
		published, signs bool
	}{
		{0, Reserve, false, false},
		{1, Spare, true, false}, // an instant belongs to the later stage
		{1.9, Spare, true, false},
		{2, Active, true, true},
		{4.9, Active, true, true},
		{5, Retiring, true, false},
		{8.9, Retiring, true, false},
		{9, Gone, false, false},
	} {
		got := k.Stage(at(tt.hour))
		published := got == Spare || got == Active || got == Retiring
		if got != tt.want || published != tt.published || (got == Active) != tt.signs {
			t.Errorf("hour %v: %s, want %s", tt.hour, got, tt.want)
		}
	}
}

// days is the policy of most tests: rotation every 30 days, propagation one hour.
var days = Policy{RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute}

// newRing returns a ring of a new store with a reserve, advanced to day0.
func newRing(t *testing.T) Ring {
	t.Helper()
	r := Ring{Alg: keytype.EdDSA, MustSignNow: true, MaxLifetime: time.Hour}
	for _, kid := range []string{"a", "b", "c"} {
		r.Keys = append(r.Keys, NewKey(kid, keytype.EdDSA, nil, r.MaxLifetime))
	}
	r, stopped := r.Advance(day0, days)
	if len(stopped) != 0 {
		t.Fatalf("a new ring stopped %v", stopped)
	}
	return r
}

func stages(r Ring, now time.Time) string {
	out := ""
	for _, k := range r.Keys {
		out += fmt.Sprintf("%s:%s ", k.KID, k.Stage(now))
	}
	return out
}

func expect(t *testing.T, r Ring, now time.Time, want string) {
	t.Helper()
	if got := stages(r, now); got != want {
		t.Fatalf("at %s the ring is %q, want %q", now, got, want)
	}
}

func TestTheFirstKeySignsAtOnceAndHasASpare(t *testing.T) {
	r := newRing(t)
	expect(t, r, day0, "a:active b:spare c:reserve ")
	if a, b := r.Keys[0], r.Keys[1]; !a.Publish.Equal(day0) || !a.Sign.Equal(day0) ||
		!b.Publish.Equal(day0) || !b.Sign.Equal(at(720)) || !a.Stop.Equal(b.Sign) {
		t.Errorf("instants: %+v", r.Keys)
	}
}

func TestARingAddedLaterWaitsForPropagation(t *testing.T) {
	r := Ring{Alg: keytype.EdDSA, Keys: []Key{NewKey("a", keytype.EdDSA, nil, 0), NewKey("b", keytype.EdDSA, nil, 0)}}
	r, _ = r.Advance(day0, days)
	expect(t, r, day0, "a:spare b:reserve ")
	expect(t, r, at(1), "a:active b:reserve ")
	r, _ = r.Advance(at(1), days)
	expect(t, r, at(1), "a:active b:spare ")
}

// I5.
func TestASpareIsPublishedWhenThePreviousOneSigns(t *testing.T) {
	r := newRing(t)
	r, stopped := r.Advance(at(720), days)
	expect(t, r, at(720), "b:active c:spare ")
	if len(stopped) != 1 || stopped[0].KID != "a" {
		t.Fatalf("stopped: %+v", stopped)
	}
	skew := 2 * time.Minute
	if a := stopped[0]; !a.Drop.Equal(at(720).Add(time.Hour+skew)) || !a.Erase.Equal(at(720).Add(skew)) {
		t.Errorf("drop %s, erase %s", a.Drop, a.Erase)
	}
	if c := r.Keys[1]; !c.Publish.Equal(at(720)) || !c.Sign.Equal(at(1440)) {
		t.Errorf("the new spare: %+v", c)
	}
}

func TestWithoutASuccessorThereIsNoStop(t *testing.T) {
	r := Ring{Alg: keytype.EdDSA, MustSignNow: true, Keys: []Key{NewKey("a", keytype.EdDSA, nil, 0)}}
	r, _ = r.Advance(day0, days)
	r, stopped := r.Advance(at(5000), days)
	expect(t, r, at(5000), "a:active ")
	if len(stopped) != 0 || !r.Keys[0].Stop.Equal(Never) {
		t.Errorf("the key stopped: %+v", r.Keys[0])
	}
	r.Keys = append(r.Keys, NewKey("b", keytype.EdDSA, nil, 0))
	r, _ = r.Advance(at(5000), days)
	if stop := r.Keys[0].Stop; !stop.Equal(at(5001)) {
		t.Errorf("with a successor the key stops at %s, want after propagation", stop)
	}
}

func TestADowntimeDelaysSign(t *testing.T) {
	for _, tt := range []struct {
		last, start, sign float64 // hours
	}{
		{719, 722, 722 + 1.0/6}, // down at Sign: two max-ages after the start
		{0.5, 3.5, 720},         // down long before Sign: the schedule stays
		{0.5, 900, 901 - 0.5},   // published for only half an hour: the other half is still missing
	} {
		r := newRing(t)
		r = r.AfterDowntime(at(tt.last), at(tt.start), days)
		r, stopped := r.Advance(at(tt.start), days)
		if len(stopped) != 0 || r.Keys[0].Stage(at(tt.start)) != Active {
			t.Errorf("down from %v to %v: %s", tt.last, tt.start, stages(r, at(tt.start)))
		}
		if got := r.Keys[1].Sign; got.Sub(at(tt.sign)).Abs() > time.Millisecond || !r.Keys[0].Stop.Equal(got) {
			t.Errorf("down from %v to %v: sign %s, want %s", tt.last, tt.start, got, at(tt.sign))
		}
	}
}

func TestRotateWaitsUntilCachesKnowTheSpare(t *testing.T) {
	r := newRing(t)
	_, _, notReady := r.Rotate(at(0.9), days, false)
	if notReady == nil || !notReady.At.Equal(at(1)) {
		t.Fatalf("too early: %v", notReady)
	}
	early, _, notReady := r.Rotate(at(0.9), days, true)
	if notReady != nil {
		t.Fatalf("force was refused: %v", notReady)
	}
	early, _ = early.Advance(at(0.9), days)
	expect(t, early, at(0.9), "b:active c:spare ")
	r, _, notReady = r.Rotate(at(1), days, false)
	if notReady != nil {
		t.Fatalf("in time: %v", notReady)
	}
	r, stopped := r.Advance(at(1), days)
	expect(t, r, at(1), "b:active c:spare ")
	if len(stopped) != 1 || !r.Keys[1].Sign.Equal(at(721)) {
		t.Errorf("after the rotation: %+v, stopped %+v", r.Keys, stopped)
	}
	if _, _, notReady = r.Rotate(at(1), days, false); notReady == nil {
		t.Error("a second rotation at the same instant was not refused")
	}
}

// I6.
func TestARevokedKeyLeavesTheRingAndAnotherSigns(t *testing.T) {
	for _, tt := range []struct{ kid, want string }{
		{"a", "b:active c:spare "},
		{"b", "a:active c:spare "},
		{"c", "a:active b:spare "},
	} {
		r := newRing(t).Revoke(tt.kid, at(2))
		r, stopped := r.Advance(at(2), days)
		expect(t, r, at(2), tt.want)
		if len(stopped) != 0 {
			t.Errorf("revoking %s retired %+v", tt.kid, stopped)
		}
		if next := r.Keys[1]; next.Publish.Equal(at(2)) && next.Sign.Before(at(3)) {
			t.Errorf("after revoking %s the new spare signs before propagation", tt.kid)
		}
	}
}

func TestAfterAllKeysAreRevokedTheNextOneSignsAtOnce(t *testing.T) {
	r := newRing(t)
	for _, kid := range []string{"a", "b", "c"} {
		r, _ = r.Revoke(kid, at(2)).Advance(at(2), days)
	}
	expect(t, r, at(2), "")
	r.Keys = append(r.Keys, NewKey("d", keytype.EdDSA, nil, 0))
	r, _ = r.Advance(at(2.1), days)
	expect(t, r, at(2.1), "d:active ")
}

func TestAnImportedKeyIsNextOrSignsNow(t *testing.T) {
	r, _ := newRing(t).Insert(NewKey("x", keytype.EdDSA, nil, 0), at(2), days, false).Advance(at(2), days)
	expect(t, r, at(2), "a:active x:spare b:spare c:reserve ")
	if r.Keys[1].Sign.Before(at(3)) || !r.Keys[2].Sign.Equal(r.Keys[1].Sign.Add(days.RotateEvery)) {
		t.Errorf("the keys are %+v", r.Keys)
	}
	r, stopped := newRing(t).Insert(NewKey("x", keytype.EdDSA, nil, 0), at(2), days, true).Advance(at(2), days)
	expect(t, r, at(2), "x:active b:spare c:reserve ")
	if len(stopped) != 1 {
		t.Errorf("stopped: %+v", stopped)
	}
}

func TestAnEarlierLongerMaxAgeDelaysNewKeys(t *testing.T) {
	p := days
	p.OldCachesUntil = at(30)
	r, _ := newRing(t).Revoke("b", at(2)).Advance(at(2), p)
	if ready := r.Keys[1].Ready; !ready.Equal(at(30)) {
		t.Errorf("ready at %s, although caches may keep old sets until %s", ready, at(30))
	}
}

// TestRandomRingsKeepTheirOrder applies random steps to rings.
func TestRandomRingsKeepTheirOrder(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r, now, next := newRing(t), day0, 0
		for range 200 {
			now = now.Add(time.Duration(rnd.Int64N(int64(400 * time.Hour))))
			r = randomStep(rnd, r, now, days, &next)
			var stopped []Key
			r, stopped = r.Advance(now, days)
			if err := checkRing(r, stopped, now); err != nil {
				t.Fatalf("seed %d at %s: %v\n%s", seed, now, err, stages(r, now))
			}
			if again, more := r.Advance(now, days); !again.Equal(r) || len(more) > 0 {
				t.Fatalf("seed %d: advancing again changed the ring", seed)
			}
		}
	}
}

func randomStep(rnd *rand.Rand, r Ring, now time.Time, p Policy, next *int) Ring {
	fresh := func() Key { *next++; return NewKey(fmt.Sprint("k", *next), keytype.EdDSA, nil, time.Hour) }
	r, _ = r.Advance(now, p)
	switch rnd.IntN(7) {
	case 6:
		if i := r.IndexAt(now, Reserve); i >= 0 {
			r = r.Flush(i, now, p)
		}
	case 0:
		r, _, _ = r.Rotate(now, p, rnd.IntN(2) == 0)
	case 1:
		if len(r.Keys) > 0 {
			r = r.Revoke(r.Keys[rnd.IntN(len(r.Keys))].KID, now)
		}
	case 2:
		last := now.Add(-time.Duration(rnd.Int64N(int64(100 * time.Hour))))
		if p.Lead > 0 {
			last = now // keys that sign soon were decided after it, or have signed
		}
		r = r.AfterDowntime(last, now, p)
	case 3:
		r = r.Insert(fresh(), now, p, rnd.IntN(2) == 0)
	default:
		if !r.Has(now, Reserve) {
			r.Keys = append(r.Clone().Keys, fresh())
		}
	}
	return r
}

func checkRing(r Ring, stopped []Key, now time.Time) error {
	active := 0
	for i, k := range r.Keys {
		switch stage := k.Stage(now); {
		case stage == Active:
			active++
		case stage == Spare && k.Sign.Before(k.Ready):
			return fmt.Errorf("%s signs before it is ready", k.KID)
		case stage == Retiring, stage == Gone:
			return fmt.Errorf("%s is %s and still in the ring", k.KID, stage)
		case stage == Reserve && i != len(r.Keys)-1:
			return errors.New("the reserve is not last")
		}
		if i > 0 && k.Stage(now) == Spare && !r.Keys[i-1].Stop.Equal(k.Sign) {
			return fmt.Errorf("%s signs when %s does not stop", k.KID, r.Keys[i-1].KID)
		}
	}
	for _, k := range stopped {
		if k.Drop.Before(k.Stop.Add(k.MaxLifetime)) || k.Stop.After(now) {
			return fmt.Errorf("%s has wrong instants: %+v", k.KID, k)
		}
	}
	if active > 1 {
		return errors.New("two keys sign")
	}
	if active == 0 && r.Has(now, Spare) && r.MustSignNow {
		return errors.New("no key signs although a spare could")
	}
	return nil
}

// TestAFlushLetsTheReserveSignAndKeepsTheSpareNext: of every ring that has a reserve.
func TestAFlushLetsTheReserveSignAndKeepsTheSpareNext(t *testing.T) {
	revoked := func(kid string) func(Ring) Ring { return func(r Ring) Ring { return r.Revoke(kid, at(2)) } }
	for what, tt := range map[string]struct {
		before func(Ring) Ring
		want   string
	}{
		"a rotation":                 {Ring.Clone, "c:active b:spare "},
		"the active key was revoked": {revoked("a"), "c:active b:spare "},
		"the spare was revoked":      {revoked("b"), "c:active "},
		"an imported spare":          {func(r Ring) Ring { return r.Insert(NewKey("x", keytype.EdDSA, nil, 0), at(2), days, false) }, "c:active x:spare b:spare "},
		"no key signs yet": {func(Ring) Ring {
			r, _ := Ring{Alg: keytype.EdDSA, Keys: []Key{NewKey("a", keytype.EdDSA, nil, 0), NewKey("c", keytype.EdDSA, nil, 0)}}.Advance(at(2), days)
			return r
		}, "c:active a:spare "},
		"a spare that is due, and signs for a moment": {func(r Ring) Ring {
			r = r.Clone()
			r.Keys[0].Stop, r.Keys[1].Sign = at(1.9), at(1.9)
			return r
		}, "c:active "},
	} {
		before := tt.before(newRing(t))
		after := before.Flush(before.IndexAt(at(2), Reserve), at(2), days)
		after, stopped := after.Advance(at(2), days)
		if got := stages(after, at(2)); got != tt.want {
			t.Errorf("%s: the ring is %q, want %q", what, got, tt.want)
		}
		if err := checkRing(after, stopped, at(2)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if c := after.Keys[0]; !c.Publish.Equal(at(2)) || !c.Sign.Equal(at(2)) || after.MustSignNow || after.LastSigner != "c" {
			t.Errorf("%s: %+v", what, after)
		}
		for i, k := range after.Keys[1:] {
			old := before.Keys[before.Index(k.KID)]
			if due := after.Keys[i].Sign.Add(days.RotateEvery); !k.Publish.Equal(old.Publish) || !k.Ready.Equal(old.Ready) || !k.Sign.Equal(due) {
				t.Errorf("%s: the spare was %+v and is %+v", what, old, k)
			}
		}
	}
}
