package keystore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/sealed"
	"keymill/storage/storagetest"
)

// An aged is a store in a directory, with its mark.
type aged struct {
	t        *testing.T
	dir      string
	cfg      Config
	accepted int // how often sessions were ended
}

// inAge runs f in a bubble with a store that has been served for some time.
func inAge(t *testing.T, f func(t *testing.T, a *aged)) {
	synctest.Test(t, func(t *testing.T) {
		master, _ := NewMasterKey()
		a := &aged{t: t, dir: t.TempDir(), cfg: trial(master)}
		a.cfg.Heartbeat = time.Minute
		a.cfg.Accepted = func(tx storage.Tx, _, _ time.Time) error {
			a.accepted++
			return tx.Put("accepted", nil)
		}
		file := openStore(t, a.path())
		create(t, file, a.cfg)
		file.Close()
		f(t, a)
	})
}

func (a *aged) path() string { return filepath.Join(a.dir, "keymill.db") }
func (a *aged) mark() string { return filepath.Join(a.dir, "keymill.mark") }

// openMark opens the mark until the test ends.
func (a *aged) openMark() *sealed.Mark {
	a.t.Helper()
	mark, err := sealed.OpenMark(a.mark())
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { mark.Close() })
	return mark
}

// open opens the store and its mark. The caller closes the file.
func (a *aged) open(token string) (*Rings, storage.Store, error) {
	a.t.Helper()
	file := openStore(a.t, a.path())
	cfg := a.cfg
	cfg.Mark, cfg.AcceptOlder = a.openMark(), token
	r, err := Open(a.t.Context(), file, cfg)
	return r, file, err
}

// serve serves the store for d, and then ends as kill -9 does.
func (a *aged) serve(d time.Duration) {
	a.t.Helper()
	r, file, err := a.open("")
	if err != nil {
		a.t.Fatal(err)
	}
	defer file.Close()
	for range d / time.Minute {
		time.Sleep(time.Minute)
		if err := r.tick(a.t.Context()); err != nil {
			a.t.Fatal(err)
		}
	}
}

// refused opens the store and returns why that was refused.
func (a *aged) refused(token string) *OlderStoreError {
	a.t.Helper()
	r, file, err := a.open(token)
	if r != nil {
		r.Close()
	}
	file.Close()
	var older *OlderStoreError
	if err != nil && !errors.As(err, &older) {
		a.t.Fatal(err)
	}
	return older
}

