package optimistic

import (
	"sync"

	"keymill/storage"
)

// A traffic knows what the committers of this node are writing. A call that has read one of those records would
// be stale, so it waits for that committer. It is in the next group of that one.
type traffic struct {
	mu      sync.Mutex
	writing []map[string]storage.Write // by committer; nil between its groups; guarded by mu
	waiting [][]*call                  // by committer; guarded by mu
}

func newTraffic(committers int) *traffic {
	return &traffic{writing: make([]map[string]storage.Write, committers), waiting: make([][]*call, committers)}
}

// begin says what the committer writes from now on. The map is not changed until end.
func (t *traffic) begin(committer int, writes map[string]storage.Write) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing[committer] = writes
}

// end returns the calls that have waited for the committer.
func (t *traffic) end(committer int) []*call {
	t.mu.Lock()
	defer t.mu.Unlock()
	waited := t.waiting[committer]
	t.writing[committer], t.waiting[committer] = nil, nil
	return waited
}

// divert reports whether the call waits for a committer. It does so once for each time that it was in the
// queue, so that two committers cannot pass it to and fro.
func (t *traffic) divert(c *call) bool {
	if c.diverted || len(t.writing) == 1 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for committer, writes := range t.writing {
		if len(writes) > 0 && c.hasRead(writes) {
			c.diverted = true
			t.waiting[committer] = append(t.waiting[committer], c)
			return true
		}
	}
	return false
}
