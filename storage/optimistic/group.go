package optimistic

import (
	"maps"
	"slices"
	"strings"
	"time"

	"keymill/storage"
)

// Bounds of a group. Without them a steady stream of callers could keep the first one waiting for its
// commit forever.
const (
	maxGroupCalls = 128
	maxGroupBytes = 8 << 20 // that the functions touch
)

// A group is the calls that share a batch, in an order in which each of them could have run alone.
type group struct {
	cache *cache
	calls []*call
	late  []*call // run again in their callers' goroutines, once the batch is written
	tired []*call // run in an Exclusive
	held  []*call // do not fit, and come with the next group

	reads  map[string]Record        // what the calls read from the Engine
	writes map[string]storage.Write // of all calls
	spans  []Span
	keys   int // in reads, writes and spans; those of a span count always
	bytes  int
	fresh  map[string]Record // what the Engine has told about the last batches of these calls
	tries  int               // batches that did not hold
}

func newGroup(c *cache) *group {
	return &group{cache: c, reads: map[string]Record{}, writes: map[string]storage.Write{}, fresh: map[string]Record{}}
}

// full reports whether the group takes no more calls from the queue.
func (g *group) full() bool {
	return len(g.held) > 0 || g.size() >= maxGroupCalls
}

// size is how many calls the group has taken.
func (g *group) size() int { return len(g.calls) + len(g.late) + len(g.tired) }

// take adds a call from the queue. Nothing of it is under way yet, so its context still decides.
func (g *group) take(c *call) {
	if err := c.ctx.Err(); err != nil {
		c.finish(err)
		return
	}
	if time.Now().After(c.sendBy) {
		c.finish(errWaited)
		return
	}
	g.join(c)
}

// until returns when the first caller no longer waits for the Engine.
func until(calls []*call) time.Time {
	first := calls[0].until
	for _, c := range calls {
		if c.until.Before(first) {
			first = c.until
		}
	}
	return first
}

// join adds a call, after another run of its function if the last one cannot hold.
func (g *group) join(c *call) {
	switch {
	case !g.holds(c) && !g.rerun(c):
	case !g.fits(c):
		g.held = append(g.held, c)
	default:
		g.add(c)
	}
}

// holds reports whether the function would read the same again, as far as this node knows. A call that
// writes nothing can come before all calls that do.
func (g *group) holds(c *call) bool {
	known := g.known
	if len(c.writes) == 0 {
		known = g.stored
	}
	for _, r := range c.last.records {
		if now, ok := known(r.Key); ok && now.Version != r.Version || r.Version == ofGroup {
			return false
		}
	}
	return len(c.writes) == 0 || !g.writesWithin(c.last.spans)
}

func (g *group) writesWithin(spans []Span) bool {
	for _, span := range spans {
		for key := range g.writes {
			if span.Start <= key && storage.Before(key, span.End) {
				return true
			}
		}
	}
	return false
}

// known returns the record as the calls of the group leave it.
func (g *group) known(key string) (Record, bool) {
	if w, ok := g.writes[key]; ok {
		return Record{Key: key, Value: w.Value, Version: ofGroup}, true
	}
	return g.stored(key)
}

// stored returns the record as the Engine has it, as far as this node knows.
func (g *group) stored(key string) (Record, bool) {
	if r, ok := g.fresh[key]; ok {
		return r, true
	}
	if r, ok := g.reads[key]; ok {
		return r, true
	}
	return g.cache.get(key)
}

// rerun runs the function on the records of the group. It reports whether the call can join it.
func (g *group) rerun(c *call) bool {
	if g.tries >= maxRuns || c.runs >= maxRuns {
		g.tired = append(g.tired, c)
		return false
	}
	if len(c.last.spans) > 0 {
		g.late = append(g.late, c)
		return false
	}
	before := c.last
	base := &run{known: func(key string) (Record, bool) {
		if r, ok := g.known(key); ok {
			return r, true
		}
		if r := before.find(key); r != nil && r.Version != ofGroup {
			return *r, true // the cache has lost it
		}
		return Record{}, false
	}}
	c.last = base
	c.order(base)
	switch {
	case c.exited:
		return false
	case base.failed != nil:
		g.late = append(g.late, c)
		return false
	}
	return true
}

// fits reports whether the batch stays within its bounds.
func (g *group) fits(c *call) bool {
	return len(g.calls) == 0 || g.keys+g.newKeys(c) <= MaxCommitKeys && g.bytes+c.bytes <= maxGroupBytes
}

// newKeys counts the keys of the call that the batch does not have.
func (g *group) newKeys(c *call) (n int) {
	has := func(key string) bool {
		_, read := g.reads[key]
		_, written := g.writes[key]
		return read || written
	}
	for _, r := range c.last.records {
		if !has(r.Key) {
			n++
		}
	}
	for _, w := range c.writes {
		if !has(w.Key) && c.last.find(w.Key) == nil {
			n++
		}
	}
	for _, span := range c.last.spans {
		n += len(span.Records)
	}
	return n
}

func (g *group) add(c *call) {
	g.calls = append(g.calls, c)
	g.keys += g.newKeys(c)
	g.bytes += c.bytes
	for _, r := range c.last.records {
		if r.Version != ofGroup {
			g.reads[r.Key] = r
		}
	}
	g.spans = append(g.spans, c.last.spans...)
	for _, w := range c.writes {
		g.writes[w.Key] = w
	}
}

// batch returns what the Engine has to compare and write.
func (g *group) batch() *Batch {
	b := &Batch{Reads: compared(g.reads), Spans: g.spans}
	for _, key := range slices.Sorted(maps.Keys(g.writes)) {
		b.Writes = append(b.Writes, g.writes[key])
	}
	return b
}

// compared returns the keys and versions of records, sorted by key.
func compared(records map[string]Record) []Record {
	list := make([]Record, 0, len(records))
	for key, r := range records {
		list = append(list, Record{Key: key, Version: r.Version})
	}
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// next returns the group for the next try, after a batch that did not hold.
func (g *group) next(stale *Stale) *group {
	n := newGroup(g.cache)
	n.fresh, n.tries = g.fresh, g.tries+1
	n.late, n.tired, n.held = g.late, g.tired, g.held
	for _, r := range stale.Records {
		g.cache.put(r)
		n.fresh[r.Key] = r
	}
	for _, c := range g.calls {
		if stale.Spans && len(c.last.spans) > 0 || n.tries >= maxRuns {
			n.rerun(c)
			continue
		}
		n.join(c)
	}
	return n
}
