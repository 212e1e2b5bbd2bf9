package endpoint

import "container/list"

// An lru remembers values by key and forgets the one not met for longest. A value is
// made when its key is first met.
type lru[K comparable, V any] struct {
	limit   int
	entries map[K]*list.Element
	order   *list.List    // newest first, of *lruEntry[K, V]
	inUse   func(*V) bool // such a value is not forgotten; nil means none is
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](limit int) lru[K, V] {
	return lru[K, V]{limit: limit, entries: make(map[K]*list.Element), order: list.New()}
}

func (l *lru[K, V]) get(key K) *V {
	e := l.entries[key]
	if e == nil {
		return nil
	}
	l.order.MoveToFront(e)
	return &e.Value.(*lruEntry[K, V]).value
}

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

// drop drops the value of key if it is one that useless says.
func (l *lru[K, V]) drop(key K, useless func(*V) bool) {
	e := l.entries[key]
	if e != nil && useless(&e.Value.(*lruEntry[K, V]).value) {
		l.order.Remove(e)
		delete(l.entries, key)
	}
}

// forget drops one value. What is in use stays, and is bounded by who uses it.
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
