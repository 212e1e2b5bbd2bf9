package keystore

import "time"

const (
	// step is how far wall and monotonic clock may part before nothing is decided any more.
	step = 2 * time.Minute
	// slip is how far they may part and still be said to agree.
	slip = time.Second
	// agreement is how long they must agree before the clock of erasures follows the wall,
	// or before a wall clock that jumped is believed.
	agreement = time.Hour
	// absence is the longest downtime that is believed at once.
	absence = 365 * 24 * time.Hour
)

// A clockRecord is what outlives the process.
type clockRecord struct {
	Highest time.Time     `json:"highest"` // decision time last seen
	Lag     time.Duration `json:"lag"`     // of the wall behind it
	Erasing time.Time     `json:"erasing"` // the clock of erasures, last seen
	MaxAge  time.Duration `json:"max_age"` // that the set was last served with
	Hold    time.Time     `json:"hold"`    // until when caches may keep a set under an older max-age
	Served  time.Duration `json:"served"`  // uptime of every process on this store together
}

// A reading is one look at the machine's clocks.
type reading struct {
	wall  time.Time
	up    time.Duration // since the process began
	slept time.Duration // by the machine, since the last reading; up does not count it
}

// A clock tells three times, all of which run with the monotonic clock between two
// readings, so that no step of the wall clock can reach a decision unseen:
//
//   - now, for decisions: the highest time seen. It never goes back.
//   - stamp, for iat and exp, which others compare with their own clocks: the wall clock,
//     as long as it can be trusted.
//   - erasing, for what cannot be undone: it counts observed uptime only, and follows the
//     wall after an hour in which both agreed.
//
// A wall clock that parts from the monotonic one by over two minutes freezes the clock:
// all three go on at the monotonic pace from where they were, and nothing is scheduled or
// erased until the wall comes back or has kept to its new time for an hour.
type clock struct {
	now     time.Time     // at up
	lag     time.Duration // now − stamp ≥ 0
	erasing time.Time     // at up
	up      time.Duration

	agreed time.Duration // uptime at which the wall last parted by over slip
	frozen bool
	offset time.Duration // wall − stamp while frozen
	behind bool          // frozen since the start, when the wall was behind the record
}

// startClock continues from the record of the last process; a new store has none.
func startClock(rec clockRecord, r reading) clock {
	c := clock{now: r.wall, erasing: r.wall, up: r.up, agreed: r.up}
	if rec.Highest.IsZero() {
		return c
	}
	c.now, c.lag, c.erasing = rec.Highest, rec.Lag, rec.Erasing
	gap := r.wall.Sub(rec.Highest.Add(-rec.Lag)) // the downtime, if the wall is right
	if gap < -step || gap > absence {
		c.frozen, c.offset, c.behind = true, gap, gap < 0
		return c
	}
	c.follow(r.wall)
	return c
}

func (c clock) nowAt(up time.Duration) time.Time     { return c.now.Add(up - c.up) }
func (c clock) stampAt(up time.Duration) time.Time   { return c.nowAt(up).Add(-c.lag) }
func (c clock) erasingAt(up time.Duration) time.Time { return c.erasing.Add(up - c.up) }

// observe takes a reading into account. jump is by how much now moves ahead of what the
// monotonic clock tells: time in which the set was not served, or was not seen to be.
func (c clock) observe(r reading) (next clock, jump time.Duration) {
	parted := r.wall.Sub(c.stampAt(r.up))
	next = c
	next.now, next.erasing, next.up = c.nowAt(r.up), c.erasingAt(r.up), r.up
	switch {
	case (parted - r.slept).Abs() <= step, c.behind && parted > 0 && parted <= absence:
		next.follow(r.wall)
	case !c.frozen, (parted - c.offset).Abs() > step:
		next.frozen, next.offset, next.agreed = true, parted, r.up
	case r.up-c.agreed >= agreement:
		next.follow(r.wall)
	}
	if parted.Abs() > slip && !next.frozen {
		next.agreed = r.up
	}
	if !next.frozen && r.up-next.agreed >= agreement && r.wall.After(next.erasing) {
		next.erasing = r.wall
	}
	return next, next.now.Sub(c.nowAt(r.up))
}

// follow believes the wall clock, except that now never goes back.
func (c *clock) follow(wall time.Time) {
	c.now = latest(c.now, wall)
	c.lag = c.now.Sub(wall)
	c.frozen, c.behind, c.offset = false, false, 0
}
