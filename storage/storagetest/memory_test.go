package storagetest

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"keymill/storage"
)

// A fault is what is wrong with an engine.
type fault string

const (
	sound          fault = ""
	writeSkew      fault = "it validates only the records that a function writes"
	phantoms       fault = "it validates no scan"
	staleReads     fault = "a store reads what it has read before"
	hastyErrors    fault = "an error counts, whatever its run has read"
	unfair         fault = "a function that lost against others is run again until it wins"
	separate       fault = "each store has its own records"
	lostWrites     fault = "a call is acknowledged, although its commit was cut off"
	doubleWrites   fault = "a commit whose answer was lost is sent again"
	wronglyUnsaved fault = "a commit whose answer was lost counts as not made"
)

// An engine keeps records in memory. Its stores run functions without a lock, validate what they have read, and write,
// as stores on a network do.
type engine struct {
	fault fault

	mu      sync.Mutex
	records map[string][]byte // owned by mu
	cuts    int               // owned by mu
	commits int               // owned by mu
}

func newEngine(f fault) *engine { return &engine{fault: f, records: map[string][]byte{}} }

// cut lets the commits under way fail, one of two before they are made.
func (e *engine) cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cuts++
}

func (e *engine) open() *node {
	n := &node{engine: e, known: map[string][]byte{}}
	if e.fault == separate {
		n.engine = newEngine(separate)
	}
	return n
}

// A node is a store of an engine.
type node struct {
	engine *engine

	mu     sync.Mutex
	known  map[string][]byte // what was read, for staleReads; owned by mu
	closed bool              // owned by mu
}

func (n *node) Status() storage.Status { return storage.Status{Bytes: -1} }

func (n *node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	return nil
}

func (n *node) ready(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return storage.ErrClosed
	}
	return ctx.Err()
}

// View runs fn on a copy of the records.
func (n *node) View(ctx context.Context, fn func(storage.Reader) error) error {
	if err := n.ready(ctx); err != nil {
		return err
	}
	if n.engine.fault == hastyErrors {
		return fn(&reads{node: n})
	}
	n.engine.mu.Lock()
	state := maps.Clone(n.engine.records)
	n.engine.mu.Unlock()
	r := &reads{node: n, state: state}
	defer func() { r.node = nil }()
	return fn(r)
}

// patience is after how many runs the engine runs a function alone.
const patience = 5

// Update runs fn until what it has read holds.
func (n *node) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if err := n.ready(ctx); err != nil {
		return err
	}
	e := n.engine
	for runs := 1; ; runs++ {
		e.mu.Lock()
		cuts := e.cuts
		e.mu.Unlock()
		alone := runs > patience && e.fault != unfair
		if alone {
			e.mu.Lock()
		}
		r := &reads{node: n, locked: alone}
		tx := storage.NewOverlay(r)
		var o storage.Outcome
		o.Run(tx, fn)
		if !alone {
			if e.fault != sound {
				time.Sleep(100 * time.Microsecond) // so that others come in between
			}
			e.mu.Lock()
		}
		committed, err := e.commit(r, tx, &o, cuts)
		e.mu.Unlock()
		tx.End()
		r.node = nil
		if err != nil {
			return err
		}
		if committed {
			return o.Return()
		}
	}
}

// commit validates and writes. It reports whether the run counts.
func (e *engine) commit(r *reads, tx *storage.Overlay, o *storage.Outcome, cuts int) (bool, error) {
	if !o.OK() {
		return e.fault == hastyErrors || r.hold(e, tx), nil
	}
	if !r.hold(e, tx) {
		return false, nil
	}
	if e.cuts != cuts {
		e.commits++
		switch before := e.commits%2 == 0; {
		case before && e.fault == lostWrites:
			return true, nil
		case before && e.fault != doubleWrites:
			return false, storage.ErrUnavailable
		}
		e.apply(tx)
		switch e.fault {
		case doubleWrites:
			return false, nil
		case wronglyUnsaved:
			return false, storage.ErrUnavailable
		}
		return false, storage.ErrUnknownOutcome
	}
	e.apply(tx)
	return true, nil
}

func (e *engine) apply(tx *storage.Overlay) {
	for w := range tx.Writes() {
		if w.Deleted {
			delete(e.records, w.Key)
		} else {
			e.records[w.Key] = bytes.Clone(w.Value)
		}
	}
}

// reads are the records that one run has read.
type reads struct {
	node   *node             // nil once the run has ended
	state  map[string][]byte // of a View; nil for an Update, which reads the newest records one by one
	locked bool              // the caller has the engine's lock
	got    []read
}

// A read is one key or, with an end, a range.
type read struct {
	key, end string
	isRange  bool
	entries  []storage.Entry
}

// hold reports whether the engine still has what was read.
func (r *reads) hold(e *engine, tx *storage.Overlay) bool {
	written := map[string]bool{}
	for w := range tx.Writes() {
		written[w.Key] = true
	}
	for _, g := range r.got {
		switch {
		case g.isRange && e.fault == phantoms, !g.isRange && e.fault == writeSkew && !written[g.key], e.fault == staleReads:
			continue
		}
		if !slices.EqualFunc(g.entries, e.between(g), sameEntry) {
			return false
		}
	}
	return true
}

func sameEntry(a, b storage.Entry) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }

func (e *engine) between(g read) []storage.Entry { return entries(e.records, g) }

func entries(records map[string][]byte, g read) (list []storage.Entry) {
	if v, ok := records[g.key]; !g.isRange && ok {
		list = append(list, storage.Entry{Key: g.key, Value: bytes.Clone(v)})
	}
	if !g.isRange {
		return list
	}
	for _, key := range slices.Sorted(maps.Keys(records)) {
		if g.key <= key && storage.Before(key, g.end) {
			list = append(list, storage.Entry{Key: key, Value: bytes.Clone(records[key])})
		}
	}
	return list
}

var errOver = errors.New("the transaction has ended")

func (r *reads) read(g read) ([]storage.Entry, error) {
	if r.node == nil {
		return nil, errOver
	}
	if r.state != nil && r.node.engine.fault != staleReads {
		return entries(r.state, g), nil
	}
	e := r.node.engine
	if e.fault == hastyErrors {
		time.Sleep(50 * time.Microsecond)
	}
	if !r.locked {
		e.mu.Lock()
		defer e.mu.Unlock()
	}
	g.entries = e.between(g)
	if e.fault == staleReads && !g.isRange {
		r.node.mu.Lock()
		defer r.node.mu.Unlock()
		if v, ok := r.node.known[g.key]; ok {
			return []storage.Entry{{Key: g.key, Value: bytes.Clone(v)}}, nil
		}
		if len(g.entries) > 0 {
			r.node.known[g.key] = g.entries[0].Value
		}
	}
	r.got = append(r.got, g)
	return g.entries, nil
}

func (r *reads) Get(key string) ([]byte, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	found, err := r.read(read{key: key})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, storage.ErrNotFound
	}
	return append([]byte{}, found[0].Value...), nil
}

func (r *reads) GetAll(keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for n, key := range keys {
		v, err := r.Get(key)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return nil, err
		}
		values[n] = v
	}
	return values, nil
}

func (r *reads) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		list, err := r.read(read{key: start, end: end, isRange: true})
		if err != nil {
			yield(storage.Entry{}, err)
			return
		}
		for _, e := range list {
			if r.node == nil {
				yield(storage.Entry{}, errOver)
				return
			}
			if !yield(storage.Entry{Key: e.Key, Value: append([]byte{}, e.Value...)}, nil) {
				return
			}
		}
		if r.node == nil {
			yield(storage.Entry{}, errOver)
		}
	}
}
