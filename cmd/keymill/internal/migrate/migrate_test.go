package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/moved"
	"keymill/storage/postgres"
	"keymill/storage/postgres/postgrestest"
)

// newDir makes a data directory with a store of some records, and returns them.
func newDir(t *testing.T, records int) (dir string, all map[string]string) {
	t.Helper()
	dir = t.TempDir()
	s, err := bolt.Open(filepath.Join(dir, storeName), bolt.Options{})
	must(t, err)
	f := file{s}
	must(t, s.Update(t.Context(), func(tx storage.Tx) error {
		return storage.PutMeta(tx, storage.NewMeta(time.Now(), false))
	}))
	n := 0
	must(t, f.load(t.Context(), func(storage.Reader) error { return nil }, func() (storage.Write, error) {
		if n++; n > records {
			return storage.Write{}, io.EOF
		}
		return storage.Write{Key: fmt.Sprintf("family/%06d", n), Value: bytes.Repeat([]byte{0, byte(n), 0xff}, n%50)}, nil
	}, func(int) {}))
	must(t, s.Update(t.Context(), func(tx storage.Tx) error {
		return errors.Join(tx.Put("node/a", []byte("x")), tx.Put("lease/b", nil), tx.Put("zz", bytes.Repeat([]byte("long"), storage.MaxStoredBytes/4)))
	}))
	must(t, s.Close())
	all = read(t, dir)
	delete(all, "node/a")
	delete(all, "lease/b")
	return dir, all
}

// read returns all records of a store in a directory or a database.
func read(t *testing.T, address string) map[string]string {
	t.Helper()
	s := openAt(t, address)
	defer s.Close()
	all := map[string]string{}
	for e, err := range s.records(t.Context()) {
		must(t, err)
		all[e.Key] = string(e.Value)
	}
	return all
}

