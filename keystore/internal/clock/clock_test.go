package clock

import (
	"testing"
	"time"
)

const year = 365 * 24 * time.Hour

var day0 = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func at(hours float64) time.Time { return day0.Add(time.Duration(hours * float64(time.Hour))) }

// A ticker advances a clock second by second, with a wall clock that is wrong by off.
type ticker struct {
	t    *testing.T
	c    Clock
	true time.Time     // the correct time
	off  time.Duration // wall clock − correct time
	up   time.Duration
	jump time.Duration // sum of all jumps
}

func newTicker(t *testing.T) *ticker {
	return &ticker{t: t, c: New(Record{}, Reading{Wall: day0}), true: day0}
}

func (k *ticker) run(d time.Duration) {
	for end := k.up + d; k.up < end; {
		before := k.c.DecisionAt(k.up)
		k.up += time.Second
		k.true = k.true.Add(time.Second)
		next, jump := k.c.Observe(Reading{Wall: k.true.Add(k.off), Up: k.up})
		k.c, k.jump = next, k.jump+jump
		if k.c.DecisionAt(k.up).Before(before) {
			k.t.Fatal("the decision time went back")
		}
	}
}

// offsets are the differences of the clock's times from the correct time.
type offsets struct {
	decision, wall, erasure time.Duration
	frozen                  bool
}

func (k *ticker) expect(what string, want offsets) {
	k.t.Helper()
	got := offsets{
		k.c.DecisionAt(k.up).Sub(k.true), k.c.WallAt(k.up).Sub(k.true), k.c.ErasureAt(k.up).Sub(k.true), k.c.Frozen,
	}
	near := func(a, b time.Duration) bool { return (a - b).Abs() <= time.Second }
	if !near(got.decision, want.decision) || !near(got.wall, want.wall) || !near(got.erasure, want.erasure) || got.frozen != want.frozen {
		k.t.Errorf("%s: the clock is off by %+v, want %+v", what, got, want)
	}
}

func TestASmallStepIsFollowedButTheDecisionTimeNeverGoesBack(t *testing.T) {
	k := newTicker(t)
	k.run(time.Minute)
	k.off = 2 * time.Minute
	k.run(time.Minute)
	k.expect("two minutes ahead", offsets{2 * time.Minute, 2 * time.Minute, 0, false})
	k.off = 0
	k.run(time.Minute)
	k.expect("and back", offsets{2 * time.Minute, 0, 0, false})
}

func TestAJumpFreezesUntilTheWallClockReturns(t *testing.T) {
	for _, off := range []time.Duration{10 * year, -10 * year, 3 * time.Minute, -3 * time.Minute} {
		k := newTicker(t)
		k.run(2 * time.Hour)
		k.off = off
		k.run(30 * time.Minute)
		k.expect("jumped", offsets{0, 0, 0, true})
		k.off = 0
		k.run(time.Second)
		k.expect("returned", offsets{0, 0, 0, false})
		if k.jump > time.Second {
			t.Errorf("the decision time jumped by %v", k.jump)
		}
	}
}

func TestAWallClockThatIsSteadyForAnHourIsTrustedAgain(t *testing.T) {
	k := newTicker(t)
	k.run(2 * time.Hour)
	k.off = 10 * time.Minute
	k.run(59 * time.Minute)
	k.expect("before the hour", offsets{0, 0, 0, true})
	k.run(2 * time.Minute)
	k.expect("after the hour", offsets{10 * time.Minute, 10 * time.Minute, 0, false})
	if (k.jump - 10*time.Minute).Abs() > time.Second {
		t.Errorf("the clock reported a jump of %v", k.jump)
	}
	k.run(61 * time.Minute)
	k.expect("the erasure time follows an hour later", offsets{10 * time.Minute, 10 * time.Minute, 10 * time.Minute, false})
}

func TestAWallClockThatKeepsJumpingStaysFrozen(t *testing.T) {
	k := newTicker(t)
	for i := range 10 {
		k.off = time.Duration(i+1) * time.Hour
		k.run(50 * time.Minute)
		k.expect("while it jumps", offsets{0, 0, 0, true})
	}
}

func TestDowntimeCountsForDecisionsButNotForErasures(t *testing.T) {
	rec := Record{Highest: day0, ErasureTime: day0}
	k := &ticker{t: t, c: New(rec, Reading{Wall: at(3)}), true: at(3)}
	k.expect("after three hours", offsets{0, 0, -3 * time.Hour, false})
	k.run(59 * time.Minute)
	k.expect("within the hour", offsets{0, 0, -3 * time.Hour, false})
	k.run(2 * time.Minute)
	k.expect("after the hour", offsets{0, 0, 0, false})
}

func TestAStartFarFromTheRecordIsFrozen(t *testing.T) {
	rec := Record{Highest: day0, ErasureTime: day0}
	for _, off := range []time.Duration{10 * year, -10 * year} {
		k := &ticker{t: t, c: New(rec, Reading{Wall: day0.Add(off)}), true: day0, off: off}
		k.run(10 * time.Minute)
		k.expect("far off", offsets{0, 0, 0, true})
		k.off = 0
		k.run(time.Second)
		k.expect("correct again", offsets{0, 0, 0, false})
	}
	// A machine that boots in 1970 is trusted once its clock is set.
	k := &ticker{t: t, c: New(rec, Reading{Wall: time.Unix(0, 0)}), true: at(5), off: -at(5).Sub(time.Unix(0, 0))}
	k.run(time.Minute)
	k.expect("booting", offsets{-5 * time.Hour, -5 * time.Hour, -5 * time.Hour, true})
	k.off = 0
	k.run(time.Second)
	k.expect("after the time was set", offsets{0, 0, -5 * time.Hour, false})
}

func TestASuspendedMachineIsDowntimeAndNotAJump(t *testing.T) {
	c := New(Record{}, Reading{Wall: day0})
	next, jump := c.Observe(Reading{Wall: day0.Add(3*time.Hour + time.Second), Up: time.Second, Slept: 3 * time.Hour})
	if next.Frozen || jump != 3*time.Hour || !next.WallAt(time.Second).Equal(day0.Add(3*time.Hour+time.Second)) {
		t.Errorf("after the suspension: %+v, jump %v", next, jump)
	}
	if !next.ErasureAt(time.Second).Equal(day0.Add(time.Second)) {
		t.Error("the erasure time counted the suspension as uptime")
	}
}
