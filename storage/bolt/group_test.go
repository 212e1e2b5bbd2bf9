package bolt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"keymill/storage"
)

func openTest(t *testing.T) *Store {
	t.Helper()
	b, err := Open(filepath.Join(t.TempDir(), "keymill.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func putOne(key string) func(storage.Tx) error {
	return func(tx storage.Tx) error { return tx.Put(key, []byte(key)) }
}

func has(t *testing.T, b *Store, key string) bool {
	t.Helper()
	found := false
	if err := b.View(context.Background(), func(r storage.Reader) error {
		v, err := r.GetAll(key)
		found = err == nil && v[0] != nil
		return err
	}); err != nil {
		t.Fatalf("view: %v", err)
	}
	return found
}

// together runs first and then the others, in their order and in the same group. It needs
// a synctest bubble: synctest.Wait returns once the next caller waits in the queue.
func together(b *Store, first func(storage.Tx) error, others ...func()) {
	var all sync.WaitGroup
	begun, open := make(chan struct{}), make(chan struct{})
	all.Go(func() {
		b.Update(context.Background(), func(tx storage.Tx) error {
			close(begun)
			<-open
			return first(tx)
		})
	})
	<-begun
	for _, other := range others {
		all.Go(other)
		synctest.Wait()
	}
	close(open)
	all.Wait()
}

// countCommits makes b count its commits.
func countCommits(b *Store) *atomic.Int32 {
	n := new(atomic.Int32)
	b.commit = func(tx *bbolt.Tx) error {
		n.Add(1)
		return tx.Commit()
	}
	return n
}

// TestCallersThatCanRunJoinTheGroup: on one processor the first caller wakes the writer, which then would commit alone
// while the others wait for the processor. The scheduler may still choose the writer first, so it has some tries.
func TestCallersThatCanRunJoinTheGroup(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 5 {
		var first atomic.Int32
		b, err := Open(filepath.Join(t.TempDir(), "keymill.db"), Options{Committed: func(_ time.Duration, calls int) {
			first.CompareAndSwap(0, int32(calls))
		}})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		begin := make(chan struct{})
		for n := range 20 {
			all.Go(func() {
				<-begin
				if err := b.Update(t.Context(), putOne(fmt.Sprint("record/", n))); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Millisecond) // so that they and the writer wait
		close(begin)
		all.Wait()
		b.Close()
		if first.Load() > 1 {
			return
		}
	}
	t.Error("the first commit was for one call alone, five times")
}

// TestTheWriterDoesNotYieldToLongWork: otherwise each commit would wait for a turn behind the hashes of passwords. It may yield to
// the first one. The scheduler may choose the caller of yield first, so that has some tries.
func TestTheWriterDoesNotYieldToLongWork(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var b Store
	compute := func() {
		go func() {
			for start := time.Now(); time.Since(start) < 4*longYield; {
			}
		}()
	}
	for try := 0; b.yieldAgain.IsZero() && try < 5; try++ {
		compute()
		b.yield()
	}
	if left := time.Until(b.yieldAgain); left < 50*longYield {
		t.Fatalf("after a long yield, the next one may come %v later", left)
	}
	again := b.yieldAgain // a second long yield moves it
	compute()
	b.yield()
	if b.yieldAgain != again {
		t.Error("the writer yielded a second time")
	}
}

// TestAGroupSharesOneCommit: functions of the group that fail, panic or end their
// goroutine leave nothing behind, and each of their callers gets its own answer.
func TestAGroupSharesOneCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openTest(t)
		commits := countCommits(b)
		refused := errors.New("refused")
		var refusal, last error
		var panicked any
		survived, read := false, ""
		together(b, putOne("first"),
			func() {
				refusal = b.Update(t.Context(), func(tx storage.Tx) error {
					return errors.Join(tx.Put("first", []byte("refused")), tx.Put("refused", nil), refused)
				})
			},
			func() {
				defer func() { panicked = recover() }()
				b.Update(t.Context(), func(tx storage.Tx) error {
					tx.Delete("first")
					panic("test panic")
				})
			},
			func() {
				b.Update(t.Context(), func(tx storage.Tx) error {
					tx.Put("exited", nil)
					exit()
					return nil
				})
				survived = true
			},
			func() {
				last = b.Update(t.Context(), func(tx storage.Tx) error {
					v, err := tx.Get("first")
					read = string(v)
					return errors.Join(err, tx.Put("last", v))
				})
			},
		)
		if n := commits.Load(); n != 1 {
			t.Errorf("%d commits, want 1", n)
		}
		if !errors.Is(refusal, refused) {
			t.Errorf("the function that failed: Update returned %v", refusal)
		}
		p, ok := panicked.(*storage.Panic)
		if !ok || p.Value != "test panic" || !strings.Contains(string(p.Stack), "TestAGroupSharesOneCommit") {
			t.Errorf("the function that panicked: its caller recovered %v", panicked)
		}
		if survived {
			t.Error("Update returned although its function ended the goroutine")
		}
		if last != nil || read != "first" {
			t.Errorf("the last function read %q, and Update returned %v", read, last)
		}
		for key, want := range map[string]bool{"first": true, "last": true, "refused": false, "exited": false} {
			if has(t, b, key) != want {
				t.Errorf("%s: exists %v, want %v", key, !want, want)
			}
		}
	})
}

// TestReadersAreAnsweredAfterTheCommit: a function that only read, or that refused, may
// have read a write of its group. If that write is not durable, the caller learns it.
func TestReadersAreAnsweredAfterTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openTest(t)
		b.commit = func(tx *bbolt.Tx) error {
			tx.Rollback()
			return syscall.EIO
		}
		var read, refused error
		together(b, putOne("a"),
			func() { read = b.Update(t.Context(), func(tx storage.Tx) error { _, err := tx.Get("a"); return err }) },
			func() { refused = b.Update(t.Context(), func(tx storage.Tx) error { return errors.New("a is there") }) },
		)
		if !errors.Is(read, storage.ErrUnknownOutcome) || !errors.Is(refused, storage.ErrUnknownOutcome) {
			t.Errorf("the reader got %v and the refusal %v, want ErrUnknownOutcome", read, refused)
		}
	})
}

