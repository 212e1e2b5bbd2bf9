package keystore

import (
	"context"
	"fmt"
	"time"

	"keymill/keystore/internal/clock"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
	"keymill/storage/sealed"
)

// Now returns the decision time: the highest time seen. It never goes back.
func (r *Rings) Now() time.Time {
	now, _ := r.Times()
	return now
}

// Times returns the decision time and the served time of the same instant.
func (r *Rings) Times() (decision time.Time, served time.Duration) {
	c, up := r.clock.Load(), r.up()
	return c.DecisionAt(up), c.ServedAt(up)
}

// WallTime returns the time for claims that others compare with their own clocks (iat, exp).
// It is the wall clock, unless that jumped and cannot be trusted.
func (r *Rings) WallTime() time.Time {
	c := r.clock.Load()
	return c.WallAt(r.up())
}

// checkWallClock refuses a clock that was never set: records with its times would be damage.
func checkWallClock(now time.Time) error {
	if storage.PossibleTime(now.UTC()) {
		return nil
	}
	return fmt.Errorf("the clock of this machine says %s; set it first", now.UTC().Format(time.RFC3339))
}

// ErasureTime returns the time for steps that cannot be undone. It counts observed uptime
// only, and follows the wall clock after both agreed for an hour.
func (r *Rings) ErasureTime() time.Time {
	c := r.clock.Load()
	return c.ErasureAt(r.up())
}

// ServedTime returns how long all processes together have served this store. It does not
// advance in a downtime and has no date. After a crash up to one heartbeat of it counts again.
func (r *Rings) ServedTime() time.Duration {
	_, served := r.Times()
	return served
}

// up returns the uptime of the process. It does not count time in which the machine is
// suspended.
func (r *Rings) up() time.Duration { return time.Since(r.began) }

// readClocks reads the clocks of the machine. After a laptop wakes up, its wall clock is
// right and its monotonic clock has stood still; without slept that would look like a jump.
// Less than a second is not a suspension, because the two clocks in suspended are not read
// at the same instant.
func (r *Rings) readClocks() clock.Reading {
	out := clock.Reading{Wall: r.wallClock().Round(0).UTC(), Up: r.up()}
	if more := clock.Suspended() - r.slept; more >= time.Second {
		out.Slept = more
	}
	return out
}

// writeClock writes the clock record, so that the next start knows how long this process
// was up. A crash loses at most one heartbeat of it.
func (r *Rings) writeClock(ctx context.Context, c clock.Clock) error {
	if r.clockFault() != nil {
		return nil
	}
	up := r.up()
	own := c.Record(r.clockRecord, up)
	var rec clock.Record
	err := r.store.Update(ctx, func(tx storage.Tx) (err error) {
		rec = own
		if rec.Manifest, err = sealed.ManifestVersion(tx); err != nil {
			return err
		}
		if err := r.checkManifestVersion(rec.Manifest); err != nil {
			return err
		}
		rec, err = r.putClock(tx, rec)
		return err
	})
	if err != nil {
		return err
	}
	r.clockRecord, r.clockStored, r.clockWritten = rec, true, up
	r.writeMark(rec.ServedTime)
	return nil
}

// putClock writes the clock record and returns it. Another node may have written a later one, so nothing in it goes
// back. putClock writes nothing over a damaged record or in place of one that is lost or older than this node has seen: the
// next start must see what became of it.
func (r *Rings) putClock(tx storage.Tx, rec clock.Record) (clock.Record, error) {
	var last clock.Record
	found, err := getJSON(tx, clockKey, &last)
	switch {
	case err != nil:
		return rec, err
	case !found && r.clockStored:
		return rec, storage.Damaged(clockKey, "it is missing")
	case found && last.ServedTime < r.clockRecord.ServedTime:
		return rec, storage.Damaged(clockKey, "it is an older one that was put back")
	}
	rec = rec.After(last)
	return rec, putJSON(tx, clockKey, rec)
}

// putClockAt writes the clock record of a decision.
func (r *Rings) putClockAt(d decision) error {
	if r.clockFault() != nil {
		return nil
	}
	_, err := r.putClock(d.tx, r.clockRecordAt(d.now))
	return err
}

// clockRecordAt returns the clock record of a decision at now.
func (r *Rings) clockRecordAt(now time.Time) clock.Record {
	rec := r.clock.Load().Record(r.clockRecord, r.up())
	rec.Highest = schedule.Latest(r.clockRecord.Highest, now)
	return rec
}
