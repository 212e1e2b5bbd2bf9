package migrate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"keymill/storage"
	"keymill/storage/moved"
)

// patience is how long one answer of a server may take. It is longer than any request takes at a server that runs. A server
// that is stopped accepts connections and answers none.
const patience = 30 * time.Second

// errSilent means that a server has not answered for as long as patience lasts.
var errSilent = errors.New("its server has not answered")

// saying returns a source that says what it waits for.
func (m *migration) saying(s *source) *source {
	return &source{
		look: func(ctx context.Context) (facts, error) {
			w := m.wait()
			defer w.end()
			return s.look(ctx)
		},
		step: func(ctx context.Context, q moved.Request) error {
			w := m.wait()
			defer w.end()
			return s.step(ctx, q)
		},
		records: func(ctx context.Context) iter.Seq2[storage.Entry, error] {
			return func(yield func(storage.Entry, error) bool) {
				w := m.wait()
				defer w.end()
				for e, err := range s.records(ctx) {
					w.end()
					if !yield(e, err) {
						return
					}
					w.begin()
				}
			}
		},
		close: s.close,
	}
}

// A wait says that something takes long.
type wait struct {
	after time.Duration // of waiting it is said
	say   func(time.Duration)
	timer *time.Timer

	mu    sync.Mutex
	begun time.Time // zero if nothing is waited for
}

// wait begins to wait for the source.
func (m *migration) wait() *wait {
	w := &wait{after: m.patience / 10, say: func(long time.Duration) {
		m.progress.Note(fmt.Sprintf("waiting for %s, which has not answered for %s", m.fromAddr, long.Round(time.Second)))
	}}
	w.timer = time.AfterFunc(w.after, w.tell)
	w.begin()
	return w
}

func (w *wait) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = time.Now()
	w.timer.Reset(w.after)
}

func (w *wait) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = time.Time{}
	w.timer.Stop()
}

func (w *wait) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun.IsZero() {
		w.say(time.Since(w.begun))
		w.timer.Reset(3 * w.after)
	}
}
