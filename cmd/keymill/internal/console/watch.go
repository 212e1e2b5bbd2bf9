package console

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/storage/audit"
)

// A watch follows the audit records of one kind, so that a page need not search the log for them: a search
// reads 10,000 records in about 200 ms. It reads in the background, and rests four times as long as it reads.
type watch struct {
	action string          // the first part of an action
	keep   map[string]bool // the actions that are kept

	mu      sync.Mutex // guards the fields below
	records []audit.Record
	from    audit.Cursor
	caught  bool // all records until now were read
}

const (
	watchEvery = 5 * time.Second
	maxKept    = 5000 // records of one watch; the oldest are forgotten

	// refusedRest is how long a watch rests after the server has refused it. The server counts tokens that are not valid, and
	// refuses all programs of an address after 100 within 15 minutes.
	refusedRest = time.Minute
)

// replayTime is how far back the overview counts, and revokedTime how far back revoked keys are shown.
const (
	replayTime  = 24 * time.Hour
	revokedTime = 60 * 24 * time.Hour
)

// newWatches returns a watch for refresh tokens that were used again, and one for keys.
func newWatches() (replays, keys *watch) {
	replays = &watch{action: "session", keep: map[string]bool{"session.replay": true, "session.late_retry": true, "session.rolled_back": true, "session.shared": true}}
	keys = &watch{action: "key", keep: map[string]bool{"key.publish": true, "key.sign": true, "key.stop": true, "key.revoke": true}}
	return replays, keys
}

// follow reads until ctx ends.
func (w *watch) follow(ctx context.Context, source func(context.Context, audit.Query) (audit.Page, error), back time.Duration) {
	for ctx.Err() == nil {
		began := time.Now()
		rest := watchEvery
		more, err := w.read(ctx, source, began.Add(-back))
		switch {
		case errors.As(err, new(*adminapi.Error)):
			rest = refusedRest
		case err == nil && more:
			rest = 4 * time.Since(began)
		}
		select {
		case <-ctx.Done():
		case <-time.After(rest):
		}
	}
}

// read reads the next records, and reports whether there can be more.
func (w *watch) read(ctx context.Context, source func(context.Context, audit.Query) (audit.Page, error), since time.Time) (more bool, err error) {
	p, err := source(ctx, audit.Query{Filter: audit.Filter{Action: w.action, Since: since}, Forward: true, From: w.from, Limit: 1000})
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.from.Seq, w.caught = p.Next.Seq, !p.More
	for _, r := range p.Records {
		if r.Seq > 0 && w.keep[r.Action] { // one that waits comes again with its number
			w.records = append(w.records, r)
		}
	}
	if len(w.records) > maxKept {
		w.records = slices.Clone(w.records[len(w.records)-maxKept:])
	}
	return p.More, nil
}

// since returns the records since a time, oldest first, and whether these are all.
func (w *watch) since(t time.Time) (list []audit.Record, all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.records {
		if !r.Time.Before(t) {
			list = append(list, r)
		}
	}
	return list, w.caught && len(w.records) < maxKept
}

// watch reads in the background until ctx ends.
func (s *site) watch(ctx context.Context) {
	go s.watchedReplays.follow(ctx, s.server.Audit, replayTime)
	go s.watchedKeys.follow(ctx, s.server.Audit, revokedTime)
}
