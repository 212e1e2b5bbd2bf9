package issuer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"keymill/storage"
)

// What decisions have to say to a webhook waits in the store until the sender is done
// with it, so that neither a crash nor a receiver that is away for the weekend loses it:
//
//	decision ──notify──▶ webhook/<time>-<random> ──Events──▶ sender ──▶ receiver
//	                               ▲                            │
//	                               └─── EventSent, EventDropped ┘
//
// The record is the payload, byte for byte as it is sent and signed.

const (
	eventPrefix = "webhook/"
	maxEvents   = 10_000 // waiting in the store
	maxFact     = 256    // bytes of one value of an event's data; ids are shorter

	// Without a dot, as an id must not hold one: it is signed with dots around it.
	eventTime = "20060102T150405.000000000Z"
)

func eventKey(id string) string { return eventPrefix + id }

// An outbox counts the events that wait. Its count is in memory, for a count in the
// store would be a key that all deciding transactions write. It is never too low. It may
// be too high, since notify cannot know what becomes of its transaction, until the sender
// lets it be counted again.
type outbox struct {
	on bool // set once, by load

	// counting is held for reading while an event is forgotten, and for writing while
	// they are counted.
	counting sync.RWMutex

	mu    sync.Mutex // owns what follows
	taken int64      // places that notify took, ever
	freed int64      // places that are free again; taken − freed are in use
	lost  int64      // events that found no place since the last EventsLost
}

// load counts what an earlier process left. Events that wait stay in the store while no
// webhook is configured.
func (o *outbox) load(ctx context.Context, s storage.Store, on bool) error {
	o.on = on
	if !on {
		return nil
	}
	return o.recount(ctx, s)
}

// take finds a place for one more event.
func (o *outbox) take() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.taken-o.freed >= maxEvents {
		o.lost++
		return false
	}
	o.taken++
	return true
}

func (o *outbox) giveBack() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.freed++
}

// inUse returns how many places have been taken, ever, and how many are in use.
func (o *outbox) inUse() (taken, used int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.taken, o.taken - o.freed
}

// recount frees the places of transactions that failed, or ran more than once. A place
// taken after its first line counts as used, whatever the scan says.
func (o *outbox) recount(ctx context.Context, s storage.Store) error {
	o.counting.Lock()
	defer o.counting.Unlock()
	taken, _ := o.inUse()
	// Every transaction that had a place by now is answered before this one, which
	// writes nothing. So the scan sees what they wrote.
	if err := s.Update(ctx, func(storage.Tx) error { return nil }); err != nil {
		return err
	}
	stored, err := countEvents(ctx, s)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.freed = taken - stored
	return nil
}

// countEvents reads the queue page by page.
func countEvents(ctx context.Context, s storage.Store) (int64, error) {
	stored, last := int64(0), ""
	for {
		page, after := int64(0), last
		err := s.View(ctx, func(r storage.Reader) error {
			page = 0
			return scanAfter(r, eventPrefix, after, maxListed, func(id string, _ []byte) error {
				page, last = page+1, id
				return nil
			})
		})
		if stored += page; err != nil || page < maxListed {
			return stored, err
		}
	}
}

// A payload is shaped as the Standard Webhooks specification recommends.
type payload struct {
	Type      string            `json:"type"`
	Timestamp time.Time         `json:"timestamp"`
	Data      map[string]string `json:"data"`
}

// notify leaves an event for the webhook in the transaction that decides it, of which it
// takes one key and some hundred bytes; without Config.Events it does nothing. kind is
// "session.replayed", "session.revoked", "user.revoked", "client.revoked" or
// "store.revoked". It fails
// only if the store does: an event that finds the queue full is lost and counted.
func (i *Issuer) notify(tx storage.Tx, at time.Time, kind string, data map[string]string) error {
	if !i.events.on || !i.events.take() {
		return nil
	}
	p := payload{Type: kind, Timestamp: at.UTC(), Data: make(map[string]string, len(data))}
	for name, value := range data {
		p.Data[name] = strings.ToValidUTF8(value[:min(len(value), maxFact)], "\ufffd")
	}
	random := make([]byte, 8)
	rand.Read(random)
	stamp := strings.Replace(p.Timestamp.Format(eventTime), ".", "", 1)
	return putJSON(tx, eventKey(stamp+"-"+hex.EncodeToString(random)), p)
}

