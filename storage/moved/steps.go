package moved

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// A Request is one step of a migration, as the server of a source is asked for it.
type Request struct {
	Step   string `json:"step"` // begin, renew, finish or free
	Record Record `json:"record"`
	Over   uint64 `json:"over,omitempty"` // for begin, see Begin
}

// Do takes one step on a source. It returns the record of the store afterwards, nil if it has none.
func Do(ctx context.Context, s storage.Store, q Request) (*Record, error) {
	var err error
	switch q.Step {
	case "begin":
		err = Begin(ctx, s, q.Record, q.Over)
	case "renew":
		err = Renew(ctx, s, q.Record.Run)
	case "finish":
		err = Finish(ctx, s, q.Record.Run)
	case "free":
		err = Free(ctx, s, q.Record.Run)
	}
	if err != nil {
		return nil, err
	}
	return Of(ctx, s)
}

// ErrLost means that the record is no longer that of the run: the source was freed, or another run has it.
var ErrLost = errors.New("the source was freed in the meantime, or another migration has begun")

// Begin makes m the record of a source, so that no Update of a Gate succeeds from then on. A record that is there
// is an *Error. If it says moving and its Beat is over, it is replaced: the caller has seen that no one renews it.
func Begin(ctx context.Context, s storage.Store, m Record, over uint64) error {
	m.State, m.Time, m.Beat = Moving, time.Now().UTC(), 1
	return s.Update(ctx, func(tx storage.Tx) error {
		old, err := Read(tx)
		if err != nil {
			return err
		}
		if old != nil && old.Run != m.Run {
			if old.State != Moving || over == 0 || old.Beat != over {
				return &Error{*old}
			}
			m.Beat = over + 1 // a run that was taken for dead sees another record
		}
		return put(tx, m)
	})
}

// change changes the record of the run in a source.
func change(ctx context.Context, s storage.Store, run string, fn func(storage.Tx, *Record) error) error {
	return s.Update(ctx, func(tx storage.Tx) error {
		m, err := Read(tx)
		if err != nil {
			return err
		}
		if m == nil || m.Run != run || m.State == Incomplete {
			return ErrLost
		}
		return fn(tx, m)
	})
}

// Renew says that the run is still at work. A run that does not for a minute loses the source.
func Renew(ctx context.Context, s storage.Store, run string) error {
	return change(ctx, s, run, func(tx storage.Tx, m *Record) error {
		if m.State == Moved {
			return nil
		}
		m.Beat++
		return put(tx, *m)
	})
}

// Finish makes the source one that was moved. When it returns nil, that is durable.
func Finish(ctx context.Context, s storage.Store, run string) error {
	now := time.Now().UTC()
	return change(ctx, s, run, func(tx storage.Tx, m *Record) error {
		if m.State == Moved {
			return nil // the answer to an earlier call was lost
		}
		m.State, m.Time, m.Beat = Moved, now, 0
		return put(tx, *m)
	})
}

// Free removes the record of a source that is being moved, so that it is written again. An empty run means any. A
// store that was moved, and a target, are an *Error.
func Free(ctx context.Context, s storage.Store, run string) error {
	return s.Update(ctx, func(tx storage.Tx) error {
		m, err := Read(tx)
		switch {
		case run == "" && errors.Is(err, storage.ErrDamaged):
			return tx.Delete(storage.MovedKey)
		case err != nil:
			return err
		case m == nil || run != "" && m.Run != run:
			return nil
		case m.State != Moving:
			return &Error{*m}
		}
		return tx.Delete(storage.MovedKey)
	})
}

// Expect makes m the record of a target: an empty store, or one that an earlier run from the same source has left.
func Expect(ctx context.Context, s storage.Store, m Record) error {
	m.State, m.Time, m.Beat = Incomplete, time.Now().UTC(), 0
	return s.Update(ctx, func(tx storage.Tx) error {
		if err := CheckTarget(tx, m); err != nil {
			return err
		}
		return put(tx, m)
	})
}

// Expected returns an error unless the target is still that of the run.
func Expected(ctx context.Context, s storage.Store, run string) error {
	return s.View(ctx, func(r storage.Reader) error { return CheckExpected(r, run) })
}

// CheckExpected is Expected in each transaction that writes to the target. A run can be paused while another one completes
// the target, which is served then.
func CheckExpected(r storage.Reader, run string) error {
	m, err := Read(r)
	if err == nil && (m == nil || m.State != Incomplete || m.Run != run) {
		err = errors.New("another migration has taken the target")
	}
	return err
}

// An OccupiedError means that a target holds records that are not those of an earlier run.
type OccupiedError struct {
	Database string // id of the store in it; "" if it has none
	Same     bool   // it is that of the source
}

// Error says what the target holds.
func (e *OccupiedError) Error() string {
	switch {
	case e.Same:
		return fmt.Sprintf("the target already holds a store with the id of the source, %s", e.Database)
	case e.Database != "":
		return fmt.Sprintf("the target already holds another store, with the id %s", e.Database)
	}
	return "the target already holds records"
}

// CheckTarget returns an error unless m can be the record of a target with these records.
func CheckTarget(r storage.Reader, m Record) error {
	old, err := Read(r)
	switch {
	case err != nil:
		return err
	case old != nil && old.State == Incomplete && old.Database == m.Database && old.From == m.From:
		return nil
	case old != nil:
		return &Error{*old}
	}
	for _, err := range r.Scan("", "") {
		if err != nil {
			return err
		}
		meta, err := storage.ReadMeta(r)
		if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrDamaged) {
			return err
		}
		return &OccupiedError{meta.DatabaseID, meta.DatabaseID == m.Database}
	}
	return nil
}

// Complete removes the record of a target, so that it can be served.
func Complete(ctx context.Context, s storage.Store, run string) error {
	return s.Update(ctx, func(tx storage.Tx) error {
		m, err := Read(tx)
		switch {
		case err != nil:
			return err
		case m == nil:
			return nil // the answer to an earlier call was lost
		case m.State != Incomplete || m.Run != run:
			return &Error{*m}
		}
		return tx.Delete(storage.MovedKey)
	})
}
