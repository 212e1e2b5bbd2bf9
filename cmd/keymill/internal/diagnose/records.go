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
	err := eachRecord(ctx, d.records, "", "", func(_ storage.Reader, e storage.Entry, err error) error {
		read++
		if err == nil {
			err = checkRecord(e.Key, e.Value)
		}
		if !errors.Is(err, storage.ErrDamaged) {
			return err
		}
		if count++; len(damaged) < maxDamaged {
			damaged = append(damaged, e.Key)
		}
		return nil
	})
	if err == nil && count > 0 {
		err = errors.New(serve.DamageWords(damaged, count))
	}
	return d.findings.add("damage", terminal.Count(read, "record")+", each as it was written", err)
}

// eachRecord calls fn for the records from start on and before end, or all if both are "", 1,000 in one
// View. damage is the error of a record that cannot be read.
func eachRecord(ctx context.Context, s storage.Store, start, end string, fn func(r storage.Reader, e storage.Entry, damage error) error) error {
	for more := true; more; {
		more = false
		err := s.View(ctx, func(r storage.Reader) error {
			n := 0
			for e, err := range r.Scan(start, end) {
				if err != nil && !errors.Is(err, storage.ErrDamaged) {
					return err
				}
				if err := fn(r, e, err); err != nil {
					return err
				}
				if n++; n == recordsPerView {
					start, more = e.Key+"\x00", true
					break
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkRecord lets the package that writes a record check it.
func checkRecord(key string, value []byte) error {
	switch kind, _, _ := strings.Cut(key, "/"); kind {
	case "meta", "keyring", "manifest", "clock", "ring", "retired", "private", "certificate", "tombstone":
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