func (a *aged) copy() (b []byte) {
	a.t.Helper()
	b, err := os.ReadFile(a.path())
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

func (a *aged) putBack(b []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path(), b, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// TestAnOlderStoreIsRefused, whatever was changed since, until its token accepts it once.
//
// I25.
func TestAnOlderStoreIsRefused(t *testing.T) {
	storagetest.SkipIfRerunning(t, "Accepted is counted")
	inAge(t, func(t *testing.T, a *aged) {
		a.serve(10 * time.Minute)
		old := a.copy()
		a.serve(5 * time.Minute)
		newest := a.copy()
		a.putBack(old)
		older := a.refused("")
		if older == nil || older.By < 4*time.Minute || older.By > 6*time.Minute || len(older.Token) != 16 {
			t.Fatalf("got %+v, 5 minutes are missing", older)
		}
		if again := a.refused(strings.Repeat("0", 16)); again == nil || again.Token != older.Token {
			t.Fatalf("another token: %+v", again)
		}
		if a.putBack(newest); a.refused("") != nil {
			t.Fatal("the newest store was refused")
		}
		a.serve(time.Minute)
		a.putBack(old)
		if later := a.refused(older.Token); later == nil || later.Token == older.Token {
			t.Fatalf("the token of an earlier state: %+v", later)
		} else {
			older = later
		}
		if a.accepted != 0 {
			t.Fatal("sessions ended although no older store was accepted")
		}
		if refused := a.refused(older.Token); refused != nil || a.accepted != 1 {
			t.Fatalf("its token: %+v, sessions ended %d times", refused, a.accepted)
		}
		a.serve(time.Minute)
		a.putBack(old)
		if refused := a.refused(older.Token); refused == nil || refused.Token == older.Token {
			t.Fatalf("its token again: %+v", refused)
		}
	})
}

// TestACrashWhileAnOlderStoreIsAcceptedChangesNothing: sessions end in the transaction that accepts.
func TestACrashWhileAnOlderStoreIsAcceptedChangesNothing(t *testing.T) {
	storagetest.SkipIfRerunning(t, "Accepted is counted")
	inAge(t, func(t *testing.T, a *aged) {
		old := a.copy()
		a.serve(5 * time.Minute)
		a.putBack(old)
		token := a.refused("").Token
		accept := a.cfg.Accepted
		a.cfg.Accepted = func(storage.Tx, time.Time, time.Time) error { return errInjected }
		if _, file, err := a.open(token); !errors.Is(err, errInjected) {
			t.Fatal(err)
		} else {
			file.Close()
		}
		a.cfg.Accepted = accept
		if again := a.refused(""); again == nil || again.Token != token {
			t.Fatalf("after the crash: %+v", again)
		}
		if a.refused(token) != nil || a.accepted != 1 {
			t.Fatalf("sessions ended %d times", a.accepted)
		}
	})
}

// TestAMissingMarkIsSaidOnce, in the log and in the audit log, and only of a store that was served.
func TestAMissingMarkIsSaidOnce(t *testing.T) {
	inAge(t, func(t *testing.T, a *aged) {
		missing := func() int { return a.audited("store.mark_missing") }
		if n := missing(); n != 0 {
			t.Errorf("a new store: %d records", n)
		}
		a.serve(time.Minute)
		if err := os.Remove(a.mark()); err != nil {
			t.Fatal(err)
		}
		if first, second := missing(), missing(); first != 1 || second != 1 {
			t.Errorf("%d records, then %d", first, second)
		}
		if err := os.WriteFile(a.mark(), make([]byte, 8192), 0o600); err != nil {
			t.Fatal(err)
		}
		if n := missing(); n != 2 {
			t.Errorf("a damaged mark: %d records, want 2", n)
		}
	})
}

// TestAnOlderManifestIsRefused together with all its records, because the clock record holds its
// version.
//
// I24.
func TestAnOlderManifestIsRefused(t *testing.T) {
	r, s := newRings(t)
	cfg := r.cfg
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	old := map[string][]byte{}
	read := func(into map[string][]byte) {
		t.Helper()
		if err := s.View(t.Context(), func(tx storage.Reader) error {
			for e, err := range tx.Scan("manifest", "ring/~") {
				if err != nil {
					return err
				}
				into[e.Key] = e.Value
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	read(old)
	r, err := Open(t.Context(), s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	raise(t, r, EdDSA, 2*time.Minute)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		now := map[string][]byte{}
		for e, err := range tx.Scan("manifest", "ring/~") {
			if err != nil {
				return err
			}
			now[e.Key] = e.Value
		}
		for key := range now {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		for key, value := range old {
			if err := tx.Put(key, value); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), s, cfg); !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), "record manifest is damaged") {
		t.Errorf("got %v", err)
	}
}

// TestACopyFromBeforeAChangeOfTheMasterKeyIsRefused beside the mark of a later start, with the old key, until
// its token accepts it. The mark of another store is refused in the same way, and stays as it is.
//
// I25.
func TestACopyFromBeforeAChangeOfTheMasterKeyIsRefused(t *testing.T) {
	storagetest.SkipIfRerunning(t, "Accepted is counted")
	inAge(t, func(t *testing.T, a *aged) {
		a.serve(10 * time.Minute)
		old, oldKey := a.copy(), a.cfg.Master
		a.changeMasterKey()
		a.serve(5 * time.Minute)
		newestMark, err := os.ReadFile(a.mark())
		if err != nil {
			t.Fatal(err)
		}
		a.putBack(old)
		a.cfg.Master = oldKey
		older := a.refused("")
		if older == nil || older.By != 0 || !strings.Contains(older.Error(), "before a change of the master key") {
			t.Fatalf("got %+v", older)
		}
		if b, err := os.ReadFile(a.mark()); err != nil || !bytes.Equal(b, newestMark) {
			t.Error("the refused start changed the mark")
		}
		if again := a.refused(older.Token); again != nil || a.accepted != 1 {
			t.Errorf("the token gives %v, sessions ended %d times", again, a.accepted)
		}
		if again := a.refused(""); again != nil {
			t.Errorf("after it was accepted: %v", again)
		}
	})
}

// TestANewStoreTakesThePlaceOfAnother: the mark of a store that was removed is no reason to refuse the one
// that is made in its place.
func TestANewStoreTakesThePlaceOfAnother(t *testing.T) {
	inAge(t, func(t *testing.T, a *aged) {
		a.serve(10 * time.Minute)
		if err := os.Remove(a.path()); err != nil {
			t.Fatal(err)
		}
		file := openStore(t, a.path())
		create(t, file, a.cfg)
		file.Close()
		a.serve(2 * time.Minute)
		old := a.copy()
		a.serve(2 * time.Minute)
		a.putBack(old)
		if older := a.refused(""); older == nil || older.By < time.Minute {
			t.Errorf("an older copy of the new store: %+v", older)
		}
	})
}

// TestTheMarkFitsAfterAChangeOfTheMasterKey, or after two, whichever write of the next start fails: no
// start says that it is missing, and an older store is refused.
func TestTheMarkFitsAfterAChangeOfTheMasterKey(t *testing.T) {
	for _, changes := range []int{1, 2} {
		for fail := range int64(8) {
			inAge(t, func(t *testing.T, a *aged) {
				a.serve(5 * time.Minute)
				for range changes {
					a.changeMasterKey()
				}
				old := a.copy()
				a.crashAt(fail)
				if n := a.audited("store.mark_missing"); n != 0 {
					t.Fatalf("%d changes, crash at write %d: the mark was missing %d times", changes, fail, n)
				}
				a.serve(5 * time.Minute)
				a.putBack(old)
				if a.refused("") == nil {
					t.Errorf("%d changes, crash at write %d: the older store was served", changes, fail)
				}
			})
		}
	}
}

// changeMasterKey does what doctor does.
func (a *aged) changeMasterKey() {
	a.t.Helper()
	file := openStore(a.t, a.path())
	defer file.Close()
	change := MasterKeyChange{Old: a.cfg.Master, Next: a.cfg.Master, By: "test", Mark: a.openMark()}
	if err := ChangeMasterKey(a.t.Context(), file, change); err == nil {
		a.t.Error("the key was changed to itself")
	}
	next, _ := NewMasterKey()
	change.Next = next
	if err := ChangeMasterKey(a.t.Context(), file, change); err != nil {
		a.t.Fatal(err)
	}
	a.cfg.Master = next
}

// crashAt starts, and ends as kill -9 does when one of the start's Updates fails.
func (a *aged) crashAt(update int64) {
	a.t.Helper()
	file := openStore(a.t, a.path())
	defer file.Close()
	f := &faultyStore{Store: file}
	n := int64(0)
	f.afterUpdate = func() {
		if n++; n == update {
			f.failUpdates.Store(1)
		}
	}
	if update == 0 {
		f.failUpdates.Store(1)
	}
	cfg := a.cfg
	cfg.Mark = a.openMark()
	if _, err := Open(a.t.Context(), f, cfg); err != nil && !errors.Is(err, errInjected) {
		a.t.Fatal(err)
	}
}

// audited starts and returns how many records of an action there are.
func (a *aged) audited(action string) (n int) {
	a.t.Helper()
	r, file, err := a.open("")
	if err != nil {
		a.t.Fatal(err)
	}
	defer file.Close()
	if _, err := audit.Chain(a.t.Context(), r.Store()); err != nil {
		a.t.Fatal(err)
	}
	page, err := audit.Read(a.t.Context(), r.Store(), audit.Query{Filter: audit.Filter{Action: action}, Limit: 100})
	if err != nil {
		a.t.Fatal(err)
	}
	return len(page.Records)
}
