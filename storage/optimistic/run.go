package optimistic

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"keymill/storage"
)

var (
	// errEnded is returned to callers that use a Reader after its View has ended.
	errEnded = errors.New("transaction has ended")
	// errIncomplete ends a run that cannot be finished where it is, so it is discarded.
	errIncomplete = errors.New("the function has to run elsewhere, and this run is discarded")
)

// ofGroup is the version of a record that an earlier call of the same group writes. It has a version only
// after the commit. A record that is deleted has no value.
const ofGroup = -1

// exists reports whether there is a record.
func (r Record) exists() bool { return r.Version > 0 || r.Version == ofGroup && r.Value != nil }

// maxViewKeys is how many keys a View reads before it uses a Snapshot.
const maxViewKeys = MaxCommitKeys / 2

// scanRecords is how many records a Scan asks for at once: an Update that reads more fails.
const scanRecords = storage.MaxUpdateKeys + 1

// A run is what one run of a function reads: the Reader below its Overlay, or that of a View. It notes
// every record, and shows the same record again.
type run struct {
	known func(key string) (Record, bool) // looks a record up without the Engine
	store *Store                          // fetches and scans; nil if the run has to do with what is known
	ctx   context.Context                 // of the caller; used with store, as is until
	until time.Time                       // when the function has to have read all
	view  bool
	ended bool // only set for a View, because an Overlay refuses use after its end

	records []Record // read by key, in the order in which they were read first, each key once
	spans   []Span
	failed  error // why the run does not count, whatever the function returned
}

// reads reports whether the run read anything, so that there is something to compare.
func (r *run) reads() bool { return len(r.records) > 0 || len(r.spans) > 0 }

// Get returns a copy.
func (r *run) Get(key string) ([]byte, error) {
	if err := r.load(key); err != nil {
		return nil, err
	}
	if rec := r.find(key); rec.exists() {
		return clone(rec.Value), nil
	}
	return nil, storage.ErrNotFound
}

// GetAll returns copies.
func (r *run) GetAll(keys ...string) ([][]byte, error) {
	if err := r.load(keys...); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		if rec := r.find(key); rec.exists() {
			values[i] = clone(rec.Value)
		}
	}
	return values, nil
}

// load notes the records under keys.
func (r *run) load(keys ...string) error {
	if err := r.usable(keys...); err != nil {
		return err
	}
	var missing []string
	for _, key := range keys {
		if r.find(key) != nil || slices.Contains(missing, key) {
			continue
		}
		if rec, ok := r.known(key); ok {
			r.records = append(r.records, rec)
		} else {
			missing = append(missing, key)
		}
	}
	if r.view && len(r.records)+len(missing) > maxViewKeys {
		return r.fail(errIncomplete)
	}
	if len(missing) == 0 {
		return nil
	}
	if r.store == nil {
		return r.fail(errIncomplete)
	}
	fetched, err := r.store.fetch(r.ctx, r.until, missing)
	if err != nil {
		return r.fail(err)
	}
	r.records = append(r.records, fetched...)
	return nil
}

func (r *run) usable(keys ...string) error {
	if r.ended {
		return errEnded
	}
	if r.view { // an Overlay has checked the keys of an Update
		for _, key := range keys {
			if err := storage.CheckKey(key); err != nil {
				return err
			}
		}
	}
	return r.failed
}

func (r *run) fail(err error) error {
	r.failed = err
	return err
}

// find returns the record, or nil if the function has not read it.
func (r *run) find(key string) *Record {
	for i := range r.records {
		if r.records[i].Key == key {
			return &r.records[i]
		}
	}
	return nil
}

// Scan notes the part of the range that the function has seen. The note of a record is written before the
// function sees it, because a loop can be left at any step, and iter.Pull can continue it after the run.
func (r *run) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		err := r.usable()
		if err == nil && (r.store == nil || r.view) {
			err = r.fail(errIncomplete)
		}
		if err != nil {
			yield(storage.Entry{}, err)
			return
		}
		if end != "" && start >= end {
			return
		}
		n := -1 // index of the span
		for from := start; ; {
			page, err := r.store.scan(r.ctx, r.until, from, end)
			if err != nil {
				yield(storage.Entry{}, r.fail(err))
				return
			}
			if n < 0 {
				n = len(r.spans)
				r.spans = append(r.spans, Span{Start: start, End: end})
			}
			for _, rec := range page {
				span := &r.spans[n] // the loop of the function may scan, too
				span.Records = append(span.Records, Record{Key: rec.Key, Version: rec.Version})
				span.End = storage.After(rec.Key)
				if !yield(storage.Entry{Key: rec.Key, Value: rec.Value}, nil) {
					return
				}
			}
			if len(page) < scanRecords {
				r.spans[n].End = end
				return
			}
			from = r.spans[n].End
		}
	}
}

// scan asks for the next records of a range.
func (s *Store) scan(caller context.Context, until time.Time, from, end string) ([]Record, error) {
	ctx, cancel := context.WithDeadline(caller, until)
	defer cancel()
	page, err := s.engine.Scan(ctx, from, end, scanRecords)
	if s.health.note(err); caller.Err() == nil {
		err = ofStore(err)
	}
	return page, err
}

// clone never returns nil, because GetAll returns nil for an absent record.
func clone(b []byte) []byte { return append([]byte{}, b...) }
