// Package clock computes the times of decisions, claims and erasures from the clocks of the machine,
// which can be wrong. It is pure: it reads no clock, apart from Suspended and a Sleep.
package clock

import "time"

const (
	// maxWallStep is how far the wall clock may move against the monotonic clock. After a
	// larger step the wall clock is not trusted, and nothing is scheduled or erased.
	maxWallStep = 2 * time.Minute
	// MaxWallDrift is how far the two may differ and still count as equal.
	MaxWallDrift = time.Second
	// TrustAfter is how long the two must stay equal before the erasure time follows the
	// wall clock, and before a wall clock that jumped is trusted again.
	TrustAfter = time.Hour
	// maxDowntime is the longest downtime that is believed at a start. A longer one is
	// treated as a wrong wall clock.
	maxDowntime = 365 * 24 * time.Hour
)

// A Record is what the next process needs to know about the clocks.
type Record struct {
	Highest        time.Time     `json:"highest"`  // latest decision time
	WallLag        time.Duration `json:"lag"`      // decision time − wall time
	ErasureTime    time.Time     `json:"erasing"`  // latest erasure time
	MaxAge         time.Duration `json:"max_age"`  // with which the set was last served
	OldCachesUntil time.Time     `json:"hold"`     // until when caches may hold a set served with an earlier, longer max-age
	ServedTime     time.Duration `json:"served"`   // uptime of all processes on this store together
	Manifest       uint64        `json:"manifest"` // version of the manifest at that time
}

// After returns r as the record that follows last, which another node may have written: nothing that can only rise
// goes back. WallLag stays that of the writer, whose wall clock both records are compared with.
func (r Record) After(last Record) Record {
	latest := func(a, b time.Time) time.Time {
		if a.After(b) {
			return a
		}
		return b
	}
	highest := latest(r.Highest, last.Highest)
	r.Highest, r.WallLag = highest, r.WallLag+highest.Sub(r.Highest)
	r.ErasureTime = latest(r.ErasureTime, last.ErasureTime)
	r.OldCachesUntil = latest(r.OldCachesUntil, last.OldCachesUntil)
	r.ServedTime = max(r.ServedTime, last.ServedTime)
	r.Manifest = max(r.Manifest, last.Manifest)
	return r
}

// A Reading is one look at the clocks of the machine.
type Reading struct {
	Wall  time.Time     // wall clock
	Up    time.Duration // uptime of the process, by the monotonic clock
	Slept time.Duration // how long the machine was suspended since the last reading; Up does not count it
}

// A Clock computes four times. Between two readings all of them advance with the
// monotonic clock, so a step of the wall clock cannot affect a decision before Observe
// has seen it.
//
//   - The decision time orders all decisions. It is the highest time seen and never goes
//     back.
//   - The wall time is for claims that others compare with their own clocks (iat, exp).
//     It is the wall clock, as long as that can be trusted.
//   - The erasure time is for steps that cannot be undone. It counts observed uptime only,
//     and follows the wall clock after both agreed for an hour.
//   - The served time is the uptime of all processes together.
//
// If the wall clock moves by more than two minutes against the monotonic clock, the clock
// freezes: all three times continue at the monotonic pace from where they were, and
// nothing is scheduled or erased. The freeze ends when the wall clock is right again, or
// after it has run steadily for an hour.
type Clock struct {
	Up      time.Duration // uptime at the last reading
	WallLag time.Duration // decision time − wall time, never negative
	Frozen  bool
	Offset  time.Duration // wall clock − wall time, while frozen

	decision time.Time     // at Up
	erasure  time.Time     // at Up
	served   time.Duration // at Up

	driftedAt     time.Duration // uptime at which the wall last differed by more than MaxWallDrift
	startedBehind bool          // frozen since the start because the wall clock was behind the record
}

