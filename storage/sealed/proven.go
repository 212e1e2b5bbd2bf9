package sealed

import (
	"bytes"
	"strings"
	"sync"
)

// Bounds of the memory of proven: 16 MiB. A record of an audience or a client is about 1 KiB.
const (
	maxProven      = 4096
	maxProvenBytes = 4096 // of one record
)

// A proven remembers records whose tags were computed and fit. A tag depends on the bytes of the record and on nothing
// else, so those that are the same bytes need no second computation, which is several times as long as a comparison. It is
// for the records that each request reads and only administrators write.
type proven struct {
	mu      sync.RWMutex
	records map[string]provenRecord // key → its record; owned by mu
}

type provenRecord struct {
	stored []byte // a copy
	sum    tag
}

// find returns the tag of a record, if it is known with exactly these bytes.
func (p *proven) find(key string, stored []byte) (tag, bool) {
	p.mu.RLock()
	known, ok := p.records[key]
	p.mu.RUnlock()
	return known.sum, ok && bytes.Equal(known.stored, stored)
}

// add remembers a record whose tag fits, if it is of a kind that is worth it.
func (p *proven) add(key string, stored []byte, sum tag) {
	if len(stored) > maxProvenBytes || key != "epoch" && !strings.HasPrefix(key, "client/") && !strings.HasPrefix(key, "audience/") {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.records == nil {
		p.records = map[string]provenRecord{}
	}
	if len(p.records) >= maxProven {
		for some := range p.records { // any one; at this size it hardly matters which
			delete(p.records, some)
			break
		}
	}
	p.records[key] = provenRecord{bytes.Clone(stored), sum}
}
