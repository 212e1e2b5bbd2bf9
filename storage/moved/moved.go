// Package moved holds the record that says that a store is being moved to another place, or was moved. A
// migration copies all records of one store, the source, to another one, the target. Both have the same
// database id afterwards, so at no time may both be served and written.
//
//	source   no record ──Begin──▶ moving ──Finish──▶ moved
//	              ▲                 │  ▲ Renew, every 2 s
//	              └── Free, or a ◀──┘
//	                  minute without Renew
//	target   no record ──Expect──▶ incomplete ──Complete──▶ no record
//
// Both records have the key "moved". The order of a migration is
//
//	Begin     source: from here no Update succeeds; Views go on
//	Expect    target: from here no start serves it
//	          copy what differs, read the target back, compare every record.
//	          Each transaction of the copy sees that the target is still that of this run
//	Finish    source: no start serves it; the target is complete, compared and durable
//	Complete  target: can be served
//
// # One transaction decides
//
// A Gate stands directly over the engine of a served store. It reads the record in the transaction of each
// Update and refuses the Update if there is one. So an Update that commits after Begin has seen the record, on
// whichever node, and also on one that was paused for an hour: its commit compares what it has read. No node
// must be asked and nothing must be waited for.
//
// Each run of a migration has a random number. Renew and Finish succeed only if the record is that of the run.
// So if Finish succeeds, the record was there all the time since Begin, and no write was lost. A run that was
// paused while another one took over, or while the source was freed, ends with an error.
//
// # Crashes
//
// Before Finish the source has all records, and nothing is lost by freeing it. A migration that fails or is
// interrupted frees it. If the migration was killed, servers free it by themselves a minute after the last
// Renew (Watch); so does a start (Admit). `keymill migrate --abort` frees it at once. The target stays
// incomplete, and the same command goes on where the copy ended: it compares both stores and copies what
// differs, also what the source has written in the meantime.
//
// After Finish the source is never freed. If the migration is killed between Finish and Complete, the
// same command runs Complete and nothing else.
//
// # Who can write the record
//
// The record has no tag, so that a migration needs no master key. A writer of the store can put one, and so stop
// every Update and every start, and can remove one. Such a writer can stop the service anyway, by damaging or
// removing other records. By removing the record "moved" it can let both stores be served: the older copy then
// looks as if it had been restored without `keymill restore`. `keymill doctor` shows the record.
package moved

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// A State is what a migration has reached, as the record of one of its stores says.
type State string

// States of a store.
const (
	Moving     State = "moving"     // a source that is being copied
	Moved      State = "moved"      // a source whose target has all records
	Incomplete State = "incomplete" // a target that does not have all records, or whose source does not say moved yet
)

// A Record is the record under storage.MovedKey.
type Record struct {
	State    State     `json:"state"`
	Run      string    `json:"run"`      // of the migration, random
	From     string    `json:"from"`     // address of the source, without a password
	To       string    `json:"to"`       // address of the target, without a password
	Database string    `json:"database"` // id of both
	Time     time.Time `json:"time"`     // of the state
	Beat     uint64    `json:"beat,omitempty"`
}

// NewRun returns the Record of a new run, without a State.
func NewRun(from, to, database string) Record {
	return Record{Run: rand.Text(), From: from, To: to, Database: database}
}

// Read returns the record of a store, or nil if it has none. The store is one without tags.
func Read(r storage.Reader) (*Record, error) {
	raw, err := r.Get(storage.MovedKey)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decode(raw)
}

func decode(raw []byte) (*Record, error) {
	m := &Record{}
	if err := storage.DecodeJSON(storage.MovedKey, raw, m); err != nil {
		return nil, err
	}
	switch m.State {
	case Moving, Moved, Incomplete:
		return m, nil
	}
	return nil, storage.Damaged(storage.MovedKey, "its state is none that a migration writes")
}

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a value.
func CheckRecord(value []byte) error {
	_, err := decode(value)
	return err
}

// Of returns the record of a store, or nil.
func Of(ctx context.Context, s storage.Store) (m *Record, err error) {
	err = s.View(ctx, func(r storage.Reader) (err error) {
		m, err = Read(r)
		return err
	})
	return m, err
}

func put(tx storage.Tx, m Record) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write %s: %w", storage.MovedKey, err)
	}
	return tx.Put(storage.MovedKey, raw)
}

// An Error says that a store is refused because of its record. It matches storage.ErrUnavailable, because the same
// call succeeds later, here or on the target. If it succeeds only on the target, it matches storage.ErrMoved too.
type Error struct{ Record }

// Error names the other store of the migration.
func (e *Error) Error() string {
	since := e.Time.UTC().Format(time.RFC3339)
	switch e.State {
	case Moving:
		return fmt.Sprintf("the store is being moved to %s since %s, and nothing is written until that ends", e.To, since)
	case Moved:
		return fmt.Sprintf("the store was moved to %s at %s", e.To, since)
	}
	return fmt.Sprintf("the store is the target of a migration from %s that is not complete, begun at %s", e.From, since)
}

// Is reports whether the error matches target.
func (e *Error) Is(target error) bool {
	return target == storage.ErrUnavailable || target == storage.ErrMoved && e.State == Moved
}

// Hint says what an operator does about a store that a start refuses.
func (e *Error) Hint() string {
	switch e.State {
	case Moving:
		return "wait for the end, or run keymill migrate --abort --from " + e.From
	case Moved:
		return "serve the store there; its records and keys are those of this one, and what was written there since is missing here"
	}
	return "run the same command again: keymill migrate --from " + e.From + " --to " + e.To
}