func openAt(t *testing.T, address string) *place {
	t.Helper()
	if strings.Contains(address, "://") {
		d, err := openDatabase(t.Context(), address, nil, true)
		must(t, err)
		return d
	}
	f, err := openFile(address, true)
	must(t, err)
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func migrateIt(ctx context.Context, from, to string, step func(string) error) (*Result, error) {
	return Run(ctx, Options{From: from, To: to, Notes: &bytes.Buffer{}, Password: noPassword, step: step})
}

// checkMoved fails the test unless the target has exactly these records, and neither store can be taken for the other.
func checkMoved(t *testing.T, from, to string, want map[string]string) {
	t.Helper()
	if got := read(t, to); !maps.Equal(got, want) {
		t.Errorf("%s has %d records, want %d", to, len(got), len(want))
	}
	s := openAt(t, from)
	defer s.Close()
	var refused *moved.Error
	if err := moved.Admit(t.Context(), s, 0, nil); !errors.As(err, &refused) || refused.State != moved.Moved || !strings.Contains(err.Error(), to) {
		t.Errorf("a start on %s: %v, want that it was moved to %s", from, err, to)
	}
}

// TestAStoreMovesToADatabaseAndBack, byte for byte, without what belongs to its nodes.
func TestAStoreMovesToADatabaseAndBack(t *testing.T) {
	dir, want := newDir(t, 5000)
	url := postgrestest.Shared(t).Database(t)
	if _, err := migrateIt(t.Context(), dir, url, nil); err != nil {
		t.Fatal(err)
	}
	checkMoved(t, dir, url, want)
	back := filepath.Join(t.TempDir(), "back")
	r, err := migrateIt(t.Context(), url, filepath.Join(back, storeName), nil)
	must(t, err)
	if r.Records != len(want) || r.Written != len(want) || r.LeftOut != 0 || r.Resumed {
		t.Errorf("%+v", r)
	}
	checkMoved(t, url, back, want)
	if _, err := migrateIt(t.Context(), url, back, nil); err != nil {
		t.Errorf("the same command again: %v", err)
	}
	if _, err := migrateIt(t.Context(), url, t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "was moved to "+back) {
		t.Errorf("to another target: %v", err)
	}
	// The stores of before are in the way until they are removed.
	for left, remove := range map[string]string{url: "remove its schema keymill", dir: "remove its file keymill.db"} {
		_, err := migrateIt(t.Context(), back, left, nil)
		if hint := terminal.HintOf(err); err == nil || !strings.Contains(err.Error(), left+" is not empty: the store was moved to ") || !strings.Contains(hint, remove) {
			t.Errorf("back to %s: %v, hint %q", left, err, hint)
		}
	}
	must(t, os.Remove(filepath.Join(dir, storeName)))
	if _, err := migrateIt(t.Context(), back, dir, nil); err != nil {
		t.Error(err)
	}
	checkMoved(t, back, dir, want)
}

// steps of a migration, in order.
var steps = []string{"begin", "expect", "copy", "compare", "finish", "complete"}

// TestAKillAtAnyStepLosesNothing: the source can be written again unless it says that it was moved, and the same command
// ends the migration, with what was written in the meantime.
func TestAKillAtAnyStepLosesNothing(t *testing.T) {
	for _, kind := range []string{"file", "database"} {
		for _, at := range steps {
			t.Run(kind+"/"+at, func(t *testing.T) {
				t.Parallel()
				from, want := newDir(t, 300)
				to := filepath.Join(t.TempDir(), "target")
				if kind == "database" {
					to = postgrestest.Shared(t).Database(t)
				}
				_, err := migrateIt(t.Context(), from, to, func(name string) error {
					if name == at {
						return errKilled
					}
					return nil
				})
				if !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
				changeAfterKill(t, from, at, want)
				r, err := migrateIt(t.Context(), from, to, nil)
				must(t, err)
				checkMoved(t, from, to, want)
				if resumed := at != "begin" && at != "expect"; r.Resumed != resumed || at == "compare" && r.Written != 3 {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

// changeAfterKill starts a server on the source, as far as this test needs one, and changes records.
func changeAfterKill(t *testing.T, from, at string, want map[string]string) {
	t.Helper()
	s := openAt(t, from)
	defer s.Close()
	err := moved.Admit(t.Context(), s, 0, nil)
	if at == "complete" {
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Fatalf("a start after the source was moved: %v", err)
		}
		return
	}
	must(t, err)
	must(t, moved.Gate{Store: s}.Update(t.Context(), func(tx storage.Tx) error {
		return errors.Join(tx.Put("family/000007", []byte("changed")), tx.Put("new", nil), tx.Delete("family/000009"))
	}))
	want["family/000007"], want["new"] = "changed", ""
	delete(want, "family/000009")
}

// TestAFailureFreesTheSource, as does an interruption.
func TestAFailureFreesTheSource(t *testing.T) {
	from, _ := newDir(t, 10)
	for _, at := range steps[1:5] {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := migrateIt(ctx, from, filepath.Join(t.TempDir(), "target"), func(name string) error {
			if name == at {
				cancel()
				return context.Canceled
			}
			return nil
		})
		cancel()
		if err == nil || !strings.Contains(err.Error(), "interrupted; "+from+" was not moved") {
			t.Errorf("interrupted at %s: %v", at, err)
		}
		s := openAt(t, from)
		if m, err := moved.Of(t.Context(), s); m != nil || err != nil {
			t.Errorf("after an interruption at %s the source says %+v, %v", at, m, err)
		}
		s.Close()
	}
}

// TestARecordThatDiffersAfterTheCopyIsFound: the target is read back.
func TestARecordThatDiffersAfterTheCopyIsFound(t *testing.T) {
	from, _ := newDir(t, 100)
	url := postgrestest.Shared(t).Database(t)
	for what, change := range map[string]func(tx storage.Tx) error{
		"differs":                                func(tx storage.Tx) error { return tx.Put("family/000050", []byte("other")) },
		"is in the target and not in the source": func(tx storage.Tx) error { return tx.Put("more", nil) },
	} {
		_, err := migrateIt(t.Context(), from, url, func(name string) error {
			if name != "compare" {
				return nil
			}
			s := openAt(t, url)
			defer s.Close()
			return s.Update(t.Context(), change)
		})
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want that a record %s", err, what)
		}
	}
}

// TestATargetWithOtherRecordsIsRefused, and nothing is changed.
func TestATargetWithOtherRecordsIsRefused(t *testing.T) {
	from, _ := newDir(t, 3)
	other, records := newDir(t, 3)
	cluster := postgrestest.Shared(t)
	filled := cluster.Database(t)
	s := openAt(t, filled)
	must(t, s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("k", nil) }))
	s.Close()
	for to, want := range map[string]string{
		other:                                "holds another store",
		filled:                               "already holds records",
		from:                                 "name the same store",
		filepath.Join(t.TempDir(), "a", "b"): "no such file",
		"mysql://a@b/c":                      "stores are in data directories",
		"":                                   "--to is missing",
	} {
		if _, err := migrateIt(t.Context(), from, to, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("to %q: %v, want %q", to, err, want)
		}
	}
	must(t, openClose(t, from))
	if got := read(t, other); len(got) != len(records)+2 {
		t.Errorf("the other store has %d records", len(got))
	}
	// One that a migration of another source has begun.
	begun := cluster.Database(t)
	if _, err := migrateIt(t.Context(), other, begun, func(name string) error { return killAt(name, "copy") }); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	if _, err := migrateIt(t.Context(), from, begun, nil); err == nil || !strings.Contains(err.Error(), "target of a migration from "+other) {
		t.Errorf("to the target of another migration: %v", err)
	}
	if _, err := migrateIt(t.Context(), begun, t.TempDir(), nil); err == nil {
		t.Error("an incomplete target was moved on")
	}
}

func killAt(name, at string) error {
	if name == at {
		return errKilled
	}
	return nil
}

// openClose reports whether a store can be served.
func openClose(t *testing.T, dir string) error {
	s := openAt(t, dir)
	defer s.Close()
	return moved.Admit(t.Context(), s, 0, nil)
}

// TestANodeThatWasPausedWritesNothingAfterTheMove: its commit compares what it read before.
func TestANodeThatWasPausedWritesNothingAfterTheMove(t *testing.T) {
	dir, want := newDir(t, 50)
	url := postgrestest.Shared(t).Database(t)
	_, err := migrateIt(t.Context(), dir, url, nil)
	must(t, err)
	node, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	must(t, err)
	defer node.Close()
	put := func(within func()) error {
		return moved.Gate{Store: node}.Update(t.Context(), func(tx storage.Tx) error {
			within()
			return tx.Put("late", nil)
		})
	}
	must(t, put(func() {}))
	want["late"] = ""
	// The second one is paused inside of its transaction.
	paused, goOn := make(chan struct{}), make(chan struct{})
	result := make(chan error)
	var once sync.Once
	go func() {
		result <- put(func() { once.Do(func() { close(paused); <-goOn }) })
	}()
	<-paused
	back := filepath.Join(t.TempDir(), "back")
	_, err = migrateIt(t.Context(), url, back, nil)
	must(t, err)
	close(goOn)
	var refused *moved.Error
	if err := <-result; !errors.As(err, &refused) || refused.State != moved.Moved {
		t.Errorf("a commit that began before the move: %v", err)
	}
	checkMoved(t, url, back, want)
}

// TestARunThatWasPausedWritesNothingToATargetThatIsServed: another run has completed the target in the meantime.
func TestARunThatWasPausedWritesNothingToATargetThatIsServed(t *testing.T) {
	for _, to := range []string{filepath.Join(t.TempDir(), "target"), postgrestest.Shared(t).Database(t)} {
		target := openAt(t, to)
		paused, other := moved.NewRun("source", to, "id"), moved.NewRun("source", to, "id")
		must(t, moved.Expect(t.Context(), target, paused))
		n, err := copyRecords(t.Context(), func(yield func(storage.Write, error) bool) {
			must(t, moved.Expect(t.Context(), target, other))
			must(t, moved.Complete(t.Context(), target, other.Run))
			yield(storage.Write{Key: "old"}, nil)
		}, target, paused.Run)
		if n != 0 || err == nil || !strings.Contains(err.Error(), "another migration has taken the target") {
			t.Errorf("%s: %d writes, %v", to, n, err)
		}
		must(t, target.Close())
		if got := read(t, to); len(got) > 0 {
			t.Errorf("%s has %v", to, got)
		}
	}
}

// TestOfTwoMigrationsOneMoves, and the other one is refused.
func TestOfTwoMigrationsOneMoves(t *testing.T) {
	cluster := postgrestest.Shared(t)
	dir, want := newDir(t, 50)
	first := cluster.Database(t)
	_, err := migrateIt(t.Context(), dir, first, nil)
	must(t, err)
	begun, second := make(chan struct{}), make(chan struct{})
	result := make(chan error)
	targets := []string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")}
	go func() {
		_, err := migrateIt(t.Context(), first, targets[0], func(name string) error {
			if name == "copy" {
				close(begun)
				<-second
			}
			return nil
		})
		result <- err
	}()
	<-begun
	if _, err = migrateIt(t.Context(), first, targets[1], nil); err == nil || !strings.Contains(err.Error(), "another migration is at work") {
		t.Errorf("the second migration: %v", err)
	}
	close(second)
	must(t, <-result)
	checkMoved(t, first, targets[0], want)
}

// TestASourceThatIsAwayIsCalledSo, and not one that another migration moves.
func TestASourceThatIsAwayIsCalledSo(t *testing.T) {
	t.Parallel()
	cluster := postgrestest.Shared(t)
	dir, _ := newDir(t, 5)
	name := cluster.NewDatabase(t)
	if _, err := migrateIt(t.Context(), dir, cluster.URL(postgrestest.Role, name), nil); err != nil {
		t.Fatal(err)
	}
	proxy := cluster.Proxy(t)
	_, err := migrateIt(t.Context(), proxy.URL(name), filepath.Join(t.TempDir(), "target"), func(name string) error {
		if name == "begin" {
			proxy.Close()
		}
		return nil
	})
	if err == nil || !errors.Is(err, storage.ErrUnavailable) || strings.Contains(err.Error(), "another migration") || !strings.Contains(err.Error(), "cannot be freed now") {
		t.Errorf("%v, want that the source is away", err)
	}
}

// TestAbortFreesTheSource that a killed migration has left, and no store that was moved.
func TestAbortFreesTheSource(t *testing.T) {
	dir, _ := newDir(t, 5)
	to := filepath.Join(t.TempDir(), "target")
	abort := func(from string) error {
		_, err := Run(t.Context(), Options{From: from, Abort: true, Notes: &bytes.Buffer{}})
		return err
	}
	must(t, abort(dir)) // nothing is to be done
	if _, err := migrateIt(t.Context(), dir, to, func(name string) error { return killAt(name, "compare") }); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	must(t, abort(dir))
	must(t, openClose(t, dir))
	if err := openClose(t, to); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a start on the incomplete target: %v", err)
	}
	if err := abort(to); err == nil {
		t.Error("an incomplete target was freed")
	}
	if _, err := migrateIt(t.Context(), dir, to, nil); err != nil {
		t.Fatal(err)
	}
	if err := abort(dir); err == nil || !strings.Contains(err.Error(), "was moved to "+to) {
		t.Errorf("the abort of a store that was moved: %v", err)
	}
}

// TestADryRunChangesNothing.
func TestADryRunChangesNothing(t *testing.T) {
	dir, _ := newDir(t, 5)
	empty := postgrestest.Shared(t).Database(t)
	target := filepath.Join(t.TempDir(), "target")
	before := read(t, dir)
	for _, to := range []string{empty, target} {
		var notes bytes.Buffer
		r, err := Run(t.Context(), Options{From: dir, To: to, DryRun: true, Notes: &notes, Password: noPassword})
		if err != nil || r.Outcome != "planned" || !strings.Contains(notes.String(), to) {
			t.Errorf("%v, %+v, %s", err, r, &notes)
		}
	}
	if !maps.Equal(read(t, dir), before) {
		t.Error("the source was changed")
	}
	if _, err := openDatabase(t.Context(), empty, nil, false); !errors.Is(err, postgres.ErrNoTables) {
		t.Errorf("the database has tables: %v", err)
	}
	if _, err := openFile(target, false); !errors.Is(err, errNoStore) {
		t.Errorf("the directory has a store: %v", err)
	}
}

// TestASizeThatIsNotKnownIsLeftOut: a database has none when the migration begins.
func TestASizeThatIsNotKnownIsLeftOut(t *testing.T) {
	for bytes, want := range map[int64]bool{-1: false, 0: false, 3 << 20: true} {
		if text := (&migration{facts: facts{Bytes: bytes}}).planText(); strings.Contains(text, ", about 3.0 MiB") != want || strings.Contains(text, "about 0") {
			t.Errorf("%d bytes: %s", bytes, text)
		}
	}
}