// An Event is a decision that a webhook has to hear of.
type Event struct {
	ID      string // the same in every try; letters, digits and a dash
	Time    time.Time
	Kind    string // "" if the record is damaged
	Payload []byte // JSON: {"type", "timestamp", "data": {…}}
}

// Events returns up to limit of the events whose ids follow after, oldest first, and at
// most 1,000.
func (i *Issuer) Events(ctx context.Context, after string, limit int) ([]Event, error) {
	var list []Event
	err := i.store.View(ctx, func(r storage.Reader) error {
		list = nil
		return scanAfter(r, eventPrefix, after, min(limit, maxListed), func(id string, raw []byte) error {
			list = append(list, readEvent(id, raw))
			return nil
		})
	})
	return list, err
}

// readEvent makes an event of a damaged record too: an error would keep everything behind
// it waiting for ever.
func readEvent(id string, raw []byte) Event {
	var p struct { // not the data, which nobody here reads
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
	}
	if json.Unmarshal(raw, &p) != nil {
		return Event{ID: id, Payload: raw}
	}
	return Event{ID: id, Time: p.Timestamp, Kind: p.Type, Payload: raw}
}

// EventAge is how long ago e was decided, by the clock of decisions, which never goes back.
func (i *Issuer) EventAge(e Event) time.Duration { return i.keys.Now().Sub(e.Time) }

// WallTime is the time for what others compare with their own clocks.
func (i *Issuer) WallTime() time.Time { return i.keys.WallTime() }

// EventSent forgets an event that the receiver has. One that is forgotten already is no error.
func (i *Issuer) EventSent(ctx context.Context, id string) error {
	return i.forget(ctx, id, func(storage.Tx, Event) error { return nil })
}

// EventDropped forgets an event that will not be sent, and says so in the audit log.
func (i *Issuer) EventDropped(ctx context.Context, id, why string) error {
	return i.forget(ctx, id, func(tx storage.Tx, e Event) error {
		return i.audit(tx, "webhook.drop", "system", id, map[string]string{"kind": e.Kind, "why": why})
	})
}

func (i *Issuer) forget(ctx context.Context, id string, also func(storage.Tx, Event) error) error {
	i.events.counting.RLock()
	defer i.events.counting.RUnlock()
	found := false
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		raw, err := tx.Get(eventKey(id))
		if found = err == nil; !found {
			if errors.Is(err, storage.ErrNotFound) {
				return nil
			}
			return err
		}
		if err := tx.Delete(eventKey(id)); err != nil {
			return err
		}
		return also(tx, readEvent(id, raw))
	})
	if err == nil && found {
		i.events.giveBack()
	}
	return err
}

// EventsLost counts the queue anew and returns how many events have found it full since
// the last call; the audit log gets that number too. Asked once a minute, it makes at
// most one record a minute of whatever flood there is. The number is forgotten by a crash
// and, like the count, rather too high than too low.
func (i *Issuer) EventsLost(ctx context.Context) (int64, error) {
	o := &i.events
	if _, used := o.inUse(); used > 0 {
		if err := o.recount(ctx, i.store); err != nil {
			return 0, err
		}
	}
	o.mu.Lock()
	lost := o.lost
	o.mu.Unlock()
	if lost == 0 {
		return 0, nil
	}
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		return i.audit(tx, "webhook.lost", "system", "", map[string]string{"events": strconv.FormatInt(lost, 10)})
	})
	if err != nil {
		return 0, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost -= lost
	return lost, nil
}
