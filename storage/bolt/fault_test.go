package bolt

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

// exit ends the goroutine as t.FailNow does.
func exit() { runtime.Goexit() }

// TestViewsWaitForTheSync is a power cut between commit and sync as readers see it:
// bbolt shows the write, and until its sync has succeeded no View does.
func TestViewsWaitForTheSync(t *testing.T) {
	for _, tt := range []struct {
		name   string
		failed error
	}{{"sync succeeds", nil}, {"sync fails", syscall.EIO}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := openTest(t)
				failures := make(chan error, 2)
				b.opts.Failed = func(err error) { failures <- err }
				visible, sync := make(chan struct{}), make(chan struct{})
				b.commit = func(tx *bbolt.Tx) error {
					if err := tx.Commit(); err != nil {
						return err
					}
					close(visible)
					<-sync
					return tt.failed
				}
				written := make(chan error, 1)
				go func() { written <- b.Update(t.Context(), putOne("a")) }()
				<-visible
				if !b.visible() {
					t.Fatal("bbolt does not show the write, so this test tests nothing")
				}
				viewed, impatient := make(chan error, 1), make(chan error, 1)
				seen := false
				go func() {
					viewed <- b.View(t.Context(), func(r storage.Reader) error {
						_, err := r.Get("a")
						seen = err == nil
						return nil
					})
				}()
				ctx, cancel := context.WithCancel(t.Context())
				go func() { impatient <- b.View(ctx, func(storage.Reader) error { return nil }) }()
				synctest.Wait()
				select {
				case err := <-viewed:
					t.Fatalf("a View did not wait for the sync: %v", err)
				default:
				}
				cancel()
				if err := <-impatient; err != context.Canceled {
					t.Errorf("a cancelled View got %v", err)
				}
				close(sync)
				errView, errUpdate := <-viewed, <-written
				if tt.failed == nil {
					if errView != nil || errUpdate != nil || !seen {
						t.Errorf("got %v and %v, seen %v", errView, errUpdate, seen)
					}
					return
				}
				wantDown(t, b, errView, errUpdate)
				if err := <-failures; !errors.Is(err, storage.ErrUnknownOutcome) || !errors.Is(err, syscall.EIO) {
					t.Errorf("Failed was told %v", err)
				}
				if synctest.Wait(); len(failures) != 0 {
					t.Error("Failed was called twice")
				}
			})
		})
	}
}

// wantDown checks that b takes no more work, and that got were unknown outcomes.
func wantDown(t *testing.T, b *Store, got ...error) {
	t.Helper()
	never := errors.New("ran in a failed store")
	got = append(got,
		b.View(context.Background(), func(storage.Reader) error { return never }),
		b.Update(context.Background(), func(storage.Tx) error { return never }),
		b.Check(context.Background()),
		b.Status().Failed)
	for i, err := range got {
		if !errors.Is(err, storage.ErrUnknownOutcome) {
			t.Errorf("%d: got %v, want the unknown outcome", i, err)
		}
	}
}

// TestABrokenCommitIsAnUnknownOutcome: also a panic of bbolt, and Close still ends.
func TestABrokenCommitIsAnUnknownOutcome(t *testing.T) {
	b := openTest(t)
	if err := b.Update(t.Context(), putOne("before")); err != nil {
		t.Fatal(err)
	}
	b.commit = func(*bbolt.Tx) error { panic("assertion failed") }
	err := b.Update(t.Context(), putOne("after"))
	wantDown(t, b, err)
	if err := b.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	again, err := Open(b.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !has(t, again, "before") || has(t, again, "after") {
		t.Error("the store is not as it was before the commit")
	}
}

// TestNoSpaceIsForgivenOnlyWhereItIsClean repeats the table of fault.go.
func TestNoSpaceIsForgivenOnlyWhereItIsClean(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"data or meta page", &fs.PathError{Op: "write", Err: syscall.ENOSPC}, true},
		{"quota", &fs.PathError{Op: "write", Err: syscall.EDQUOT}, true},
		{"limit of a file", &fs.PathError{Op: "write", Err: syscall.EFBIG}, true},
		{"grow", errors.New("file resize error: truncate x: no space left on device"), true},
		{"fsync after growing", errors.New("file sync error: sync x: no space left on device"), false},
		{"fdatasync", syscall.ENOSPC, false},
		{"disk error", &fs.PathError{Op: "write", Err: syscall.EIO}, false},
		{"grow, disk error", errors.New("file resize error: truncate x: input/output error"), false},
	} {
		if isNoSpace(tt.err) != tt.want {
			t.Errorf("%s: clean is %v, want %v", tt.name, !tt.want, tt.want)
		}
	}
}

// TestNoSpaceThatCanBeSeenIsUnknown: a meta page that was written as far as it
// matters is visible, whatever the write said.
func TestNoSpaceThatCanBeSeenIsUnknown(t *testing.T) {
	full := &fs.PathError{Op: "write", Err: syscall.ENOSPC}
	b := openTest(t)
	b.commit = func(tx *bbolt.Tx) error { tx.Rollback(); return full }
	err := b.Update(t.Context(), putOne("a"))
	if !errors.Is(err, storage.ErrNoSpace) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("unseen: got %v", err)
	}
	b.commit = func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), full) }
	wantDown(t, b, b.Update(t.Context(), putOne("b")))
}
