package bolt

import (
	"sync"

	"keymill/storage"
)

// Bounds of a memory.
const (
	memoryBytes   = 16 << 20
	memoryPerItem = 200 // about what a record takes up besides its key and its value
)

// A memory holds records that most requests read and few change, as they are in the newest synced state. So a View that
// reads only them needs no transaction of bbolt, which costs several times as much as the records:
//
//	Get ─▶ memory has it, in the state of the Gets before? ── yes ─▶ a copy
//	                         │ no record: a transaction, if it shows the same state
//	                         └ another state: the function runs again, in a transaction
//
// That a record does not exist is remembered too. Otherwise a request with an unknown client would take longer than one with
// a wrong secret, however often it came.
//
// A commit changes the memory after its sync and before its callers have their results. So a View that begins after an
// Update has returned sees what it wrote, and none sees what a crash could undo.
type memory struct {
	holds func(key string) bool // which records; nil for none

	mu      sync.RWMutex
	state   int64             // the transaction that wrote the newest synced state; owned by mu, as are the records
	records map[string][]byte // key → value, which is never changed; nil if there is no record
	bytes   int
}

// get returns a record, nil if there is none, and the state that it is in.
func (m *memory) get(key string) (value []byte, state int64, ok bool) {
	if m.holds == nil {
		return nil, 0, false
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok = m.records[key]
	return value, m.state, ok
}

// keep keeps what a transaction has read in a state, unless there is a newer one: a value, or storage.ErrNotFound.
func (m *memory) keep(key string, value []byte, err error, state int64) {
	if m.holds == nil || !m.holds(key) || err != nil && err != storage.ErrNotFound {
		return
	}
	if err == nil {
		value = clone(value) // the reader may change its own
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if state == m.state {
		m.put(key, value)
	}
}

// commit makes state the newest one, with what its transaction has written.
func (m *memory) commit(state int64, writes []storage.Write) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
	for _, w := range writes {
		if _, known := m.records[w.Key]; known {
			m.put(w.Key, w.Value)
		}
	}
}

// put is called with mu held, as is remove.
func (m *memory) put(key string, value []byte) {
	m.remove(key)
	if m.records == nil {
		m.records = map[string][]byte{}
	}
	m.records[key] = value
	m.bytes += memoryPerItem + len(key) + cap(value)
	for some := range m.records { // any one: so many hot records are rare
		if m.bytes <= memoryBytes {
			break
		}
		m.remove(some)
	}
}

func (m *memory) remove(key string) {
	if value, ok := m.records[key]; ok {
		m.bytes -= memoryPerItem + len(key) + cap(value)
		delete(m.records, key)
	}
}