// New continues from the record of the last process. A new store has no record.
func New(rec Record, r Reading) Clock {
	c := Clock{decision: r.Wall, erasure: r.Wall, served: rec.ServedTime + r.Up, Up: r.Up, driftedAt: r.Up}
	if rec.Highest.IsZero() {
		return c
	}
	c.decision, c.WallLag, c.erasure = rec.Highest, rec.WallLag, rec.ErasureTime
	downtime := r.Wall.Sub(rec.Highest.Add(-rec.WallLag)) // if the wall clock is right
	if downtime < -maxWallStep || downtime > maxDowntime {
		c.Frozen, c.Offset, c.startedBehind = true, downtime, downtime < 0
		return c
	}
	c.trust(r.Wall)
	return c
}

// DecisionAt returns the decision time at an uptime after the last reading.
func (c Clock) DecisionAt(up time.Duration) time.Time { return c.decision.Add(up - c.Up) }

// WallAt returns the wall time, as DecisionAt.
func (c Clock) WallAt(up time.Duration) time.Time { return c.DecisionAt(up).Add(-c.WallLag) }

// ErasureAt returns the erasure time, as DecisionAt.
func (c Clock) ErasureAt(up time.Duration) time.Time { return c.erasure.Add(up - c.Up) }

// ServedAt returns the served time, as DecisionAt.
func (c Clock) ServedAt(up time.Duration) time.Duration { return c.served + up - c.Up }

// Record returns rec with the times of the clock at up.
func (c Clock) Record(rec Record, up time.Duration) Record {
	rec.Highest, rec.WallLag, rec.ErasureTime, rec.ServedTime = c.DecisionAt(up), c.WallLag, c.ErasureAt(up), c.ServedAt(up)
	return rec
}

// Adopt returns the clock at up with a decision time and a served time that are not before those of rec, which
// another node may have written. The wall time stays. So does the erasure time, which counts what this
// process has observed.
func (c Clock) Adopt(rec Record, up time.Duration) Clock {
	if ahead := rec.Highest.Sub(c.DecisionAt(up)); ahead > 0 {
		c.decision, c.WallLag = c.decision.Add(ahead), c.WallLag+ahead
	}
	c.served += max(0, rec.ServedTime-c.ServedAt(up))
	return c
}

// Step returns how far the wall clock has moved against the monotonic clock.
func (c Clock) Step(r Reading) time.Duration { return r.Wall.Sub(c.WallAt(r.Up)) - r.Slept }

// Observe returns the clock after a reading. jump is how far the decision time moves ahead
// of the monotonic clock. In that time the set was not served, or it is not known that it
// was, so it must not count as propagation of a key.
func (c Clock) Observe(r Reading) (next Clock, jump time.Duration) {
	step := r.Wall.Sub(c.WallAt(r.Up))
	next = c
	next.decision, next.erasure, next.served, next.Up = c.DecisionAt(r.Up), c.ErasureAt(r.Up), c.ServedAt(r.Up), r.Up
	switch {
	case (step - r.Slept).Abs() <= maxWallStep, c.startedBehind && step > 0 && step <= maxDowntime:
		next.trust(r.Wall)
	case !c.Frozen, (step - c.Offset).Abs() > maxWallStep:
		next.Frozen, next.Offset, next.driftedAt = true, step, r.Up
	case r.Up-c.driftedAt >= TrustAfter:
		next.trust(r.Wall)
	}
	if step.Abs() > MaxWallDrift && !next.Frozen {
		next.driftedAt = r.Up
	}
	if !next.Frozen && r.Up-next.driftedAt >= TrustAfter && r.Wall.After(next.erasure) {
		next.erasure = r.Wall
	}
	return next, next.decision.Sub(c.DecisionAt(r.Up))
}

// trust sets the wall time to the wall clock. The decision time follows, but never goes
// back.
func (c *Clock) trust(wall time.Time) {
	if wall.After(c.decision) {
		c.decision = wall
	}
	c.WallLag = c.decision.Sub(wall)
	c.Frozen, c.startedBehind, c.Offset = false, false, 0
}
