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

// exit ends the goroutine, as t.FailNow does.
func exit() { runtime.Goexit() }

// TestViewsWaitForTheSync: between commit and sync bbolt already shows the write to
// readers, but a View does not show it before the sync has succeeded.
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
				if !b.showsUnsynced() {
					t.Fatal("bbolt does not show the write before its sync, so this test checks nothing")
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
					t.Errorf("a cancelled View returned %v", err)
				}
				close(sync)
				errView, errUpdate := <-viewed, <-written
				if tt.failed == nil {
					if errView != nil || errUpdate != nil || !seen {
						t.Errorf("View returned %v and Update %v; the View saw the write: %v", errView, errUpdate, seen)
					}
					return
				}
				wantFailed(t, b, errView, errUpdate)
				if err := <-failures; !errors.Is(err, storage.ErrUnknownOutcome) || !errors.Is(err, syscall.EIO) {
					t.Errorf("Failed was called with %v", err)
				}
				if synctest.Wait(); len(failures) != 0 {
					t.Error("Failed was called twice")
				}
			})
		})
	}
}

// wantFailed checks that b refuses all work, and that the errors in got are unknown
// outcomes.
func wantFailed(t *testing.T, b *Store, got ...error) {
	t.Helper()
	never := errors.New("the function ran in a failed store")
	got = append(got,
		b.View(context.Background(), func(storage.Reader) error { return never }),
		b.Update(context.Background(), func(storage.Tx) error { return never }),
		b.Check(context.Background()),
		b.Status().Failed)
	for i, err := range got {
		if !errors.Is(err, storage.ErrUnknownOutcome) {
			t.Errorf("%d: got %v, want ErrUnknownOutcome", i, err)
		}
		if !storage.Ended(b, err) {
			t.Errorf("%d: a loop would go on after %v", i, err)
		}
	}
	if storage.Ended(b, nil) {
		t.Error("a call that succeeded ends a loop")
	}
}

// TestAPanicInACommitIsAnUnknownOutcome: and Close still returns.
//
// I28.
func TestAPanicInACommitIsAnUnknownOutcome(t *testing.T) {
	b := openTest(t)
	if err := b.Update(t.Context(), putOne("before")); err != nil {
		t.Fatal(err)
	}
	b.commit = func(*bbolt.Tx) error { panic("assertion failed") }
	err := b.Update(t.Context(), putOne("after"))
	wantFailed(t, b, err)
	if err := b.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	again, err := Open(b.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !has(t, again, "before") || has(t, again, "after") {
		t.Error("the store differs from the state before the commit")
	}
}

// TestOnlyACleanFailureIsNoSpace repeats the table in fault.go.
func TestOnlyACleanFailureIsNoSpace(t *testing.T) {
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
			t.Errorf("%s: isNoSpace returned %v, want %v", tt.name, !tt.want, tt.want)
		}
	}
}

// TestAVisibleCommitWithoutSpaceIsUnknown: if readers see the meta page, the commit can be
// durable although its write failed.
func TestAVisibleCommitWithoutSpaceIsUnknown(t *testing.T) {
	full := &fs.PathError{Op: "write", Err: syscall.ENOSPC}
	b := openTest(t)
	b.commit = func(tx *bbolt.Tx) error { tx.Rollback(); return full }
	err := b.Update(t.Context(), putOne("a"))
	if !errors.Is(err, storage.ErrNoSpace) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a commit that readers do not see: got %v", err)
	}
	b.commit = func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), full) }
	wantFailed(t, b, b.Update(t.Context(), putOne("b")))
}
