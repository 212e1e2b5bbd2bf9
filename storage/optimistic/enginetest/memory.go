// Package enginetest has an optimistic.Engine in memory, with faults on demand, for tests of what stands on
// an Engine.
package enginetest

import (
	"context"
	"errors"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
)

// A Database is what several Engines share, as nodes do.
type Database struct {
	mu      sync.RWMutex
	records map[string]optimistic.Record // guarded by mu, absent records excepted
	writes  sync.RWMutex                 // held for writing by an Exclusive, and for reading by a Commit; before mu
}

// NewDatabase returns an empty database.
func NewDatabase() *Database {
	return &Database{records: map[string]optimistic.Record{}}
}

// Faults are what an Engine does wrong. Each function may be nil, and is called from many goroutines. The
// operation is the name of a method.
type Faults struct {
	Delay func(operation string) time.Duration // before the operation, and again before its answer
	Fail  func(operation string) error         // the operation does nothing and returns the error
	Lose  func() bool                          // a Commit or Exclusive does all and then returns ErrUnknownOutcome
	Touch func(b *optimistic.Batch) string     // before a Commit another node writes this record; none if empty
}

// A Memory is an Engine in a Database.
type Memory struct {
	db     *Database
	faults Faults
}

// Open returns an Engine.
func (d *Database) Open(f Faults) *Memory { return &Memory{d, f} }

// Records returns all records, for a look from outside.
func (d *Database) Records() map[string]optimistic.Record {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return maps.Clone(d.records)
}

// Edit changes the value of a record and leaves its version, as an owner of the database can.
func (d *Database) Edit(key string, value []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.get(key)
	r.Value = slices.Clone(value)
	d.records[key] = r
}

// newVersion returns a version that was never used.
func newVersion() int64 { return rand.Int64N(1<<62) + 1 }

// delay is not called with a lock held, because a synctest bubble would wait for it.
func (m *Memory) delay(operation string) {
	if m.faults.Delay != nil {
		time.Sleep(m.faults.Delay(operation))
	}
}

// meet applies the faults that come before an operation.
func (m *Memory) meet(operation string) error {
	m.delay(operation)
	if m.faults.Fail != nil {
		return m.faults.Fail(operation)
	}
	return nil
}

// Fetch implements optimistic.Engine.
func (m *Memory) Fetch(ctx context.Context, keys []string) ([]optimistic.Record, error) {
	defer m.delay("Fetch")
	if err := m.meet("Fetch"); err != nil {
		return nil, err
	}
	if len(keys) > optimistic.MaxFetchKeys || !slices.IsSorted(keys) || len(slices.Compact(slices.Clone(keys))) < len(keys) {
		return nil, errors.New("a Fetch of too many keys, of one twice, or out of order")
	}
	m.db.mu.RLock()
	defer m.db.mu.RUnlock()
	var records []optimistic.Record
	for _, key := range keys {
		records = append(records, m.db.get(key))
	}
	return records, nil
}

// get returns the record or an absent one. The value is shared.
func (d *Database) get(key string) optimistic.Record {
	if r, ok := d.records[key]; ok {
		return r
	}
	return optimistic.Record{Key: key}
}

// Scan implements optimistic.Engine.
func (m *Memory) Scan(ctx context.Context, start, end string, limit int) ([]optimistic.Record, error) {
	defer m.delay("Scan")
	if err := m.meet("Scan"); err != nil {
		return nil, err
	}
	m.db.mu.RLock()
	defer m.db.mu.RUnlock()
	found := m.db.scan(start, end)
	found = found[:min(limit, len(found))]
	for i := range found {
		found[i].Value = slices.Clone(found[i].Value)
	}
	return found, nil
}

func (d *Database) scan(start, end string) []optimistic.Record {
	var found []optimistic.Record
	for _, key := range slices.Sorted(maps.Keys(d.records)) {
		if start <= key && storage.Before(key, end) {
			found = append(found, d.records[key])
		}
	}
	return found
}

