package keystore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"keymill/keystore/internal/keytype"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
	"keymill/storage/audit"
)

const clockKey = "clock"

func ringKey(alg string) string         { return "ring/" + alg }
func retiredKey(alg, kid string) string { return "retired/" + alg + "/" + kid }
func privateKey(kid string) string      { return "private/" + kid }
func tombstoneKey(kid string) string    { return "tombstone/" + kid }

// system is the name in audit records for decisions that no operator requested.
const system = "system"

// A decision is one Update that changes keys.
type decision struct {
	tx  storage.Tx
	now time.Time // decision time
	by  string    // who requested it, for the audit log
}

func (d decision) audit(e audit.Event) error {
	e.By = d.by
	return audit.Append(d.tx, d.now, e)
}

// auditSteps appends events that follow from the decision, in their order. The audit log
// orders records by time, so each event gets a time of its own: one nanosecond after the
// event before it. The time of the decision is left to the event of the decision itself.
func (d decision) auditSteps(events []audit.Event) error {
	var errs []error
	for i, e := range events {
		e.By = d.by
		errs = append(errs, audit.Append(d.tx, d.now.Add(time.Duration(i+1)), e))
	}
	return errors.Join(errs...)
}

func keyEvent(action string, k Key) audit.Event {
	return audit.Event{Action: action, Target: k.KID, Detail: map[string]string{"alg": k.Alg}}
}

func putJSON(tx storage.Tx, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return tx.Put(key, b)
}

// getJSON reads the record under key into v. It reports whether there is one.
func getJSON(r storage.Reader, key string, v any) (bool, error) {
	b, err := r.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, storage.DecodeJSON(key, b, v)
}

// putRing and putRetired write nothing that the next read would call damaged.
func putRing(tx storage.Tx, r ring) error {
	if err := checkRing(r, r.Alg); err != nil {
		return fmt.Errorf("write %s: %w", ringKey(r.Alg), err)
	}
	return putJSON(tx, ringKey(r.Alg), r)
}

func putRetired(tx storage.Tx, k Key) error {
	if err := k.Check(k.Alg); err != nil {
		return fmt.Errorf("write %s: %w", retiredKey(k.Alg, k.KID), err)
	}
	return putJSON(tx, retiredKey(k.Alg, k.KID), k)
}

// getRing returns the ring of alg. It is empty if there is no record. In an Update the sealed store
// refuses to read a record as absent that it knows to be there.
func getRing(r storage.Reader, alg string) (ring, error) {
	b, err := r.Get(ringKey(alg))
	if errors.Is(err, storage.ErrNotFound) {
		return ring{Alg: alg}, nil
	}
	if err != nil {
		return ring{Alg: alg}, err
	}
	return decodeRing(alg, b)
}

// decodeRing reads the record of the ring of alg.
func decodeRing(alg string, value []byte) (out ring, err error) {
	if err = storage.DecodeJSON(ringKey(alg), value, &out); err == nil {
		err = checkRing(out, alg)
	}
	return out, err
}

// checkRing returns an error for a ring that this program does not write.
func checkRing(r ring, alg string) error {
	if r.Alg != alg || r.MaxLifetime < 0 {
		return storage.Damaged(ringKey(alg), "it is the ring of another algorithm, or its lifetime is negative")
	}
	for _, k := range r.Keys {
		if err := k.Check(alg); err != nil {
			return storage.Damaged(ringKey(alg), "%s", err)
		}
	}
	return nil
}

// putChange writes the ring that a decision has changed, after advancing it: keys that
// stopped become retired ones, and every step is in the audit log. It writes the clock
// record in the same transaction. Otherwise, after a crash, the last clock record could be
// older than the Sign time of a key that has already signed.
func (r *Rings) putChange(d decision, before, after ring) error {
	return errors.Join(r.putAdvanced(d, before, after), r.putClockAt(d))
}

// putRevocation is putChange for a revocation, which a damaged clock record does not prevent: no start
// accepts that record, so its time does not matter.
func (r *Rings) putRevocation(d decision, before, after ring) error {
	err := r.putClockAt(d)
	if errors.Is(err, storage.ErrDamaged) {
		err = nil
	}
	return errors.Join(r.putAdvanced(d, before, after), err)
}

func (r *Rings) putAdvanced(d decision, before, after ring) error {
	advanced, stopped := after.Advance(d.now, r.policy())
	errs := []error{putRing(d.tx, advanced)}
	for _, k := range stopped {
		errs = append(errs, putRetired(d.tx, k))
	}
	errs = append(errs, d.auditSteps(stepEvents(before, advanced, stopped)))
	return errors.Join(errs...)
}

// stepEvents returns the audit events for the difference between two states of a ring.
func stepEvents(before, after ring, stopped []Key) []audit.Event {
	var out []audit.Event
	for _, k := range stopped {
		out = append(out, keyEvent("key.stop", k))
	}
	for _, k := range after.Keys {
		published := schedule.Never
		if i := before.Index(k.KID); i >= 0 {
			published = before.Keys[i].Publish
		}
		if published.Equal(schedule.Never) && !k.Publish.Equal(schedule.Never) {
			out = append(out, keyEvent("key.publish", k))
		}
		if k.KID == after.LastSigner && k.KID != before.LastSigner {
			out = append(out, keyEvent("key.sign", k))
		}
	}
	return out
}

// blockRevoked makes sure that a revoked key is never imported, under any kid.
func blockRevoked(d decision, k Key) error {
	public, err := keytype.ParsePublic(k.Public)
	if err != nil {
		return err
	}
	thumb, err := keytype.Thumbprint(public)
	tombstone := map[string]any{"alg": k.Alg, "revoked": d.now.UTC()}
	return errors.Join(err, putJSON(d.tx, tombstoneKey(k.KID), tombstone), putJSON(d.tx, tombstoneKey(thumb), tombstone))
}

// blockKID makes sure that the kid of a key that is gone is never used for another key.
// Thumbprints need no tombstone, only the kids of imported keys do.
func blockKID(tx storage.Tx, k Key) error {
	public, err := keytype.ParsePublic(k.Public)
	if err != nil {
		return err
	}
	if thumb, err := keytype.Thumbprint(public); err != nil || thumb == k.KID {
		return err
	}
	return putJSON(tx, tombstoneKey(k.KID), map[string]string{"alg": k.Alg})
}

// storedKeys returns the keys of alg with that public half, first those of the ring. It finds the
// retired ones in the snapshot, because a transaction must not touch more than 64 records.
func (r *Rings) storedKeys(tx storage.Reader, alg string, public []byte) ([]Key, error) {
	ring, err := getRing(tx, alg)
	keys := append(ring.Keys, r.snapshot.Load().retired...)
	return slices.DeleteFunc(keys, func(k Key) bool { return !bytes.Equal(k.Public, public) }), err
}

// decodeRetired reads the record of a retired key of alg.
func decodeRetired(alg string, e storage.Entry) (Key, error) {
	var k Key
	if err := storage.DecodeJSON(e.Key, e.Value, &k); err != nil {
		return k, err
	}
	if err := k.Check(alg); err != nil || retiredKey(alg, k.KID) != e.Key {
		return k, storage.Damaged(e.Key, "it is not the key of that name (%v)", err)
	}
	return k, nil
}
