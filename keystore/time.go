package keystore

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"keymill/storage"
)

// Now is the time of decisions: the highest time seen. It never goes back.
func (r *Rings) Now() time.Time {
	c := r.clock.Load()
	return c.nowAt(r.up())
}

// WallTime is the time for claims that others compare with their own clocks (iat, exp): the
// wall clock, unless that jumped and cannot be trusted.
func (r *Rings) WallTime() time.Time {
	c := r.clock.Load()
	return c.stampAt(r.up())
}

// ErasureTime is the time for what cannot be undone: it counts observed uptime only, and follows
// the wall clock after an hour in which both agreed.
func (r *Rings) ErasureTime() time.Time {
	c := r.clock.Load()
	return c.erasingAt(r.up())
}

// ServedTime is for how long this store has been served in all: a clock that stands still in a
// downtime and knows no date. After a crash it repeats up to a heartbeat.
func (r *Rings) ServedTime() time.Duration { return r.served + r.up() }

// up is the uptime of the process, on a clock that stands still while the machine sleeps.
func (r *Rings) up() time.Duration { return time.Since(r.began) }

// slept is for how long this machine has been suspended since it booted.
func slept() time.Duration {
	var boot, monotonic unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic) != nil ||
		unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - monotonic.Nano())
}

// reading looks at the machine's clocks. A laptop that wakes up has a wall clock that is
// right and a monotonic one that stood still; under a second is no sleep, since the two
// are not read at the same instant.
func (r *Rings) reading() reading {
	out := reading{wall: r.wall().Round(0).UTC(), up: r.up()}
	if more := slept() - r.slept; more >= time.Second {
		out.slept = more
	}
	return out
}

// beat writes the clock record, so that the next start knows until when we were here.
func (r *Rings) beat(ctx context.Context, c clock) error {
	up := r.up()
	rec := r.record
	rec.Highest, rec.Lag, rec.Erasing, rec.Served = c.nowAt(up), c.lag, c.erasingAt(up), r.served+up
	if err := r.store.Update(ctx, func(tx storage.Tx) error { return putJSON(tx, clockKey, rec) }); err != nil {
		return err
	}
	r.record, r.lastBeat = rec, up
	return nil
}

// recordAt is the clock record of a decision at now.
func (r *Rings) recordAt(now time.Time) clockRecord {
	rec := r.record
	c, up := r.clock.Load(), r.up()
	rec.Highest, rec.Lag, rec.Erasing, rec.Served = latest(rec.Highest, now), c.lag, c.erasingAt(up), r.served+up
	return rec
}
