package keystore

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/nodes"
	"keymill/storage/sealed"
)

// An endedStore fails as bbolt does after a failed sync.
type endedStore struct {
	storage.Store
	failed error
}

func (s *endedStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	if s.failed != nil {
		return s.failed
	}
	return s.Store.View(ctx, fn)
}

func (s *endedStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if s.failed != nil {
		return s.failed
	}
	return s.Store.Update(ctx, fn)
}

func (s *endedStore) Status() storage.Status { return storage.Status{Failed: s.failed} }

// TestRunEndsWithItsStoreAndLogsNothing: the process says why it ends, once, and several loops get the error.
func TestRunEndsWithItsStoreAndLogsNothing(t *testing.T) {
	failed := errors.New("outcome of the commit is unknown")
	for what, tt := range map[string]struct {
		end  func(t *testing.T, s *endedStore, older []byte)
		want func(error) bool
	}{
		"closed":        {func(_ *testing.T, s *endedStore, _ []byte) { s.Close() }, func(err error) bool { return errors.Is(err, storage.ErrClosed) }},
		"failed":        {func(_ *testing.T, s *endedStore, _ []byte) { s.failed = failed }, func(err error) bool { return errors.Is(err, failed) }},
		"an older copy": {func(t *testing.T, s *endedStore, older []byte) { rawPut(t, s, "keyring", older) }, isOlder},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &endedStore{Store: openStore(t, filepath.Join(t.TempDir(), "db"))}
				master, _ := NewMasterKey()
				var log bytes.Buffer
				cfg := trial(master)
				cfg.Algorithms = []string{EdDSA, ES256}
				create(t, s, cfg)
				older := rawGet(t, s, "keyring")
				restored, err := Open(t.Context(), s, cfg)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := restored.Renew(t.Context(), RenewRequest{By: "test"}); err != nil {
					t.Fatal(err)
				}
				cfg.RevokedFile = filepath.Join(t.TempDir(), "revoked")
				cfg.Nodes, cfg.Log = nodes.New(nodes.Config{ID: "a"}), slog.New(slog.NewTextHandler(&log, nil))
				r, err := Open(t.Context(), s, cfg)
				if err != nil {
					t.Fatal(err)
				}
				log.Reset()
				tt.end(t, s, older)
				signal(r.needReserve) // both rings lack a reserve
				r.WriteRevoked(t.Context())
				began := time.Now()
				if err := r.Run(t.Context()); !tt.want(err) || time.Since(began) > 10*time.Second {
					t.Errorf("Run returned %v after %v", err, time.Since(began))
				}
				if log.Len() > 0 {
					t.Errorf("logged\n%s", &log)
				}
			})
		})
	}
}

func isOlder(err error) bool {
	var life *sealed.LifeError
	return errors.As(err, &life) && life.Store < life.Own
}
