package restore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/issuer/epoch"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/backup"
	"keymill/storage/bolt"
	"keymill/storage/sealed"
)

// A world is a store with a mark, and a backup of it that is older.
type world struct {
	t      *testing.T
	config *config.Config
	master keystore.MasterKey
	copy   []byte
	listed func(storage.Reader) (uint64, error) // the epoch in the list of revoked keys; nil writes no list
}

func newWorld(t *testing.T) *world {
	t.Helper()
	terminaltest.ClearEnvironment(t)
	c, err := config.Load("", map[string]string{"data": filepath.Join(t.TempDir(), "data")}, false)
	if err != nil {
		t.Fatal(err)
	}
	c.Algorithms = []string{keystore.EdDSA} // others take longer to make
	w := &world{t: t, config: c}
	w.master, _ = keystore.NewMasterKey()
	if err := os.Mkdir(c.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := bolt.Open(c.Path("keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keystore.Create(t.Context(), store, w.keys(nil), "test", "1"); err != nil {
		t.Fatal(err)
	}
	store.Close()
	w.serve(func(store *bolt.Store, r *keystore.Rings) {
		// What a server makes besides the keys.
		if err := r.Store().Update(t.Context(), func(tx storage.Tx) error {
			return epoch.EndAllSessions(tx, r.Now(), r.WallTime(), 0, false)
		}); err != nil {
			t.Fatal(err)
		}
		w.copy = w.backup(store, r)
	})
	w.serve(func(_ *bolt.Store, r *keystore.Rings) { w.put(r, "id/later", "a later change") })
	return w
}

func (w *world) backup(store *bolt.Store, r *keystore.Rings) []byte {
	w.t.Helper()
	key, err := r.BackupKey()
	if err != nil {
		w.t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err = backup.Write(w.t.Context(), &b, store, backup.Options{Key: key, Now: time.Now, TempDir: w.config.Data, MaxBytes: 1 << 20}); err != nil {
		w.t.Fatal(err)
	}
	return b.Bytes()
}

func (w *world) keys(mark *sealed.Mark) keystore.Config {
	c := w.config
	list := ""
	if w.listed != nil {
		list = c.RevokedPath()
	}
	return keystore.Config{
		RevokedFile: list, Epoch: w.listed,
		Algorithms: []string{keystore.EdDSA}, RotateEvery: c.RotateEvery, Propagation: c.Propagation, MaxAge: c.MaxAge,
		Master: w.master, Mark: mark, Changed: func([]keystore.PublicKey) {},
	}
}

func (w *world) put(r *keystore.Rings, key, value string) {
	w.t.Helper()
	err := r.Store().Update(w.t.Context(), func(tx storage.Tx) error { return tx.Put(key, []byte(value)) })
	if err != nil {
		w.t.Fatal(err)
	}
}

// serve opens the store as a server does, and returns whether it is the one with the later change.
func (w *world) serve(fn func(*bolt.Store, *keystore.Rings)) (later bool) {
	w.t.Helper()
	store, err := bolt.Open(w.config.Path("keymill.db"), bolt.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer store.Close()
	mark, err := sealed.OpenMark(w.config.MarkPath())
	if err != nil {
		w.t.Fatal(err)
	}
	defer mark.Close()
	r, err := keystore.Open(w.t.Context(), store, w.keys(mark))
	if err != nil {
		w.t.Fatal(err)
	}
	fn(store, r)
	err = r.Store().View(w.t.Context(), func(tx storage.Reader) error {
		_, err := tx.Get("id/later")
		later = err == nil
		return nil
	})
	if err := errors.Join(err, r.Close()); err != nil {
		w.t.Fatal(err)
	}
	return later
}

func (w *world) restore(step func(string) error) (*Report, error) {
	return Restore(w.t.Context(), w.options(step))
}

func (w *world) options(step func(string) error) Options {
	return Options{Config: w.config, Master: w.master, Name: "copy", In: bytes.NewReader(w.copy), Replace: true, By: "test", step: step}
}

// TestARestoreThatIsInterruptedLeavesOneStore that can be served: the old one or the new one, whole and
// with a mark that fits. The next restore succeeds and removes what was left.
func TestARestoreThatIsInterruptedLeavesOneStore(t *testing.T) {
	killed := errors.New("killed")
	steps := map[string]bool{} // step → the old store is there after it fails
	for _, last := range []string{"build", "keep", "unmark", "place", "mark"} {
		w := newWorld(t)
		reached := false
		_, err := w.restore(func(step string) error {
			if step == last {
				reached = true
				return killed
			}
			return nil
		})
		if !errors.Is(err, killed) || !reached {
			t.Fatalf("%s: %v", last, err)
		}
		steps[last] = w.serve(func(*bolt.Store, *keystore.Rings) {})
		// A process that is killed removes nothing.
		if err := os.WriteFile(w.config.Path(building+"1"), []byte("half a store"), 0o600); err != nil {
			t.Fatal(err)
		}
		report, err := w.restore(nil)
		if err != nil {
			t.Fatalf("after %s: %v", last, err)
		}
		if w.serve(func(*bolt.Store, *keystore.Rings) {}) {
			t.Errorf("after %s: the store has the later change", last)
		}
		if left, _ := filepath.Glob(w.config.Path(building + "*")); len(left) > 0 {
			t.Errorf("after %s: left %v", last, left)
		}
		if _, err := os.Stat(report.Before); err != nil {
			t.Errorf("after %s: %v", last, err)
		}
	}
	for step, old := range steps {
		if want := step != "mark"; old != want {
			t.Errorf("interrupted before %q: the old store is there: %v", step, old)
		}
	}
}

// TestARestoredStoreHasItsOwnMark, so the next start warns of nothing.
func TestARestoredStoreHasItsOwnMark(t *testing.T) {
	w := newWorld(t)
	if _, err := w.restore(nil); err != nil {
		t.Fatal(err)
	}
	missing := true
	if w.serve(func(_ *bolt.Store, r *keystore.Rings) { missing = r.MarkMissing() }) || missing {
		t.Errorf("it is the old store, or the mark is missing: %v", missing)
	}
}

// TestARestoreLeavesOtherFiles: another file at its path is an error, before anything is changed.
func TestARestoreLeavesOtherFiles(t *testing.T) {
	w := newWorld(t)
	mark := w.config.MarkPath()
	if err := os.WriteFile(mark, bytes.Repeat([]byte("mine "), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.restore(nil); err == nil {
		t.Error("another file was replaced")
	}
	if b, err := os.ReadFile(mark); err != nil || !bytes.HasPrefix(b, []byte("mine ")) {
		t.Errorf("%.20q, %v", b, err)
	}
	if left, _ := filepath.Glob(w.config.Path("keymill.db.*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	os.Remove(mark)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Restore(cancelled, Options{Config: w.config, Master: w.master, In: bytes.NewReader(w.copy), Replace: true}); err == nil || !strings.HasPrefix(err.Error(), "interrupted; ") {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := os.Stat(w.config.Path("lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock file: %v", err)
	}
}

// TestARestoreChecksEveryRecord before it replaces anything. What is damaged stays so if the administrator
// accepts it.
//
// I23.
func TestARestoreChecksEveryRecord(t *testing.T) {
	w := newWorld(t)
	store, err := bolt.Open(w.config.Path("keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("user/7", []byte("without a tag")) }); err != nil {
		t.Fatal(err)
	}
	store.Close()
	w.serve(func(store *bolt.Store, r *keystore.Rings) { w.copy = w.backup(store, r) })
	before, err := os.ReadFile(w.config.Path("keymill.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.restore(nil)
	var text strings.Builder
	if code := terminal.Report(&text, err); code != 1 || !strings.Contains(text.String(), "keymill: copy: damage: ") || !strings.Contains(text.String(), "user/7") ||
		!strings.Contains(text.String(), "--accept-damage") {
		t.Errorf("code %d, %s", code, text.String())
	}
	if after, err := os.ReadFile(w.config.Path("keymill.db")); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the store changed (%v)", err)
	}
	o := w.options(nil)
	o.AcceptDamage = true
	report, err := Restore(t.Context(), o)
	if err != nil || len(report.Damage) == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	text.Reset()
	if err := report.Print(&text); err != nil || !strings.Contains(text.String(), "still damaged: damage: ") {
		t.Errorf("%v, %s", err, text.String())
	}
}

// TestARestoreReplacesNoOtherDatabase: the backup is the wrong one, or the directory.
func TestARestoreReplacesNoOtherDatabase(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	w.copy, w.master = other.copy, other.master
	if _, err := w.restore(nil); err == nil || !strings.Contains(err.Error(), "copy: the backup is of database ") {
		t.Errorf("another database: %v", err)
	}
	if err := os.WriteFile(w.config.Path("keymill.db"), []byte("no store at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.restore(nil); err != nil {
		t.Errorf("over a store that cannot be read: %v", err)
	}
}

// TestARestoreNeedsADirectoryOfItsOwn: among other files no store is made, and nothing is left.
func TestARestoreNeedsADirectoryOfItsOwn(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "passwd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := *w.config
	c.Data = dir
	w.config = &c
	if _, err := w.restore(nil); err == nil || !strings.Contains(err.Error(), "holds other files, such as passwd, and no store") {
		t.Errorf("among other files: %v", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left %v, %v", files, err)
	}
}

// TestAFileSystemWithoutHardLinksKeepsTheStoreToo.
func TestAFileSystemWithoutHardLinksKeepsTheStoreToo(t *testing.T) {
	w := newWorld(t)
	kept := map[string]bool{}
	for range 3 { // within one second
		o := w.options(nil)
		o.link = func(from, to string) error { // as durable.Link there
			if _, err := os.Lstat(to); err == nil {
				return fs.ErrExist
			}
			return os.Rename(from, to)
		}
		report, err := Restore(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		kept[report.Before] = true
		if _, err := os.Stat(report.Before); err != nil {
			t.Error(err)
		}
	}
	if len(kept) != 3 {
		t.Errorf("kept %v", kept)
	}
}

// TestAMarkThatCannotBeMadeHidesNoReport: the store is restored, and both are said.
func TestAMarkThatCannotBeMadeHidesNoReport(t *testing.T) {
	w := newWorld(t)
	report, err := w.restore(func(step string) error {
		if step == "mark" {
			return os.Mkdir(w.config.MarkPath(), 0o700)
		}
		return nil
	})
	if report == nil || err == nil || !strings.Contains(err.Error(), "the store is restored, but not its mark: open mark ") {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestARestoreThatCannotPlaceTheStoreLeavesTheMark of the store that stays, so its next start warns of nothing.
func TestARestoreThatCannotPlaceTheStoreLeavesTheMark(t *testing.T) {
	for _, last := range []string{"unmark", "place"} {
		w := newWorld(t)
		before, err := os.ReadFile(w.config.MarkPath())
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.restore(func(step string) error {
			if step != last {
				return nil
			}
			if last == "unmark" {
				return syscall.EIO
			}
			left, _ := filepath.Glob(w.config.Path(building + "*"))
			return os.Remove(left[0]) // so that the rename fails
		})
		if err == nil {
			t.Fatal("the store has its name")
		}
		if after, err := os.ReadFile(w.config.MarkPath()); err != nil || !bytes.Equal(before, after) {
			t.Errorf("after %s: the mark changed (%v)", last, err)
		}
		missing := true
		if later := w.serve(func(_ *bolt.Store, r *keystore.Rings) { missing = r.MarkMissing() }); !later || missing {
			t.Errorf("after %s: the old store %v, its mark is missing: %v", last, later, missing)
		}
		if left, _ := filepath.Glob(w.config.MarkPath() + "?*"); len(left) > 0 {
			t.Errorf("after %s: left %v", last, left)
		}
	}
}

// TestARestoreBeginsAboveEveryEpochThatWasUsed: that of the copy, and that of the list of revoked keys. A session of
// either would go on otherwise.
//
// I14.
func TestARestoreBeginsAboveEveryEpochThatWasUsed(t *testing.T) {
	for _, far := range []time.Duration{0, 1000 * time.Hour} { // the clock of the server that wrote the list was ahead
		w := newWorld(t)
		var copied, listed uint64
		w.serve(func(_ *bolt.Store, r *keystore.Rings) { copied = w.epoch(r) })
		w.listed = func(storage.Reader) (uint64, error) {
			if far == 0 {
				return 1, nil // a list without the copy's epoch
			}
			listed = copied + uint64(far)
			return listed, nil
		}
		w.serve(func(*bolt.Store, *keystore.Rings) {})
		w.listed = nil
		o := w.options(nil)
		o.KeepSessions = far > 0 // they end although
		if _, err := Restore(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		var now uint64
		w.serve(func(_ *bolt.Store, r *keystore.Rings) { now = w.epoch(r) })
		if now <= max(copied, listed) {
			t.Errorf("the epoch is %d; the copy has %d, the list %d", now, copied, listed)
		}
	}
}

func (w *world) epoch(r *keystore.Rings) (ended uint64) {
	w.t.Helper()
	err := r.Store().View(w.t.Context(), func(tx storage.Reader) (err error) { ended, err = epoch.Find(tx); return err })
	if err != nil {
		w.t.Fatal(err)
	}
	return ended
}
