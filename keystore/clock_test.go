package keystore

import (
	"testing"
	"time"
)

const year = 365 * 24 * time.Hour

// A ticker drives a clock second by second, with a wall that is off by some amount.
type ticker struct {
	t    *testing.T
	c    clock
	true time.Time // what time it really is
	off  time.Duration
	up   time.Duration
	jump time.Duration // sum of all
}

func newTicker(t *testing.T) *ticker {
	return &ticker{t: t, c: startClock(clockRecord{}, reading{wall: day0}), true: day0}
}

func (k *ticker) run(d time.Duration) {
	for end := k.up + d; k.up < end; {
		before := k.c.nowAt(k.up)
		k.up += time.Second
		k.true = k.true.Add(time.Second)
		next, jump := k.c.observe(reading{wall: k.true.Add(k.off), up: k.up})
		k.c, k.jump = next, k.jump+jump
		if k.c.nowAt(k.up).Before(before) {
			k.t.Fatal("the time of decisions went back")
		}
	}
}

func (k *ticker) expect(what string, now, stamp, erasing time.Duration, frozen bool) {
	k.t.Helper()
	got := []time.Duration{
		k.c.nowAt(k.up).Sub(k.true), k.c.stampAt(k.up).Sub(k.true), k.c.erasingAt(k.up).Sub(k.true),
	}
	for i, want := range []time.Duration{now, stamp, erasing} {
		if (got[i] - want).Abs() > time.Second {
			k.t.Errorf("%s: now, stamp, erasing are off by %v, want %v", what, got, []time.Duration{now, stamp, erasing})
			break
		}
	}
	if k.c.frozen != frozen {
		k.t.Errorf("%s: frozen is %v", what, k.c.frozen)
	}
}

func TestASmallStepIsFollowedButNowNeverGoesBack(t *testing.T) {
	k := newTicker(t)
	k.run(time.Minute)
	k.off = 2 * time.Minute
	k.run(time.Minute)
	k.expect("two minutes ahead", 2*time.Minute, 2*time.Minute, 0, false)
	k.off = 0
	k.run(time.Minute)
	k.expect("and back", 2*time.Minute, 0, 0, false)
}

func TestAJumpFreezesUntilTheWallComesBack(t *testing.T) {
	for _, off := range []time.Duration{10 * year, -10 * year, 3 * time.Minute, -3 * time.Minute} {
		k := newTicker(t)
		k.run(2 * time.Hour)
		k.off = off
		k.run(30 * time.Minute)
		k.expect("jumped", 0, 0, 0, true)
		k.off = 0
		k.run(time.Second)
		k.expect("came back", 0, 0, 0, false)
		if k.jump > time.Second {
			t.Errorf("time jumped by %v", k.jump)
		}
	}
}

func TestAWallThatKeepsToItsNewTimeForAnHourIsBelieved(t *testing.T) {
	k := newTicker(t)
	k.run(2 * time.Hour)
	k.off = 10 * time.Minute
	k.run(59 * time.Minute)
	k.expect("before the hour", 0, 0, 0, true)
	k.run(2 * time.Minute)
	k.expect("after the hour", 10*time.Minute, 10*time.Minute, 0, false)
	if (k.jump - 10*time.Minute).Abs() > time.Second {
		t.Errorf("the schedule was told of %v", k.jump)
	}
	k.run(61 * time.Minute)
	k.expect("erasures follow an hour later", 10*time.Minute, 10*time.Minute, 10*time.Minute, false)
}

func TestAWallThatWandersStaysFrozen(t *testing.T) {
	k := newTicker(t)
	for i := range 10 {
		k.off = time.Duration(i+1) * time.Hour
		k.run(50 * time.Minute)
		k.expect("wandering", 0, 0, 0, true)
	}
}

func TestDowntimeCountsForDecisionsButNotForErasures(t *testing.T) {
	rec := clockRecord{Highest: day0, Erasing: day0}
	k := &ticker{t: t, c: startClock(rec, reading{wall: at(3)}), true: at(3)}
	k.expect("after three hours", 0, 0, -3*time.Hour, false)
	k.run(59 * time.Minute)
	k.expect("within the hour", 0, 0, -3*time.Hour, false)
	k.run(2 * time.Minute)
	k.expect("after the hour", 0, 0, 0, false)
}

func TestAStartIsSuspiciousOfAWallFarFromTheRecord(t *testing.T) {
	rec := clockRecord{Highest: day0, Erasing: day0}
	for _, off := range []time.Duration{10 * year, -10 * year} {
		k := &ticker{t: t, c: startClock(rec, reading{wall: day0.Add(off)}), true: day0, off: off}
		k.run(10 * time.Minute)
		k.expect("far off", 0, 0, 0, true)
		k.off = 0
		k.run(time.Second)
		k.expect("right again", 0, 0, 0, false)
	}
	// A machine that boots in 1970 and learns the time is right from then on.
	k := &ticker{t: t, c: startClock(rec, reading{wall: time.Unix(0, 0)}), true: at(5), off: -at(5).Sub(time.Unix(0, 0))}
	k.run(time.Minute)
	k.expect("booting", -5*time.Hour, -5*time.Hour, -5*time.Hour, true)
	k.off = 0
	k.run(time.Second)
	k.expect("after the time was set", 0, 0, -5*time.Hour, false)
}

func TestSleepOfTheMachineIsDowntimeAndNotAJump(t *testing.T) {
	c := startClock(clockRecord{}, reading{wall: day0})
	next, jump := c.observe(reading{wall: day0.Add(3*time.Hour + time.Second), up: time.Second, slept: 3 * time.Hour})
	if next.frozen || jump != 3*time.Hour || !next.stampAt(time.Second).Equal(day0.Add(3*time.Hour+time.Second)) {
		t.Errorf("after sleep: %+v, jump %v", next, jump)
	}
	if !next.erasingAt(time.Second).Equal(day0.Add(time.Second)) {
		t.Error("erasures counted sleep as uptime")
	}
}
