// Package outbox keeps events for a webhook from the decision until the delivery. An event
// is written in the transaction that decides it and deleted after the receiver has accepted
// it, so no event is lost in a crash or while the receiver is down:
//
//	decision ──Add──▶ webhook/<time>-<random> ──Events──▶ sender ──▶ receiver
//	                             ▲                           │
//	                             └────── MarkSent, Drop ─────┘
//
// The record is the payload, byte for byte as it is sent and signed. It is JSON, as the Standard
// Webhooks specification recommends: {"type": "session.revoked", "timestamp": "…", "data": {…}}.
//
// At most 10,000 events wait. An event that finds the outbox full is lost and counted; no
// decision fails because of it. If several servers share the store, each counts the events of the store after at most 500
// events of its own. So at most 500 more wait for each server.
//
// A damaged record is not an event: it is left as it is, is not sent and takes no slot.
package outbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"keymill/issuer/record"
	"keymill/storage"
	"keymill/storage/audit"
)

const (
	prefix      = "webhook/"
	maxEvents   = 10_000 // waiting in the store
	maxPage     = 1000   // events of one page
	maxValue    = 256    // bytes of one value of an event's data; ids are shorter
	randomBytes = 8      // of an id

	typeCharacters = "abcdefghijklmnopqrstuvwxyz._"

	// The time within an id has no dot: the signature puts dots around the id.
	idTime = "20060102T150405.000000000Z"
)

func key(id string) string { return prefix + id }

// Config is what an Outbox needs.
type Config struct {
	Store    storage.Store
	Now      func() time.Time // the clock of decisions, which never goes back
	WallTime func() time.Time // for instants that others compare with their own clocks
	Damaged  func(error)      // gets the error of each damaged event, again and again; it may be nil
}

// An Outbox holds the events that wait for delivery. It is safe for concurrent use.
type Outbox struct {
	cfg   Config
	slots slotCounter
}

// Open returns the Outbox of a store. It counts the events that an earlier process left.
func Open(ctx context.Context, cfg Config) (*Outbox, error) {
	o := &Outbox{cfg: cfg, slots: slotCounter{current: &period{}}}
	if o.cfg.Damaged == nil {
		o.cfg.Damaged = func(error) {}
	}
	if err := o.recount(ctx); err != nil {
		return nil, fmt.Errorf("count webhook events: %w", err)
	}
	return o, nil
}

// WallTime returns the wall time.
func (o *Outbox) WallTime() time.Time { return o.cfg.WallTime() }

// Ended reports whether err of a call of o says that the store has ended, so that no later call can succeed.
func (o *Outbox) Ended(err error) bool { return storage.Ended(o.cfg.Store, err) }

type payload struct {
	Type      string            `json:"type"`
	Timestamp time.Time         `json:"timestamp"`
	Data      map[string]string `json:"data"`
}

// Add writes an event in the transaction that decides it: one key and some hundred bytes. kind
// is the type of the event, such as "session.revoked". tx is a transaction of Over. The caller returns an
// error of Add unchanged or wrapped: the function may run again.
func (o *Outbox) Add(tx storage.Tx, at time.Time, kind string, data map[string]string) error {
	if w, ok := tx.(*record.Writer); ok {
		tx = w.Below()
	}
	t, ok := tx.(transaction)
	if !ok {
		return errors.New("an event needs a transaction of a store that Outbox.Over returned")
	}
	if free, err := t.call.acquire(); !free {
		return err
	}
	return Write(tx, at, kind, data)
}

