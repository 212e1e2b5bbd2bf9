package jwks

import (
	"errors"
	"testing"
	"time"
	"unsafe"
)

// at returns a time whose two clocks differ: mono and wall after start. Otherwise only a
// suspended machine or a person can cause that, so the function changes the monotonic reading
// inside the time.Time, and checks that it changed the right field.
func at(t *testing.T, start time.Time, mono, wall time.Duration) time.Time {
	t.Helper()
	instant := start.Add(wall)
	*(*int64)(unsafe.Add(unsafe.Pointer(&instant), 8)) += int64(mono - wall)
	if instant.Sub(start) != mono || instant.Round(0).Sub(start.Round(0)) != wall {
		t.Fatal("the layout of time.Time has changed")
	}
	return instant
}

func TestElapsedIsTheLongerOfBothClocks(t *testing.T) {
	start := time.Now()
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		name       string
		mono, wall time.Duration
		want       time.Duration
	}{
		{"both run", time.Minute, time.Minute, time.Minute},
		{"asleep for an hour", time.Minute, time.Hour, time.Hour},
		{"set back", time.Minute, -time.Hour, time.Minute},
		{"set back by years", time.Hour, -20 * year, time.Hour},
		{"set forward by years", time.Second, 20 * year, 20 * year},
	} {
		if got := elapsed(start, at(t, start, tt.mono, tt.wall)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestASetAgesAsTheDrawingSays repeats the drawing in the doc comment of record, row by row.
func TestASetAgesAsTheDrawingSays(t *testing.T) {
	start := time.Now()
	r := record{set: mustSet(t, edKey("ed")), sent: start, lifetime: 5 * time.Minute}
	for _, tt := range []struct {
		mono, wall    time.Duration
		fresh, usable bool
	}{
		{0, 0, true, true},
		{5*time.Minute - 1, 5*time.Minute - 1, true, true},
		{5 * time.Minute, 5 * time.Minute, false, true}, // the bound itself is outside
		{65*time.Minute - 1, 65*time.Minute - 1, false, true},
		{65 * time.Minute, 65 * time.Minute, false, false},
		{time.Second, 65 * time.Minute, false, false}, // after a sleep
		{65 * time.Minute, -time.Hour, false, false},  // after the clock was set back
		{time.Second, -time.Hour, true, true},
	} {
		now := at(t, start, tt.mono, tt.wall)
		if r.fresh(now) != tt.fresh || r.usable(now, time.Hour) != tt.usable {
			t.Errorf("%v, %v: fresh %v, usable %v", tt.mono, tt.wall, r.fresh(now), r.usable(now, time.Hour))
		}
	}
	if (&record{}).fresh(start) || (&record{}).usable(start, time.Hour) {
		t.Error("a missing set is fresh or usable")
	}
	if now := start.Add(5 * time.Minute); r.usable(now, 0) {
		t.Error("a stale set is usable without MaxStale")
	}
}

func TestTheCooldownCountsFromTheBeginningOfASuccessOrTheEndOfAFailure(t *testing.T) {
	start, set := time.Now(), mustSet(t, edKey("ed"))
	oops := errors.New("oops")
	for _, tt := range []struct {
		name     string
		last     record
		after    time.Duration // start
		mayBegin bool
	}{
		{"nothing yet", record{}, 0, true},
		{"success", record{set: set, lifetime: time.Hour, began: start, ended: start.Add(2 * time.Second)}, 5*time.Second - 1, false},
		{"success", record{set: set, lifetime: time.Hour, began: start, ended: start.Add(2 * time.Second)}, 5 * time.Second, true},
		{"failure", record{err: oops, began: start, ended: start.Add(10 * time.Second)}, 15*time.Second - 1, false},
		{"failure", record{err: oops, began: start, ended: start.Add(10 * time.Second)}, 15 * time.Second, true},
		{"short lifetime", record{set: set, lifetime: time.Second, began: start, ended: start}, time.Second/2 - 1, false},
		{"short lifetime", record{set: set, lifetime: time.Second, began: start, ended: start}, time.Second / 2, true},
	} {
		if got := tt.last.mayBegin(start.Add(tt.after), 5*time.Second); got != tt.mayBegin {
			t.Errorf("%s, after %v: may begin %v", tt.name, tt.after, got)
		}
	}
}

func TestTheNextAttemptIsInTime(t *testing.T) {
	start, set := time.Now(), mustSet(t, edKey("ed"))
	oops := errors.New("oops")
	good := func(lifetime time.Duration) record { return record{set: set, sent: start, lifetime: lifetime} }
	failed := func(lifetime time.Duration, failures int) record {
		return record{set: set, sent: start, lifetime: lifetime, err: oops, failures: failures}
	}
	never := func(failures int) record { return record{err: oops, failures: failures} }
	for _, tt := range []struct {
		name   string
		last   record
		now    time.Duration // since start
		jitter float64
		want   time.Duration
	}{
		{"fresh", good(80 * time.Second), 0, 0, 60 * time.Second},
		{"fresh, jitter", good(80 * time.Second), 0, 1, 50 * time.Second},
		{"fresh, slow answer", good(80 * time.Second), 4 * time.Second, 0, 56 * time.Second},
		{"least", good(time.Second), 0, 1, 625 * time.Millisecond},

		{"one failure", never(1), 0, 0, 5 * time.Second},
		{"jitter", never(1), 0, 1, 5625 * time.Millisecond},
		{"two", never(2), 0, 0, 10 * time.Second},
		{"four", never(4), 0, 0, 40 * time.Second},
		{"five", never(5), 0, 0, time.Minute},
		{"many", never(1 << 40), 0, 0, time.Minute},

		{"stale", failed(time.Minute, 3), time.Hour, 0, 20 * time.Second},
		{"before it is stale", failed(time.Minute, 1), 45 * time.Second, 0, 5 * time.Second},
		{"not past that moment", failed(time.Minute, 2), 52 * time.Second, 0, 8 * time.Second},
		{"jitter neither", failed(time.Minute, 2), 50 * time.Second, 1, 10 * time.Second},
		{"but never within the cooldown", failed(time.Minute, 2), 58 * time.Second, 0, 5 * time.Second},
		{"which is half a second here", failed(time.Second, 1), time.Minute, 0, 500 * time.Millisecond},
	} {
		if got := tt.last.pause(start.Add(tt.now), 5*time.Second, tt.jitter); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if r := never(3); r.pause(start, 5*time.Minute, 0) != 5*time.Minute {
		t.Error("a cooldown above the longest pause was shortened")
	}
}

func TestNoCallerWaitsAfterAFailure(t *testing.T) {
	start, set := time.Now(), mustSet(t, edKey("ed"))
	oops := errors.New("oops")
	for name, tt := range map[string]struct {
		last record
		want bool
	}{
		"nothing yet":        {record{}, false},
		"success":            {record{set: set, sent: start, lifetime: time.Minute, ended: start}, false},
		"failed while fresh": {record{set: set, sent: start, lifetime: time.Minute, ended: start.Add(time.Minute - 1), err: oops}, false},
		"failed when stale":  {record{set: set, sent: start, lifetime: time.Minute, ended: start.Add(time.Minute), err: oops}, true},
		"failed at first":    {record{ended: start, err: oops}, true},
	} {
		if got := tt.last.failing(); got != tt.want {
			t.Errorf("%s: failing %v", name, got)
		}
	}
}