// Commit implements optimistic.Engine.
func (m *Memory) Commit(ctx context.Context, committer int, b *optimistic.Batch) (int64, *optimistic.Stale, error) {
	defer m.delay("Commit")
	if err := m.meet("Commit"); err != nil {
		return 0, nil, err
	}
	if len(b.Writes) > 0 {
		m.db.writes.RLock()
		defer m.db.writes.RUnlock()
	}
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	if m.faults.Touch != nil && len(b.Writes) > 0 {
		if r, ok := m.db.records[m.faults.Touch(b)]; ok {
			r.Version = newVersion()
			m.db.records[r.Key] = r
		}
	}
	if stale := m.db.compare(b); stale != nil {
		return 0, stale, nil
	}
	version := m.db.write(b.Writes)
	if len(b.Writes) > 0 && m.faults.Lose != nil && m.faults.Lose() {
		return 0, nil, storage.ErrUnknownOutcome
	}
	return version, nil, nil
}

// compare returns what of the batch does not hold, or nil.
func (d *Database) compare(b *optimistic.Batch) *optimistic.Stale {
	stale := &optimistic.Stale{}
	for _, r := range b.Reads {
		if now := d.get(r.Key); now.Version != r.Version {
			stale.Records = append(stale.Records, now)
		}
	}
	for _, span := range b.Spans {
		now := d.scan(span.Start, span.End)
		same := slices.EqualFunc(now, span.Records, func(a, b optimistic.Record) bool {
			return a.Key == b.Key && a.Version == b.Version
		})
		stale.Spans = stale.Spans || !same
	}
	if len(stale.Records) == 0 && !stale.Spans {
		return nil
	}
	return stale
}

func (d *Database) write(writes []storage.Write) int64 {
	version := newVersion()
	for _, w := range writes {
		if w.Deleted {
			delete(d.records, w.Key)
		} else {
			d.records[w.Key] = optimistic.Record{Key: w.Key, Value: slices.Clone(w.Value), Version: version}
		}
	}
	return version
}

// Exclusive implements optimistic.Engine.
func (m *Memory) Exclusive(ctx context.Context, committer int, fn func(storage.Reader) ([]storage.Write, error)) (int64, error) {
	defer m.delay("Exclusive")
	if err := m.meet("Exclusive"); err != nil {
		return 0, err
	}
	m.db.writes.Lock()
	defer m.db.writes.Unlock()
	writes, err := fn(&reader{records: m.db.Records()})
	if err != nil {
		return 0, err
	}
	m.db.mu.Lock()
	defer m.db.mu.Unlock()
	version := m.db.write(writes)
	if m.faults.Lose != nil && m.faults.Lose() {
		return 0, storage.ErrUnknownOutcome
	}
	return version, nil
}

// Snapshot implements optimistic.Engine.
func (m *Memory) Snapshot(ctx context.Context, fn func(storage.Reader) error) error {
	defer m.delay("Snapshot")
	if err := m.meet("Snapshot"); err != nil {
		return err
	}
	r := &reader{records: m.db.Records()}
	defer func() { r.records = nil }()
	return fn(r)
}

// Size implements optimistic.Engine.
func (m *Memory) Size(ctx context.Context) (int64, error) {
	if err := m.meet("Size"); err != nil {
		return 0, err
	}
	bytes := 0
	for key, r := range m.db.Records() {
		bytes += len(key) + len(r.Value)
	}
	return int64(bytes), nil
}

// Close implements optimistic.Engine. The Database stays.
func (m *Memory) Close() error { return nil }

// A reader reads a copy of all records.
type reader struct{ records map[string]optimistic.Record } // nil after the end

var errEnded = errors.New("transaction has ended")

func (r *reader) Get(key string) ([]byte, error) {
	if r.records == nil {
		return nil, errEnded
	}
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	rec, ok := r.records[key]
	if !ok {
		return nil, storage.ErrNotFound
	}
	return append([]byte{}, rec.Value...), nil
}

func (r *reader) GetAll(keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		v, err := r.Get(key)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

func (r *reader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(r.records)) {
			if start <= key && storage.Before(key, end) {
				v := append([]byte{}, r.records[key].Value...)
				if !yield(storage.Entry{Key: key, Value: v}, nil) {
					return
				}
			}
			if r.records == nil {
				break
			}
		}
		if r.records == nil {
			yield(storage.Entry{}, errEnded)
		}
	}
}
