package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"keymill/storage"
)

func aCancelledContextIsRefused(t *testing.T, s storage.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "update", s.Update(ctx, func(tx storage.Tx) error {
		return tx.Put("a", nil)
	}), context.Canceled)
	wantErr(t, "view", s.View(ctx, func(storage.Reader) error { return nil }), context.Canceled)
	want(t, s, "")
}

func keysAndValuesHaveLimits(t *testing.T, s storage.Store) {
	longest := strings.Repeat("k", storage.MaxKeyBytes)
	largest := make([]byte, storage.MaxValueBytes)
	for _, key := range []string{" ", "~", longest} {
		update(t, s, func(t *run, tx storage.Tx) error { return tx.Put(key, largest) })
		view(t, s, func(t *run, r storage.Reader) error {
			v, err := r.Get(key)
			if len(v) != len(largest) {
				t.Errorf("%q: got %d bytes, %v", key, len(v), err)
			}
			return nil
		})
	}
	for _, key := range []string{"", longest + "k", "tab\t", "line\n", "\x00", "\x7f", "é", "\xff"} {
		wantErr(t, "put", s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, nil) }), storage.ErrLimit)
		wantErr(t, "delete", s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(key) }), storage.ErrLimit)
		get := func(r storage.Reader) error {
			_, err := r.Get(key)
			return err
		}
		wantErr(t, "get in a view", s.View(t.Context(), get), storage.ErrLimit)
		wantErr(t, "get in an update", s.Update(t.Context(), func(tx storage.Tx) error { return get(tx) }), storage.ErrLimit)
	}
	wantErr(t, "a value too large", s.Update(t.Context(), func(tx storage.Tx) error {
		return tx.Put("a", make([]byte, storage.MaxValueBytes+storage.MaxTagBytes+1))
	}), storage.ErrLimit)
}

// anUpdateHasLimits does in each row as much as an Update may do, which succeeds, and then
// one step more, which fails.
func anUpdateHasLimits(t *testing.T, s storage.Store) {
	value := make([]byte, storage.MaxValueBytes-3) // with a key of three bytes a whole 64 KiB
	for i := range 2 * storage.MaxUpdateKeys {
		put(t, s, key(i), "")
	}
	for i := 200; i < 209; i++ {
		update(t, s, func(t *run, tx storage.Tx) error { return tx.Put(key(i), value) })
	}
	for _, tt := range []struct {
		name string
		max  int
		step func(tx storage.Tx, i int) error
	}{
		{"keys written", storage.MaxUpdateKeys, func(tx storage.Tx, i int) error { return tx.Put(key(i), nil) }},
		{"keys deleted", storage.MaxUpdateKeys, func(tx storage.Tx, i int) error { return tx.Delete(key(300 + i)) }},
		{"keys read", storage.MaxUpdateKeys, func(tx storage.Tx, i int) error { _, err := tx.Get(key(i)); return err }},
		{"absent keys read", storage.MaxUpdateKeys, func(tx storage.Tx, i int) error { _, err := tx.GetAll(key(400 + i)); return err }},
		{"keys scanned", storage.MaxUpdateKeys, func(tx storage.Tx, i int) error { _, err := list(tx, key(i), key(i+1)); return err }},
		{"bytes written", storage.MaxUpdateBytes / storage.MaxValueBytes, func(tx storage.Tx, i int) error { return tx.Put(key(500+i), value) }},
		{"bytes read", storage.MaxUpdateBytes / storage.MaxValueBytes, func(tx storage.Tx, i int) error { _, err := tx.Get(key(200 + i)); return err }},
		{"bytes scanned", storage.MaxUpdateBytes / storage.MaxValueBytes, func(tx storage.Tx, i int) error { _, err := list(tx, key(200+i), key(201+i)); return err }},
	} {
		steps := func(n int) error {
			return s.Update(t.Context(), func(tx storage.Tx) error {
				for i := range n {
					if err := tt.step(tx, i); err != nil {
						return fmt.Errorf("step %d: %w", i, err)
					}
				}
				return tt.step(tx, 0) // a key that was touched before is not counted again
			})
		}
		if tt.name != "bytes written" { // each write of a key counts its bytes
			wantErr(t, tt.name, steps(tt.max), nil)
		}
		wantErr(t, tt.name+", one more", steps(tt.max+1), storage.ErrLimit)
	}
}

// aScanEndsAfterAnError that is not of one record, also if the loop would continue.
func aScanEndsAfterAnError(t *testing.T, s storage.Store) {
	for half := range 2 { // one Update cannot write more records than one may scan
		update(t, s, func(t *run, tx storage.Tx) error {
			var err error
			for i := range storage.MaxUpdateKeys/2 + 5 {
				err = errors.Join(err, tx.Put(key(half*storage.MaxUpdateKeys+i), nil))
			}
			return err
		})
	}
	err := tryUpdate(t, s, func(t *run, tx storage.Tx) error {
		records, failures := 0, 0
		for e, err := range tx.Scan("", "~") {
			switch {
			case err == nil && failures == 0:
				records++
			case failures > 0 || !errors.Is(err, storage.ErrLimit) || e.Value != nil:
				t.Errorf("after %d records the scan yields %q, %v", records, e.Key, err)
				failures++
			default:
				failures++
			}
		}
		if records != storage.MaxUpdateKeys || failures != 1 {
			t.Errorf("%d records and %d errors", records, failures)
		}
		return nil
	})
	wantErr(t, "update", err, storage.ErrLimit)
}

func key(i int) string { return fmt.Sprintf("%03d", i) }

func anIgnoredLimitWritesNothing(t *testing.T, s storage.Store) {
	for name, overstep := range map[string]func(tx storage.Tx) error{
		"key": func(tx storage.Tx) error { return tx.Put("bad\n", nil) },
		"value": func(tx storage.Tx) error {
			return tx.Put("a", make([]byte, storage.MaxValueBytes+storage.MaxTagBytes+1))
		},
		"update": func(tx storage.Tx) error {
			var err error
			for i := range storage.MaxUpdateKeys {
				err = errors.Join(err, tx.Put(key(i), nil))
			}
			return err
		},
	} {
		err := tryUpdate(t, s, func(t *run, tx storage.Tx) error {
			if err := tx.Put("first", nil); err != nil {
				return err
			}
			wantErr(t, name, overstep(tx), storage.ErrLimit)
			return nil // as if there had been no error
		})
		wantErr(t, name, err, storage.ErrLimit)
	}
	want(t, s, "")
}
