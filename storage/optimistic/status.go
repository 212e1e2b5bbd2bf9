package optimistic

import (
	"context"
	"errors"
	"sync"
	"time"

	"keymill/storage"
)

const (
	sizeAge     = time.Minute      // how old the size in a Status can be
	sizeTimeout = 10 * time.Second // of asking for it
)

// A health is what the answers of the Engine tell about it.
type health struct {
	mu       sync.Mutex
	away     error     // guarded by mu, as all fields below
	since    time.Time // zero if away is nil
	bytes    int64
	measured time.Time // when bytes was asked for
}

// note keeps whether the Engine answered. It returns err. An answer that was lost, or that the caller did not
// wait for, tells nothing.
func (h *health) note(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.away, h.since = nil, time.Time{}
	case errors.Is(err, storage.ErrUnavailable):
		if h.away == nil {
			h.since = time.Now()
		}
		h.away = err
	}
	return err
}

// Status implements storage.Store. The Engine is away if it was at the last request. Bytes is up to about a minute
// old, and -1 at first. Failed is always nil, because every failure of an Engine can end.
func (s *Store) Status() storage.Status {
	h := &s.health
	h.mu.Lock()
	st := storage.Status{Away: h.away, Since: h.since, Bytes: h.bytes}
	old := time.Since(h.measured) >= sizeAge
	if old {
		h.measured = time.Now()
	}
	h.mu.Unlock()
	if old && s.begin(context.Background()) == nil {
		go s.measure()
	}
	return st
}

// measure asks for the size. It is a transaction that Close waits for.
func (s *Store) measure() {
	defer s.running.Done()
	ctx, cancel := context.WithTimeout(context.Background(), sizeTimeout)
	defer cancel()
	bytes, err := s.engine.Size(ctx)
	if err != nil {
		bytes = -1
	}
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	s.health.bytes = bytes
}
