package diagnose

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"keymill/cmd/keymill/internal/serve"
	"keymill/issuer"
	"keymill/issuer/outbox"
	"keymill/storage"
	"keymill/storage/audit"
)

const (
	recordsPerView = 1000
	maxDamaged     = 10 // that are named
)

// checkRecords reads every record: its tag, and its content as the package that writes it would. The
// records of keystore are checked by their tags here, and as a whole when the keys are opened.
func (d *Doctor) checkRecords(ctx context.Context) {
	var damaged []string
	read, count := 0, 0
	for start, more := "", true; more; {
		more = false
		err := d.records.View(ctx, func(r storage.Reader) error {
			n := 0
			for e, err := range r.Scan(start, "") {
				if err == nil {
					err = checkRecord(e.Key, e.Value)
				}
				switch {
				case err == nil:
				case !errors.Is(err, storage.ErrDamaged):
					return err
				default:
					if count++; len(damaged) < maxDamaged {
						damaged = append(damaged, e.Key)
					}
				}
				read++
				if n++; n == recordsPerView {
					start, more = e.Key+"\x00", true
					break
				}
			}
			return nil
		})
		if err != nil {
			d.findings.add("damage", "", err)
			return
		}
	}
	var err error
	if count > 0 {
		err = errors.New(serve.DamageWords(damaged, count))
	}
	d.findings.add("damage", fmt.Sprintf("%d records, each as it was written", read), err)
}

// checkRecord lets the package that writes a record check it.
func checkRecord(key string, value []byte) error {
	switch kind, _, _ := strings.Cut(key, "/"); kind {
	case "meta", "keyring", "manifest", "clock", "ring", "retired", "private", "tombstone":
		return nil
	case "issuer":
		return serve.CheckRecord(key, value)
	case "webhook":
		return outbox.CheckRecord(key, value)
	case "audit":
		return audit.CheckRecord(key, value)
	}
	return issuer.CheckRecord(key, value)
}