// TestReadingCostsNoCommit: without a write there is nothing to sync.
func TestReadingCostsNoCommit(t *testing.T) {
	b := openTest(t)
	commits := countCommits(b)
	for _, fn := range []func(storage.Tx) error{
		func(tx storage.Tx) error { _, err := tx.GetAll("a"); return err },
		func(tx storage.Tx) error { return errors.Join(tx.Put("a", nil), errors.New("refused")) },
	} {
		b.Update(t.Context(), fn)
	}
	if n := commits.Load(); n != 0 {
		t.Errorf("%d commits, want none", n)
	}
}

// TestACancelledCallLeavesTheQueue, but not once its function runs.
func TestACancelledCallLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openTest(t)
		waiting, cancelWaiting := context.WithCancel(t.Context())
		running, cancelRunning := context.WithTimeout(t.Context(), time.Minute)
		defer cancelRunning()
		var left, stayed error
		together(b, func(tx storage.Tx) error {
			cancelWaiting()
			synctest.Wait() // the other call leaves the queue now
			return nil
		},
			func() { left = b.Update(waiting, putOne("left")) },
			func() {
				stayed = b.Update(running, func(tx storage.Tx) error {
					cancelRunning()
					return tx.Put("stayed", nil)
				})
			},
		)
		if left != context.Canceled || has(t, b, "left") {
			t.Errorf("cancelled in the queue: Update returned %v, written %v", left, has(t, b, "left"))
		}
		if stayed != nil || !has(t, b, "stayed") {
			t.Errorf("cancelled while its function ran: Update returned %v, written %v", stayed, has(t, b, "stayed"))
		}
	})
}

// TestAGroupIsBounded: no commit waits for more than 128 functions or 8 MiB.
func TestAGroupIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name                string
		calls, values, want int
	}{
		{"calls", 200, 1, 2},
		{"bytes", 40, 7, 3}, // 7 × 64 KiB each, so 19 fill a group
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := openTest(t)
				commits := countCommits(b)
				value := make([]byte, storage.MaxValueBytes)
				if tt.values == 1 {
					value = nil
				}
				var others []func()
				for i := range tt.calls - 1 {
					others = append(others, func() {
						if err := b.Update(t.Context(), func(tx storage.Tx) error {
							var err error
							for j := range tt.values {
								err = errors.Join(err, tx.Put(fmt.Sprintf("%d/%d", i, j), value))
							}
							return err
						}); err != nil {
							t.Error(err)
						}
					})
				}
				together(b, putOne("a"), others...)
				if n := int(commits.Load()); n != tt.want {
					t.Errorf("%d commits, want %d", n, tt.want)
				}
			})
		})
	}
}

