package optimistic_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
)

// A stuck takes 1 ms for a Commit, and never answers one with several writes until it is released.
type stuck struct {
	optimistic.Engine
	released chan struct{}
}

func (e *stuck) Commit(ctx context.Context, committer int, b *optimistic.Batch) (int64, *optimistic.Stale, error) {
	time.Sleep(time.Millisecond)
	if len(b.Writes) > 1 {
		<-e.released
	}
	return e.Engine.Commit(ctx, committer, b)
}

// TestABatchThatHangsHoldsUpNoOther for longer than a few milliseconds, although a committer waits for as many calls as
// that batch has.
func TestABatchThatHangsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &stuck{enginetest.NewDatabase().Open(enginetest.Faults{}), make(chan struct{})}
		s := optimistic.New(e, optimistic.Options{Committers: 2})
		defer s.Close()
		var all sync.WaitGroup
		write := func(key string) {
			if err := s.Update(context.Background(), func(tx storage.Tx) error { return tx.Put(key, nil) }); err != nil {
				t.Error(err)
			}
		}
		for n := range 5 { // one for each committer, and the others wait and are the batch that hangs
			all.Go(func() { write(fmt.Sprint("first/", n)) })
			synctest.Wait()
		}
		time.Sleep(100 * time.Millisecond)
		begun := time.Now()
		write("later")
		if took := time.Since(begun); took > 10*time.Millisecond {
			t.Errorf("a call took %v while another batch hung", took)
		} else if took <= time.Millisecond {
			t.Errorf("a call took %v: it did not wait for others, so no batch hangs and the test proves nothing", took)
		}
		close(e.released)
		all.Wait()
	})
}
