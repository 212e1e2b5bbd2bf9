package diagnose

import (
	"context"
	"errors"
	"strings"

	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer"
	"keymill/issuer/applied"
	"keymill/issuer/outbox"
	"keymill/issuer/verifiers"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/nodes"
)

const (
	recordsPerView = 1000
	maxDamaged     = 10 // that are named
)

// checkRecords reads every record: its tag, and its content as the package that writes it would. The
// records of keystore are checked by their tags here, and as a whole when the keys are opened. It reports
// whether all are whole.
func (d *Doctor) checkRecords(ctx context.Context) bool {
	var damaged []string
	read, count := 0, 0
	err := eachRecord(ctx, d.records, "", "", func() page {
		n := 0
		var found []string
		return page{func(_ storage.Reader, e storage.Entry, err error) error {
			n++
			if err == nil {
				err = checkRecord(e.Key, e.Value)
			}
			if !errors.Is(err, storage.ErrDamaged) {
				return err
			}
			found = append(found, e.Key)
			return nil
		}, func() {
			read, count = read+n, count+len(found)
			damaged = append(damaged, found[:min(len(found), maxDamaged-len(damaged))]...)
		}}
	})
	if err == nil && count > 0 {
		err = errors.New(serve.DamageWords(damaged, count))
	}
	return d.findings.add("damage", terminal.Count(read, "record")+", each as it was written", err)
}

// A page takes the records of one View. Each run of the View's function has its own, and only the done of the one that
// counts is called. damage is the error of a record that cannot be read.
type page struct {
	record func(r storage.Reader, e storage.Entry, damage error) error
	done   func()
}

// eachRecord passes the records from start on and before end, or all if both are "", to pages of 1,000.
func eachRecord(ctx context.Context, s storage.Store, start, end string, begin func() page) error {
	for more := true; more; {
		var next string
		var p page
		err := s.View(ctx, func(r storage.Reader) error {
			more, p = false, begin()
			n := 0
			for e, err := range r.Scan(start, end) {
				if err != nil && !errors.Is(err, storage.ErrDamaged) {
					return err
				}
				if err := p.record(r, e, err); err != nil {
					return err
				}
				if n++; n == recordsPerView {
					next, more = storage.After(e.Key), true
					break
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.done()
		start = next
	}
	return nil
}

// checkRecord lets the package that writes a record check it.
func checkRecord(key string, value []byte) error {
	switch kind, _, _ := strings.Cut(key, "/"); kind {
	case "meta", "keyring", "moved", "manifest", "clock", "ring", "retired", "private", "certificate", "tombstone":
		return nil
	case "issuer":
		return serve.CheckRecord(key, value)
	case "webhook":
		return outbox.CheckRecord(key, value)
	case "audit":
		return audit.CheckRecord(key, value)
	case "applied":
		return applied.CheckRecord(key, value)
	case "verifier", "served", "behind":
		return verifiers.CheckRecord(key, value)
	case "node", "lease":
		return nodes.CheckRecord(key, value)
	}
	return issuer.CheckRecord(key, value)
}
