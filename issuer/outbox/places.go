package outbox

import (
	"context"
	"sync"

	"keymill/storage"
)

// A places counts the events that wait. The count is in memory: a count in the store would be
// one key that every deciding transaction writes. It is never too low. It may be too high until
// the next recount, because Add takes a place before it is known whether its transaction commits.
type places struct {
	// counting is held for reading while an event is deleted, and for writing while events are
	// counted. Otherwise a count between the commit of a deletion and giveBack would free the
	// place twice.
	counting sync.RWMutex

	mu    sync.Mutex // owns what follows
	taken int64      // places that Add took, ever
	freed int64      // places that are free again; taken − freed are in use
	lost  int64      // events that found no place since they were last reported
}

// take finds a place for one more event and reports whether there was one.
func (p *places) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken-p.freed >= maxEvents {
		p.lost++
		return false
	}
	p.taken++
	return true
}

func (p *places) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.freed++
}

// inUse returns how many places have been taken, ever, and how many are in use.
func (p *places) inUse() (taken, used int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken, p.taken - p.freed
}

func (p *places) lostEvents() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *places) reported(lost int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost -= lost
}

// recount frees the places of transactions that failed or ran more than once. A place that is
// taken after its first line counts as used, whether or not the scan sees its event.
func (o *Outbox) recount(ctx context.Context) error {
	p := &o.places
	p.counting.Lock()
	defer p.counting.Unlock()
	taken, _ := p.inUse()
	// The store answers every transaction that has taken a place by now before this one,
	// which writes nothing. So the scan sees all of their events.
	if err := o.cfg.Store.Update(ctx, func(storage.Tx) error { return nil }); err != nil {
		return err
	}
	stored, err := o.count(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.freed = taken - stored
	return nil
}

// count returns how many events are stored. It reads them page by page.
func (o *Outbox) count(ctx context.Context) (int64, error) {
	stored, last := int64(0), ""
	for {
		page, after := int64(0), last
		err := o.cfg.Store.View(ctx, func(r storage.Reader) error {
			page = 0
			return scan(r, after, maxPage, func(id string, _ []byte) { page, last = page+1, id })
		})
		if stored += page; err != nil || page < maxPage {
			return stored, err
		}
	}
}
