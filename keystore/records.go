package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
)

const clockKey = "clock"

func ringKey(alg string) string         { return "ring/" + alg }
func retiredKey(alg, kid string) string { return "retired/" + alg + "/" + kid }
func privateKey(kid string) string      { return "private/" + kid }
func tombstoneKey(kid string) string    { return "tombstone/" + kid }

func putJSON(tx storage.Tx, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return tx.Put(key, b)
}

// getJSON reports whether there is a record under key, and reads it into v.
func getJSON(r storage.Reader, key string, v any) (bool, error) {
	b, err := r.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("record %s is unreadable: %w", key, err)
	}
	return true, nil
}

func putRing(tx storage.Tx, r ring) error { return putJSON(tx, ringKey(r.Alg), r) }

// getRing returns the ring of alg; one that is not there yet is empty.
func getRing(r storage.Reader, alg string) (ring, error) {
	out := ring{Alg: alg}
	_, err := getJSON(r, ringKey(alg), &out)
	return out, err
}

// change writes the ring that a decision left and what followed from settling it: keys
// that stopped move to the retired ones, and every step leaves an audit record. The clock
// goes along, so that after a crash no key of the ring has a Sign that is still to come.
func (r *Rings) change(tx storage.Tx, before, after ring, now time.Time, by string) error {
	settled, stopped := after.settle(now, r.policy)
	errs := []error{putRing(tx, settled), putJSON(tx, clockKey, r.recordAt(now))}
	for _, k := range stopped {
		errs = append(errs, putJSON(tx, retiredKey(k.Alg, k.KID), k))
	}
	errs = append(errs, appendSteps(tx, steps(before, settled, stopped), now, by))
	return errors.Join(errs...)
}

func keyEvent(action string, k Key) audit.Event {
	return audit.Event{Action: action, Target: k.KID, Detail: map[string]string{"alg": k.Alg}}
}

// bury keeps the kid of a key that is gone from standing for another one. A thumbprint
// cannot, so only the kids that others have given need it.
func bury(tx storage.Tx, k Key) error {
	public, err := parsePublic(k.Public)
	if err != nil {
		return err
	}
	if thumb, err := thumbprint(public); err != nil || thumb == k.KID {
		return err
	}
	return putJSON(tx, tombstoneKey(k.KID), map[string]string{"alg": k.Alg})
}

// appendSteps gives each event an instant of its own, which is what keeps their order.
// The first one, now, is left to the request that they follow from.
func appendSteps(tx storage.Tx, events []audit.Event, now time.Time, by string) error {
	var errs []error
	for i, e := range events {
		e.By = by
		errs = append(errs, audit.Append(tx, now.Add(time.Duration(i+1)), e))
	}
	return errors.Join(errs...)
}

// steps tells two states of a ring apart in words of the audit log.
func steps(before, after ring, stopped []Key) []audit.Event {
	var out []audit.Event
	event := func(action string, k Key) { out = append(out, keyEvent(action, k)) }
	for _, k := range stopped {
		event("key.stop", k)
	}
	for _, k := range after.Keys {
		was := never
		if i := before.find(k.KID); i >= 0 {
			was = before.Keys[i].Publish
		}
		if was.Equal(never) && !k.Publish.Equal(never) {
			event("key.publish", k)
		}
		if k.KID == after.Signing && k.KID != before.Signing {
			event("key.sign", k)
		}
	}
	return out
}

const pageEntries = 1000 // of one View

// retired returns every retired key, in pages, so that no View lives long.
func retired(ctx context.Context, s storage.Store, alg string) ([]Key, error) {
	var out []Key
	start, end := retiredKey(alg, ""), "retired/"+alg+"0" // '0' follows '/'
	for {
		var page []Key
		var last string
		err := s.View(ctx, func(r storage.Reader) error {
			page, last = nil, ""
			for e, err := range r.Scan(start, end) {
				if err != nil {
					return err
				}
				var k Key
				if err := json.Unmarshal(e.Value, &k); err != nil {
					return fmt.Errorf("record %s is unreadable: %w", e.Key, err)
				}
				page, last = append(page, k), e.Key
				if len(page) == pageEntries {
					break
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if len(page) < pageEntries {
			return out, nil
		}
		start = last + "!" // the first key that can follow; kids hold no lower character
	}
}
