package keystore

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/sealed"
)

// An OlderStoreError refuses a store that was served for less time than its mark remembers: it is an
// older copy. Keys that were revoked since then, and sessions that have ended, would live again. It also
// refuses a store whose mark was written with another data key.
type OlderStoreError struct {
	By     time.Duration // how much served time is missing; 0 if the mark does not fit
	Token  string        // accepts this copy, once
	Shared bool          // several servers use the store
}

// Error says by how much the store is older.
func (e *OlderStoreError) Error() string {
	if e.By == 0 {
		return "the mark of the store does not fit: the store is a copy from before a change of the master key or a restore, or the mark is damaged or that of another store"
	}
	text := fmt.Sprintf("the store is older than the one that was served last: its last %s of service are missing", e.By.Round(time.Second))
	if e.Shared {
		text += ", because an older copy was put back, or because the database failed over to an asynchronous standby that had not received them"
	}
	return text
}

// An age is what Open found out about the age of the store.
type age struct {
	noMark   bool          // there is a store that was served, and no mark of it
	accepted bool          // AcceptOlder names this older store
	marked   time.Duration // what the mark remembers
	highest  time.Time     // of the clock record as it was read; zero if there was none
}

// checkClock finds a manifest that is older than the clock record. found says whether there is one.
func (r *Rings) checkClock(tx storage.Reader, found bool) error {
	version, err := sealed.ManifestVersion(tx)
	if err == nil {
		err = r.checkManifestVersion(version)
	}
	if err == nil && !found {
		err = checkUnserved(tx)
	}
	return err
}

// checkManifestVersion finds a manifest that is older than the last one that was seen. It is called at
// each heartbeat too: otherwise the clock record would take an older one for the newest.
func (r *Rings) checkManifestVersion(version uint64) error {
	if version < r.clockRecord.Manifest {
		return storage.Damaged(storage.ManifestKey, "it is an older one that was put back, with the records of its time")
	}
	return nil
}

// checkUnserved returns an error if a store without a clock record has keys. The first Open writes both
// in one transaction.
func checkUnserved(tx storage.Reader) error {
	for _, alg := range SupportedAlgorithms() {
		ring, err := getRing(tx, alg)
		if err != nil {
			return err
		}
		if len(ring.Keys) > 0 {
			return storage.Damaged(clockKey, "it is missing")
		}
	}
	return nil
}

// checkAge compares the store with its mark. Each server of a shared store has its own. One that is new to the
// store has none. It takes the store as it is while another server uses it: that one has compared it with its own mark,
// and would notice an older one.
func (r *Rings) checkAge(ctx context.Context) error {
	if r.cfg.Mark == nil {
		return nil
	}
	marked, err := r.store.ReadMark(r.cfg.Mark)
	if errors.Is(err, sealed.ErrNoMark) {
		if others, err := r.othersServe(ctx); err != nil || others {
			return err
		}
	}
	switch {
	case errors.Is(err, sealed.ErrNoMark):
		r.age.noMark = r.servedBefore > 0
		return nil
	case errors.Is(err, sealed.ErrEarlierMark):
		r.log.Info("the store was restored, or its master key changed, since this server used it")
		return nil
	case errors.Is(err, sealed.ErrOtherMark) && r.servedBefore == 0:
		return nil // a new store where there was another; it has neither keys nor sessions
	case errors.Is(err, sealed.ErrOtherMark):
		marked = r.servedBefore
	case err != nil:
		return err
	case r.servedBefore >= marked:
		return nil
	}
	token, err := r.olderToken()
	if err != nil {
		return err
	}
	if !hmac.Equal([]byte(token), []byte(r.cfg.AcceptOlder)) {
		return &OlderStoreError{marked - r.servedBefore, token, r.cfg.Nodes != nil}
	}
	r.age.accepted, r.age.marked = true, marked
	return nil
}

// othersServe reports whether another server of the store serves it.
func (r *Rings) othersServe(ctx context.Context) (others bool, err error) {
	if r.cfg.Nodes == nil {
		return false, nil
	}
	err = r.readNodes(ctx)
	return r.cfg.Nodes.OthersServe(), err
}

// MarkMissing reports whether Open found a store that was served before and no mark of it.
func (r *Rings) MarkMissing() bool { return r.age.noMark }

// olderToken returns the value that accepts this copy of the store beside this mark. After the start
// that uses it both are others, so it works once.
func (r *Rings) olderToken() (string, error) {
	mark, err := r.cfg.Mark.Sum()
	if err != nil {
		return "", err
	}
	key, err := r.vault.Derive("keymill accept older store v1")
	if err != nil {
		return "", err
	}
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%x %d %s", mark, r.servedBefore, r.age.highest.UTC().Format(time.RFC3339Nano))
	return hex.EncodeToString(m.Sum(nil)[:8]), nil
}

// acceptAge records in the store what checkAge has found. A crash before its commit changes nothing:
// the next start finds the same. After it the store is as old as its mark.
func (r *Rings) acceptAge(ctx context.Context) error {
	if !r.age.accepted {
		return nil
	}
	rec := r.clockRecord
	rec.ServedTime = r.age.marked
	err := r.store.Update(ctx, func(tx storage.Tx) error {
		missing := "unknown"
		if by := r.age.marked - r.servedBefore; by > 0 {
			missing = by.Round(time.Second).String()
		}
		_, err := r.putClock(tx, rec)
		errs := []error{err, audit.Append(tx, r.Now(), audit.Event{
			Action: "store.accept_older", By: system, Target: r.database, Detail: map[string]string{"missing": missing},
		})}
		if r.cfg.Accepted != nil {
			errs = append(errs, r.cfg.Accepted(tx, r.Now(), r.WallTime()))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	r.log.Warn("an older store was accepted; all sessions have ended")
	r.clockRecord, r.servedBefore = rec, r.age.marked
	r.adopt(rec)
	return nil
}

// reportNoMark records that the store has no mark. It is the last step before the first mark is written,
// so that a start that fails earlier again and again does not report it each time.
func (r *Rings) reportNoMark(ctx context.Context) error {
	if !r.age.noMark {
		return nil
	}
	r.log.Warn("the mark of the store is missing; an older copy of the store would not have been noticed")
	return r.store.Update(ctx, func(tx storage.Tx) error {
		return audit.Append(tx, r.Now(), audit.Event{Action: "store.mark_missing", By: system, Target: r.database})
	})
}

// writeMark writes the served time, which is durable in the store. A mark that cannot be written does
// not end the server: it protects the next start only.
func (r *Rings) writeMark(served time.Duration) {
	if r.cfg.Mark == nil {
		return
	}
	err := r.store.WriteMark(r.cfg.Mark, served)
	if err != nil && !r.markFailed {
		r.log.Error("the mark of the store cannot be written; an older copy of the store may not be noticed", "error", err)
	}
	r.markFailed = err != nil
}
