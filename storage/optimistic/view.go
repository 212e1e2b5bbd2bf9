package optimistic

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"keymill/storage"
)

// View runs fn on cached records, and compares them with those of one instant. Then fn runs at most three times, or
// up to maxRuns times more in a Snapshot.
func (s *Store) View(ctx context.Context, fn func(storage.Reader) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.running.Done()
	first := &run{known: s.cache.get, store: s, ctx: ctx, until: time.Now().Add(s.opts.Deadline), view: true}
	result := first.show(fn)
	if first.failed == nil && first.reads() {
		instant, err := s.compare(ctx, first.until, first.records)
		if err != nil {
			return err
		}
		if !instant.holds(first.records) {
			second := &run{known: instant.get, view: true}
			result = second.show(fn)
			first = second
		}
	}
	switch {
	case first.failed == errIncomplete:
		return s.snapshot(ctx, fn)
	case first.failed != nil:
		return first.failed
	}
	return result()
}

// snapshot runs fn in a Snapshot, and in another one if the Engine is lost while fn runs. If the Engine does not
// come back, it says so before fn runs.
func (s *Store) snapshot(ctx context.Context, fn func(storage.Reader) error) error {
	for runs := 1; ; runs++ {
		ran := false
		err := s.health.note(s.engine.Snapshot(ctx, func(r storage.Reader) error {
			ran = true
			return fn(r)
		}))
		if !ran || runs == maxRuns || !errors.Is(err, storage.ErrUnavailable) {
			return err
		}
	}
}

// show runs fn. The result is a function, because it can be a panic, and does not count yet.
func (r *run) show(fn func(storage.Reader) error) (result func() error) {
	defer func() {
		r.ended = true
		if p := recover(); p != nil {
			caught := &storage.Panic{Value: p, Stack: debug.Stack()}
			result = func() error { panic(caught) }
		}
	}()
	err := fn(r)
	return func() error { return err }
}

// An instant is the records of one instant, as far as a batch of Views has read them.
type instant map[string]Record

func (i instant) get(key string) (Record, bool) {
	r, ok := i[key]
	return r, ok
}

// holds reports whether the records are those of the instant.
func (i instant) holds(records []Record) bool {
	for _, r := range records {
		if i[r.Key].Version != r.Version {
			return false
		}
	}
	return true
}

// A check is one View that waits for a comparison of what it read.
type check struct {
	records []Record
	done    chan struct{} // closed when instant and err are final
	instant instant
	err     error
}

// compare returns the records as they are at one instant after the call. While it waits, the caller works ahead.
func (s *Store) compare(ctx context.Context, until time.Time, records []Record) (instant, error) {
	c := &check{records: records, done: make(chan struct{})}
	if err := send(ctx, until, s.views, c); err != nil {
		return nil, err
	}
	storage.WorkAhead(ctx)
	if err := await(ctx, until, c.done); err != nil {
		return nil, err
	}
	return c.instant, c.err
}

// viewLoop compares what the Views that wait have read, until the Store is closed.
func (s *Store) viewLoop() {
	var held *check
	var checks []*check
	for open := true; open; {
		last := len(checks)
		checks = nil
		records := instant{}
		held, open = gather(s.views, held, last, func(c *check) bool {
			if len(checks) == maxGroupCalls || len(records)+len(c.records) > MaxCommitKeys {
				return false
			}
			checks = append(checks, c)
			records.add(c)
			return true
		})
		if len(checks) > 0 {
			if away := s.check(checks, records); away != nil {
				if held != nil {
					held.fail(away)
					held = nil
				}
				drain(s.views, func(c *check) { c.fail(away) })
			}
		}
	}
}

// add adds what a View has read. If another one has read another version of a record, only one of them can hold.
func (i instant) add(c *check) {
	for _, r := range c.records {
		i[r.Key] = r
	}
}

func (c *check) fail(err error) {
	c.err = err
	close(c.done)
}

// check compares the records and ends the checks. It returns the error that the checks behind them have as well, or nil.
func (s *Store) check(checks []*check, records instant) (away error) {
	b := &Batch{Reads: compared(records)}
	begun := time.Now()
	_, stale, err := s.engine.Commit(context.Background(), s.opts.Committers, b)
	s.health.note(err)
	if stale != nil {
		for _, r := range stale.Records {
			s.cache.put(r)
			records[r.Key] = r
		}
	}
	if err != nil {
		s.cache.drop(b.Reads)
	}
	for _, c := range checks {
		c.instant, c.err = records, err
		close(c.done)
	}
	return failureOfAll(err, begun)
}
