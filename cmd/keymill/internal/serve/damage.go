package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"keymill/issuer/api"
	"keymill/storage"
)

const (
	maxDamaged      = 1000 // records that are remembered, and lines that name one
	maxNamedDamaged = 10   // in one warning
	damageEvery     = 5 * time.Second
)

// A damageReport remembers which records were found damaged. It logs each of them once.
type damageReport struct {
	log *slog.Logger
	now func() []*storage.DamageError // those that the sealed store knows of

	mu   sync.Mutex
	keys map[string]bool // those that were logged; owned by mu
}

// add notes the damaged records that err names.
func (d *damageReport) add(err error) { d.addOf(context.Background(), err) }

// addOf notes the damaged records that err names, the error of the request with the context ctx.
func (d *damageReport) addOf(ctx context.Context, err error) {
	if err == nil || !errors.Is(err, storage.ErrDamaged) {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			d.addOf(ctx, err)
		}
		return
	}
	if named := (*storage.DamageError)(nil); errors.As(err, &named) {
		d.note(ctx, named)
	}
}

func (d *damageReport) note(ctx context.Context, e *storage.DamageError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keys[e.Key] || len(d.keys) >= maxDamaged {
		return
	}
	if d.keys == nil {
		d.keys = map[string]bool{}
	}
	d.keys[e.Key] = true
	d.log.ErrorContext(ctx, "a record of the store is damaged; requests that need it get 503", "record", storage.KeyText(e.Key), "why", e.Err.Error())
	if len(d.keys) == maxDamaged {
		d.log.ErrorContext(ctx, "further damaged records are not logged; stop the server and run keymill doctor", "records", maxDamaged)
	}
}

// run notes damaged records that only background work has read. It returns nil when ctx ends.
func (d *damageReport) run(ctx context.Context) error {
	tick := time.NewTicker(damageEvery)
	defer tick.Stop()
	for {
		d.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (d *damageReport) look() {
	for _, e := range d.now() {
		d.note(context.Background(), e)
	}
}

// warnings has one that counts and names the records, or none.
func (d *damageReport) warnings() []api.Warning {
	d.look()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.keys) == 0 {
		return nil
	}
	return []api.Warning{{Check: "records", Detail: DamageWords(slices.Sorted(maps.Keys(d.keys)), len(d.keys))}}
}

// DamageWords says how many records are damaged, with the names of the first ten.
func DamageWords(keys []string, count int) string {
	var texts []string
	for _, key := range keys[:min(len(keys), maxNamedDamaged)] {
		texts = append(texts, storage.KeyText(key))
	}
	names := strings.Join(texts, ", ")
	if count > maxNamedDamaged {
		names += ", …"
	}
	return fmt.Sprintf("damaged records: %d (%s); requests that need one get 503; stop the server and restore a backup as a whole", count, names)
}