// Write does what Add does, without a look at how many events wait. It is for a start, before Open.
func Write(tx storage.Tx, at time.Time, kind string, data map[string]string) error {
	p := payload{Type: kind, Timestamp: at.UTC(), Data: make(map[string]string, len(data))}
	for name, value := range data {
		p.Data[name] = strings.ToValidUTF8(value[:min(len(value), maxValue)], "\ufffd")
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	random := make([]byte, randomBytes)
	rand.Read(random)
	return tx.Put(key(stampOf(p.Timestamp)+"-"+hex.EncodeToString(random)), raw)
}

// An Event is a decision that the receiver must be told about.
type Event struct {
	ID      string    // the same in every try; letters, digits and a dash
	Time    time.Time // of the decision
	Kind    string
	Payload []byte // JSON: {"type", "timestamp", "data": {…}}
}

// Events returns up to limit of the events whose ids follow after, oldest first, and at most
// 1,000.
func (o *Outbox) Events(ctx context.Context, after string, limit int) ([]Event, error) {
	var list []Event
	err := record.View(ctx, o.cfg.Store, o.cfg.Damaged, func(r storage.Reader, setAside func(error)) error {
		list = nil
		span := record.Span{Prefix: prefix, After: after, Limit: min(limit, maxPage)}
		return span.Each(r, setAside, func(id string, raw []byte) error {
			e, err := readEvent(key(id), raw)
			if err == nil {
				list = append(list, e)
			}
			return err
		})
	})
	return list, err
}

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a
// record under key.
func CheckRecord(key string, value []byte) error {
	_, err := readEvent(key, value)
	return err
}

func readEvent(key string, raw []byte) (Event, error) {
	var p payload
	if err := storage.DecodeJSON(key, raw, &p); err != nil {
		return Event{}, err
	}
	id := strings.TrimPrefix(key, prefix)
	stamp, random, _ := strings.Cut(id, "-")
	b, err := hex.DecodeString(random)
	if err != nil || len(b) != randomBytes || hex.EncodeToString(b) != random || stamp != stampOf(p.Timestamp) || !p.possible() {
		return Event{}, storage.Damaged(key, "its id, or a value in it, is impossible")
	}
	return Event{ID: id, Time: p.Timestamp, Kind: p.Type, Payload: raw}, nil
}

// possible reports whether Add can have written the payload. A byte that is not UTF-8 became three.
func (p payload) possible() bool {
	for _, value := range p.Data {
		if len(value) > 3*maxValue {
			return false
		}
	}
	return p.Type != "" && strings.Trim(p.Type, typeCharacters) == "" && p.Data != nil &&
		storage.PossibleTime(p.Timestamp)
}

// stampOf returns the time of an event as its id has it.
func stampOf(at time.Time) string { return strings.Replace(at.Format(idTime), ".", "", 1) }

// Age returns how long ago e was decided.
func (o *Outbox) Age(e Event) time.Duration { return o.cfg.Now().Sub(e.Time) }

// Waits reports whether the event is still in the store: another server can have sent or dropped it.
func (o *Outbox) Waits(ctx context.Context, id string) (waits bool, err error) {
	err = o.cfg.Store.View(ctx, func(r storage.Reader) error {
		_, err := r.Get(key(id))
		waits = err == nil
		if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrDamaged) {
			return nil // a damaged record is not sent
		}
		return err
	})
	return waits, err
}

// MarkSent deletes an event that the receiver has accepted. It returns nil if the event was
// already deleted or was damaged in the meantime.
func (o *Outbox) MarkSent(ctx context.Context, id string) error {
	return o.delete(ctx, id, func(storage.Tx, Event) error { return nil })
}

// Drop deletes an event that will not be sent, and writes why into the audit log.
func (o *Outbox) Drop(ctx context.Context, id, why string) error {
	return o.delete(ctx, id, func(tx storage.Tx, e Event) error {
		return o.audit(tx, audit.Event{Action: "webhook.drop", Target: id, Detail: map[string]string{"kind": e.Kind, "why": why}})
	})
}

func (o *Outbox) delete(ctx context.Context, id string, also func(storage.Tx, Event) error) error {
	o.slots.counting.RLock()
	defer o.slots.counting.RUnlock()
	found := false
	err := o.cfg.Store.Update(ctx, func(tx storage.Tx) error {
		raw, err := tx.Get(key(id))
		var e Event
		if err == nil {
			e, err = readEvent(key(id), raw)
		}
		if found = err == nil; !found {
			if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrDamaged) {
				return nil // a damaged record is left as it is
			}
			return err
		}
		if err := tx.Delete(key(id)); err != nil {
			return err
		}
		return also(tx, e)
	})
	if err == nil && found {
		o.slots.release()
	}
	return err
}

func (o *Outbox) audit(tx storage.Tx, e audit.Event) error {
	e.By = "system"
	return audit.Append(tx, o.cfg.Now(), e)
}

// Waiting returns how many events wait, without reading the store. Until the next recount it may be
// too high, see slotCounter.
func (o *Outbox) Waiting() int64 {
	return o.slots.inUse()
}

// ReportLost recounts the stored events and returns how many events were lost since the
// last call because the outbox was full. It writes that number into the audit log, so a
// caller that asks once a minute leaves at most one record a minute. A crash loses the
// number. Like the count of slots it may be too high and is never too low.
func (o *Outbox) ReportLost(ctx context.Context) (int64, error) {
	if o.slots.inUse() > 0 {
		if err := o.recount(ctx); err != nil {
			return 0, err
		}
	}
	lost := o.slots.lostEvents()
	if lost == 0 {
		return 0, nil
	}
	err := o.cfg.Store.Update(ctx, func(tx storage.Tx) error {
		return o.audit(tx, audit.Event{Action: "webhook.lost", Detail: map[string]string{"events": strconv.FormatInt(lost, 10)}})
	})
	if err != nil {
		return 0, err
	}
	o.slots.reported(lost)
	return lost, nil
}
