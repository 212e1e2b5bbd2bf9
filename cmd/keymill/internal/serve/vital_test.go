package serve

import (
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"keymill/issuer"
	"keymill/storage"
)

// TestOnlyDamageOfAVitalRecordMakesTheServerUnready, from the first read that notices it until a read
// that finds the record whole. A damaged record of another kind does not do so.
//
// I23.
func TestOnlyDamageOfAVitalRecordMakesTheServerUnready(t *testing.T) {
	t.Parallel()
	s := &server{create: true, config: devConfig(t, filepath.Join(t.TempDir(), "data")), log: slog.New(slog.DiscardHandler)}
	s.queue = newLogQueue(io.Discard, func(int64) []byte { return nil })
	defer func() { s.close(); s.queue.Close() }()
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Update(t.Context(), func(tx storage.Tx) error { return issuer.EndAllSessions(tx, s.rings.Now()) }); err != nil {
		t.Fatal(err) // makes the epoch
	}
	records := map[string]string{} // kind → the first key
	err := s.file.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "\x7f") {
			if err != nil {
				return err
			}
			kind := e.Key[:strings.Index(e.Key, "/")+1]
			if kind == "" {
				kind = e.Key
			}
			if records[kind] == "" {
				records[kind] = e.Key
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	vital := map[string]bool{"manifest": true, "manifest/": true, "ring/": true, "refresh/": true, "clock": true, "epoch": true}
	for kind, key := range records {
		if kind == "meta" || kind == "keyring" {
			continue // read at the start only
		}
		s.damageAndCheck(t, key, vital[kind])
		delete(vital, kind)
	}
	if len(vital) > 0 || len(records) < 12 {
		t.Errorf("%d kinds of records, without %v", len(records), vital)
	}
	// A reload of the keys reads the whole manifest.
	key := records["manifest/"]
	if err := s.file.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(key) }); err != nil {
		t.Fatal(err)
	}
	if err := s.rings.Reload(t.Context()); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("a reload without %s: %v", key, err)
	}
	if err := s.storeFault(); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("%s is missing: %v", key, err)
	}
}

// damageAndCheck changes a record and reads it, and puts it back and reads it again.
func (s *server) damageAndCheck(t *testing.T, key string, vital bool) {
	t.Helper()
	var whole []byte
	put := func(value []byte) {
		t.Helper()
		if err := s.file.Update(t.Context(), func(tx storage.Tx) (err error) {
			if whole == nil {
				whole, err = tx.Get(key)
			}
			if value == nil {
				value = append([]byte{whole[0] ^ 1}, whole[1:]...)
			}
			return errors.Join(err, tx.Put(key, value))
		}); err != nil {
			t.Fatal(err)
		}
	}
	read := func() error {
		return s.store.View(t.Context(), func(r storage.Reader) error { _, err := r.Get(key); return err })
	}
	put(nil)
	if err := read(); !errors.Is(err, storage.ErrForged) {
		t.Errorf("%s: the read of a changed record gives %v", key, err)
	}
	if err := s.storeFault(); (err != nil) != vital || vital && !strings.Contains(err.Error(), key) {
		t.Errorf("%s is damaged: %v", key, err)
	}
	put(whole)
	if err := read(); err != nil {
		t.Errorf("%s was put back: %v", key, err)
	}
	if err := s.storeFault(); err != nil {
		t.Errorf("%s was put back: %v", key, err)
	}
}
