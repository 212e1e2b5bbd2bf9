package optimistic

import (
	"context"
	"slices"
	"time"
)

// A request is one caller that needs records from the Engine.
type request struct {
	keys    []string
	done    chan struct{} // closed when records and err are final
	records []Record      // in the order of keys
	err     error
}

// fetch reads records in one Fetch with those of other callers. The keys differ.
func (s *Store) fetch(ctx context.Context, until time.Time, keys []string) ([]Record, error) {
	r := &request{keys: keys, done: make(chan struct{})}
	if err := send(ctx, until, s.fetches, r); err != nil {
		return nil, err
	}
	if err := await(ctx, until, r.done); err != nil {
		return nil, err
	}
	return r.records, r.err
}

// fetchLoop is one fetcher. It takes the requests that wait, answers them together and starts again, until
// the Store is closed.
func (s *Store) fetchLoop() {
	var held *request
	var requests []*request
	for open := true; open; {
		last := len(requests)
		requests = nil
		var keys []string
		held, open = gather(s.fetches, held, last, func(r *request) bool {
			if len(keys)+len(r.keys) > MaxFetchKeys {
				return false
			}
			requests = append(requests, r)
			keys = append(keys, r.keys...)
			return true
		})
		if len(requests) > 0 {
			slices.Sort(keys)
			if away := s.answer(requests, slices.Compact(keys)); away != nil {
				if held != nil {
					held.fail(away)
					held = nil
				}
				drain(s.fetches, func(r *request) { r.fail(away) })
			}
		}
	}
}

// gather takes the items that wait, and held before them if it is not nil, until take refuses one. It
// returns that one. It waits for the first item. last is how many items it got the last time. It reports whether the queue is open.
func gather[T any](queue <-chan *T, held *T, last int, take func(*T) bool) (refused *T, open bool) {
	if held == nil {
		if held, open = <-queue; !open {
			return nil, false
		}
	}
	take(held)
	letOthersJoin(last)
	for {
		select {
		case item, open := <-queue:
			if !open {
				return nil, false
			}
			if !take(item) {
				return item, true
			}
		default:
			return nil, true
		}
	}
}

func (r *request) fail(err error) {
	r.err = err
	close(r.done)
}

// answer fetches the keys of all requests. They are sorted. It returns the error that the requests behind them have as
// well, or nil.
func (s *Store) answer(requests []*request, keys []string) (away error) {
	begun := time.Now()
	records, err := s.engine.Fetch(context.Background(), keys)
	s.health.note(err)
	if err == nil {
		for _, r := range records {
			s.cache.put(r)
		}
	}
	for _, r := range requests {
		r.err = err
		for _, key := range r.keys {
			if err == nil {
				i, _ := slices.BinarySearch(keys, key)
				r.records = append(r.records, records[i])
			}
		}
		close(r.done)
	}
	return failureOfAll(err, begun)
}
