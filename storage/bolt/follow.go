package bolt

import (
	"context"
	"errors"
	"sync"

	"keymill/storage"
)

// ErrFollowed is returned by Follow while the store has a follower.
var ErrFollowed = errors.New("another copy of the store is being made")

// A follower gets the writes of each commit.
type follower struct {
	mu      sync.Mutex
	fn      func([]storage.Write)
	stopped bool
}

func (f *follower) add(writes []storage.Write) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.fn(writes)
	}
}

// Follow calls fn with the writes of every commit from now on, in the order of the commits, until stop
// is called. A View that begins after Follow has returned sees all commits before. Each call comes after
// its commit is durable, and before a View can see it and its callers have their results. So at the call
// of stop, fn has got every write that was acknowledged or seen. No call follows the return of stop.
//
// fn runs in the goroutine that commits: it must return at once and must not use the store. The values
// must not be changed. A store has one follower at a time; a second one gets ErrFollowed.
func (s *Store) Follow(ctx context.Context, fn func([]storage.Write)) (stop func(), err error) {
	f := &follower{fn: fn}
	if !s.follower.CompareAndSwap(nil, f) {
		return nil, ErrFollowed
	}
	stop = func() {
		s.follower.CompareAndSwap(f, nil)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stopped = true // a group that began before still has f
	}
	// The group under way began without f. This Update is not in it, or ends together with it.
	if err := s.Update(ctx, func(storage.Tx) error { return nil }); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}
