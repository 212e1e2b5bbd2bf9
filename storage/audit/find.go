package audit

import (
	"bytes"
	"context"
	"iter"
	"time"

	"keymill/storage"
)

const (
	// disorder is by how much the time of a record can be earlier than that of a record
	// before it in the chain: a decision whose commit takes long is chained after later ones.
	disorder = 5 * time.Second
	// maxSearched records are read at most after that. They take about 2 MiB.
	maxSearched = 4096
)

// Find returns the record of an action on a target whose decision was at that time or
// directly after it, and nil if it is not kept. It searches the chain by time, so the
// length of the chain hardly matters. The record has no Seq if it is not chained yet.
func Find(ctx context.Context, s storage.Store, at time.Time, action, target string) (*Record, error) {
	var found *Record
	at = at.UTC().Add(-disorder)
	err := s.View(ctx, func(r storage.Reader) error {
		last, err := lastSeq(r)
		if err != nil {
			return err
		}
		first, err := bisect(r, last, func(s timeSpan) bool { return s.n == 0 || !s.newest.Before(at) })
		if err != nil {
			return err
		}
		if found, err = search(scanLog(r, first, last), action, target); found != nil || err != nil {
			return err
		}
		found, err = search(r.Scan(newPrefix+at.Format(timeLayout), newEnd), action, target)
		return err
	})
	return found, err
}

func search(entries iter.Seq2[storage.Entry, error], action, target string) (*Record, error) {
	read := 0
	for e, err := range entries {
		if isFault(err) {
			return nil, err
		}
		if bytes.Contains(e.Value, []byte(target)) {
			if record := decode(e, err); record.Action == action && record.Target == target {
				return &record, nil
			}
		}
		if read++; read == maxSearched {
			break
		}
	}
	return nil, nil
}
