package keystore

import "time"

const (
	// maxWallStep is how far the wall clock may move against the monotonic clock. After a
	// larger step the wall clock is not trusted, and nothing is scheduled or erased.
	maxWallStep = 2 * time.Minute
	// maxWallDrift is how far the two may differ and still count as equal.
	maxWallDrift = time.Second
	// trustAfter is how long the two must stay equal before the erasure time follows the
	// wall clock, and before a wall clock that jumped is trusted again.
	trustAfter = time.Hour
	// maxDowntime is the longest downtime that is believed at a start. A longer one is
	// treated as a wrong wall clock.
	maxDowntime = 365 * 24 * time.Hour
)

// A clockRecord is what the next process needs to know about the clocks.
type clockRecord struct {
	Highest        time.Time     `json:"highest"`  // latest decision time
	WallLag        time.Duration `json:"lag"`      // decision time − wall time
	ErasureTime    time.Time     `json:"erasing"`  // latest erasure time
	MaxAge         time.Duration `json:"max_age"`  // with which the set was last served
	OldCachesUntil time.Time     `json:"hold"`     // until when caches may hold a set served with an earlier, longer max-age
	ServedTime     time.Duration `json:"served"`   // uptime of all processes on this store together
	Manifest       uint64        `json:"manifest"` // version of the manifest at that time
}

// A reading is one look at the clocks of the machine.
type reading struct {
	wall  time.Time     // wall clock
	up    time.Duration // uptime of the process, by the monotonic clock
	slept time.Duration // how long the machine was suspended since the last reading; up does not count it
}

// A clock computes three times. Between two readings all of them advance with the
// monotonic clock, so a step of the wall clock cannot affect a decision before observe
// has seen it.
//
//   - The decision time orders all decisions. It is the highest time seen and never goes
//     back.
//   - The wall time is for claims that others compare with their own clocks (iat, exp).
//     It is the wall clock, as long as that can be trusted.
//   - The erasure time is for steps that cannot be undone. It counts observed uptime only,
//     and follows the wall clock after both agreed for an hour.
//
// If the wall clock moves by more than two minutes against the monotonic clock, the clock
// freezes: all three times continue at the monotonic pace from where they were, and
// nothing is scheduled or erased. The freeze ends when the wall clock is right again, or
// after it has run steadily for an hour.
type clock struct {
	decision time.Time     // at up
	wallLag  time.Duration // decision time − wall time, never negative
	erasure  time.Time     // at up
	up       time.Duration // uptime at the last reading

	driftedAt     time.Duration // uptime at which the wall last differed by more than maxWallDrift
	frozen        bool
	offset        time.Duration // wall clock − wall time, while frozen
	startedBehind bool          // frozen since the start because the wall clock was behind the record
}

// newClock continues from the record of the last process. A new store has no record.
func newClock(rec clockRecord, r reading) clock {
	c := clock{decision: r.wall, erasure: r.wall, up: r.up, driftedAt: r.up}
	if rec.Highest.IsZero() {
		return c
	}
	c.decision, c.wallLag, c.erasure = rec.Highest, rec.WallLag, rec.ErasureTime
	downtime := r.wall.Sub(rec.Highest.Add(-rec.WallLag)) // if the wall clock is right
	if downtime < -maxWallStep || downtime > maxDowntime {
		c.frozen, c.offset, c.startedBehind = true, downtime, downtime < 0
		return c
	}
	c.trust(r.wall)
	return c
}

func (c clock) decisionAt(up time.Duration) time.Time { return c.decision.Add(up - c.up) }
func (c clock) wallAt(up time.Duration) time.Time     { return c.decisionAt(up).Add(-c.wallLag) }
func (c clock) erasureAt(up time.Duration) time.Time  { return c.erasure.Add(up - c.up) }

// observe returns the clock after a reading. jump is how far the decision time moves ahead
// of the monotonic clock. In that time the set was not served, or it is not known that it
// was, so it must not count as propagation of a key.
func (c clock) observe(r reading) (next clock, jump time.Duration) {
	step := r.wall.Sub(c.wallAt(r.up))
	next = c
	next.decision, next.erasure, next.up = c.decisionAt(r.up), c.erasureAt(r.up), r.up
	switch {
	case (step - r.slept).Abs() <= maxWallStep, c.startedBehind && step > 0 && step <= maxDowntime:
		next.trust(r.wall)
	case !c.frozen, (step - c.offset).Abs() > maxWallStep:
		next.frozen, next.offset, next.driftedAt = true, step, r.up
	case r.up-c.driftedAt >= trustAfter:
		next.trust(r.wall)
	}
	if step.Abs() > maxWallDrift && !next.frozen {
		next.driftedAt = r.up
	}
	if !next.frozen && r.up-next.driftedAt >= trustAfter && r.wall.After(next.erasure) {
		next.erasure = r.wall
	}
	return next, next.decision.Sub(c.decisionAt(r.up))
}

// trust sets the wall time to the wall clock. The decision time follows, but never goes
// back.
func (c *clock) trust(wall time.Time) {
	c.decision = latest(c.decision, wall)
	c.wallLag = c.decision.Sub(wall)
	c.frozen, c.startedBehind, c.offset = false, false, 0
}