// TestCloseAnswersEveryCaller: Close finishes the group under way, refuses the calls behind
// it, and no caller hangs.
func TestCloseAnswersEveryCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openTest(t)
		inside, open := make(chan struct{}), make(chan struct{})
		answers := make(chan error, 2)
		b.commit = func(tx *bbolt.Tx) error {
			close(inside)
			<-open
			return tx.Commit()
		}
		go func() { answers <- b.Update(t.Context(), putOne("a")) }()
		<-inside
		go func() { answers <- b.Update(t.Context(), putOne("b")) }()
		synctest.Wait()
		closed := make(chan error)
		go func() { closed <- b.Close() }()
		if err := <-answers; err != storage.ErrClosed {
			t.Errorf("the call in the queue got %v", err)
		}
		close(open)
		if err := <-answers; err != nil {
			t.Errorf("the call under way got %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// TestEachCommitIsReported with its time and its calls, whatever its outcome, and nothing else is: a group
// that only reads has no commit.
func TestEachCommitIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openTest(t)
		var sizes []int
		var took time.Duration
		b.opts.Committed = func(d time.Duration, calls int) { sizes, took = append(sizes, calls), took+d }
		commit := b.commit
		b.commit = func(tx *bbolt.Tx) error { time.Sleep(time.Second); return commit(tx) }
		together(b, putOne("first"),
			func() { b.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("second", nil) }) },
			func() { b.Update(t.Context(), func(storage.Tx) error { return errors.New("refused") }) },
		)
		if err := b.Update(t.Context(), func(tx storage.Tx) error { _, err := tx.Get("first"); return err }); err != nil {
			t.Error(err)
		}
		b.commit = func(tx *bbolt.Tx) error { tx.Rollback(); return errors.New("the disk") }
		b.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("third", nil) })
		calls := 0
		for _, n := range sizes {
			calls += n
		}
		if calls != 4 || len(sizes) > 4 || took != time.Duration(len(sizes)-1)*time.Second {
			t.Errorf("groups of %v in %v", sizes, took)
		}
	})
}

// TestACommitUnderWayIsReported: a disk that hangs shows in Status, which waits for nothing, and so does its end.
func TestACommitUnderWayIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openTest(t)
		commit := b.commit
		for _, outcome := range []func(*bbolt.Tx) error{
			commit,
			func(tx *bbolt.Tx) error { tx.Rollback(); return errors.New("the disk") },
		} {
			gate := make(chan struct{})
			b.commit = func(tx *bbolt.Tx) error { <-gate; return outcome(tx) }
			if since := b.FileStatus().CommitSince; !since.IsZero() {
				t.Errorf("without a commit: since %v", since)
			}
			began, ended := time.Now(), make(chan struct{})
			go func() { b.Update(context.Background(), putOne("key")); close(ended) }()
			time.Sleep(time.Minute)
			synctest.Wait()
			if since := b.FileStatus().CommitSince; !since.Equal(began) {
				t.Errorf("since %v, want %v", since, began)
			}
			close(gate)
			<-ended
		}
		if st := b.FileStatus(); !st.CommitSince.IsZero() || b.Status().Failed == nil {
			t.Errorf("after a fault: %+v", st)
		}
	})
}

// TestFreePagesAreReported: what a deletion leaves is free, and the file keeps its size.
func TestFreePagesAreReported(t *testing.T) {
	b := openTest(t)
	b.opts.Committed = func(time.Duration, int) {}
	write := func(fn func(storage.Tx) error) {
		t.Helper()
		if err := b.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	const size = 60 << 10
	for n := range 20 {
		write(func(tx storage.Tx) error { return tx.Put(fmt.Sprint("large/", n), make([]byte, size)) })
	}
	last := func() (free, size int64) { // before the last commit
		write(func(tx storage.Tx) error { return tx.Put("small", nil) })
		return b.FileStatus().FreeBytes, b.Status().Bytes
	}
	freeBefore, sizeBefore := last()
	for n := range 20 {
		write(func(tx storage.Tx) error { return tx.Delete(fmt.Sprint("large/", n)) })
	}
	freeAfter, sizeAfter := last()
	if freed := freeAfter - freeBefore; freed < 15*size || freed > 25*size || sizeAfter != sizeBefore {
		t.Errorf("%d bytes were free of %d, then %d of %d", freeBefore, sizeBefore, freeAfter, sizeAfter)
	}
}
