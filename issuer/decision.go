package issuer

import (
	"net/netip"
	"time"

	"keymill/issuer/due"
	"keymill/issuer/epoch"
	"keymill/issuer/record"
	"keymill/issuer/tally"
	"keymill/storage"
	"keymill/storage/audit"
)

// times are one moment on the two clocks that decide about sessions.
type times struct {
	now    time.Time     // the clock of decisions; it never goes back
	served time.Duration // the clock that stands still while the store is not served
}

func (i *Issuer) times() times { return times{i.keys.Now(), i.keys.ServedTime()} }

// A decision is a transaction together with what its audit records say.
type decision struct {
	tx   storage.Tx
	now  time.Time
	by   string     // "client:<id>", "user:<id>", "system", or an administrator
	from netip.Addr // of the request; the zero Addr if it is not recorded
}

// decision returns a decision whose audit records name by and no address.
func (i *Issuer) decision(tx storage.Tx, by string) decision {
	return decision{tx: tx, now: i.keys.Now(), by: by}
}

func (i *Issuer) nextEpoch(before uint64) uint64 {
	return epoch.After(before, i.keys.Now(), i.keys.WallTime())
}

// audit records a change in the transaction that makes it.
func (d decision) audit(action, target string, detail map[string]string) error {
	return audit.Append(d.tx, d.now, audit.Event{Action: action, By: d.by, Target: target, Detail: detail})
}

// auditOften records an event that a user or a client can cause again and again. Beyond a bound the event
// is counted and has no record of its own, see package tally; own reports which.
func (i *Issuer) auditOften(d decision, of tally.Of, e audit.Event) (own bool, err error) {
	e.By = d.by
	own, check, err := tally.Append(d.tx, tally.Times{Decision: d.now, Cleanup: i.keys.ErasureTime()}, of, e)
	if err == nil && !check.IsZero() {
		err = d.tx.Put(due.Key(check, due.Tally, of.Name()), record.Present())
	}
	return own, err
}

// auditOnce is auditOften for an event that a session has at most once. A damaged tally must not keep the
// session from ending, so the event has a record of its own then.
func (i *Issuer) auditOnce(d decision, of tally.Of, e audit.Event) error {
	_, err := i.auditOften(d, of, e)
	if record.Unreadable(err) {
		err = d.audit(e.Action, e.Target, e.Detail)
	}
	return err
}

// notify leaves an event for the webhook, if there is one, in the transaction that decides it.
// kind is "session.replayed", "session.revoked", "user.revoked", "client.revoked" or
// "store.revoked".
func (i *Issuer) notify(d decision, kind string, data map[string]string) error {
	if i.outbox == nil {
		return nil
	}
	return i.outbox.Add(d.tx, d.now, kind, data)
}
