package limit

import "container/list"

// An lru is a bounded map. When it is full, it forgets the value that was not used for the
// longest time.
type lru[K comparable, V any] struct {
	limit   int
	entries map[K]*list.Element
	order   *list.List    // most recently used first, of *lruEntry[K, V]
	inUse   func(*V) bool // such a value is not forgotten; nil if all may be
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](limit int) lru[K, V] {
	return lru[K, V]{limit: limit, entries: make(map[K]*list.Element), order: list.New()}
}

// get returns nil if there is no value for key.
func (l *lru[K, V]) get(key K) *V {
	e := l.entries[key]
	if e == nil {
		return nil
	}
	l.order.MoveToFront(e)
	return &e.Value.(*lruEntry[K, V]).value
}

// getOrAdd adds a zero value if there is none for key.
func (l *lru[K, V]) getOrAdd(key K) *V {
	if v := l.get(key); v != nil {
		return v
	}
	if l.order.Len() >= l.limit {
		l.forget()
	}
	entry := &lruEntry[K, V]{key: key}
	l.entries[key] = l.order.PushFront(entry)
	return &entry.value
}

// dropIf removes the value of key if it is there and useless returns true for it.
func (l *lru[K, V]) dropIf(key K, useless func(*V) bool) {
	e := l.entries[key]
	if e != nil && useless(&e.Value.(*lruEntry[K, V]).value) {
		l.order.Remove(e)
		delete(l.entries, key)
	}
}

// forget removes one value. Values in use stay, even if the map exceeds its limit for that:
// their number is bounded by the limits on attempts.
func (l *lru[K, V]) forget() {
	for e := l.order.Back(); e != nil; e = e.Prev() {
		entry := e.Value.(*lruEntry[K, V])
		if l.inUse == nil || !l.inUse(&entry.value) {
			l.order.Remove(e)
			delete(l.entries, entry.key)
			return
		}
	}
}
