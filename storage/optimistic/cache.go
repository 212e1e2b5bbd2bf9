package optimistic

import (
	"container/list"
	"hash/maphash"
	"sync"
)

const (
	cacheShards = 16
	// entryBytes is about what an entry takes up besides its key and value: a list element, a Record, and its
	// part of the map.
	entryBytes = 200
)

// A cache holds records as they were when this node saw them last, absent ones too, and drops those that were used
// longest ago. Nothing depends on what it holds, because the Engine compares versions. Its bound is in bytes, which
// the usual libraries count as entries: a value can have a byte or 64 KiB.
type cache struct {
	seed   maphash.Seed
	shards [cacheShards]shard
}

// A shard holds the records of some keys, so that callers wait for each other less.
type shard struct {
	mu      sync.Mutex
	max     int64
	bytes   int64                    // guarded by mu
	entries map[string]*list.Element // key → element of order; guarded by mu
	order   list.List                // of Records, the newest first; guarded by mu
}

func newCache(bytes int64) *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].max = bytes / cacheShards
		c.shards[i].entries = map[string]*list.Element{}
	}
	return c
}

func (c *cache) shard(key string) *shard {
	return &c.shards[maphash.String(c.seed, key)%cacheShards]
}

// get returns the record, whose value must not be changed.
func (c *cache) get(key string) (Record, bool) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	if !ok {
		return Record{}, false
	}
	s.order.MoveToFront(e)
	return e.Value.(Record), true
}

// put keeps the record. Its value is never changed.
func (c *cache) put(r Record) {
	s := c.shard(r.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(r.Key)
	if size(r) > s.max {
		return
	}
	s.entries[r.Key] = s.order.PushFront(r)
	s.bytes += size(r)
	for s.bytes > s.max {
		s.remove(s.order.Back().Value.(Record).Key)
	}
}

// drop forgets the records.
func (c *cache) drop(records []Record) {
	for _, r := range records {
		s := c.shard(r.Key)
		s.mu.Lock()
		s.remove(r.Key)
		s.mu.Unlock()
	}
}

// remove is called with mu held.
func (s *shard) remove(key string) {
	if e, ok := s.entries[key]; ok {
		s.bytes -= size(s.order.Remove(e).(Record))
		delete(s.entries, key)
	}
}

// size is what the record takes up in the cache.
func size(r Record) int64 { return int64(entryBytes + len(r.Key) + cap(r.Value)) }
