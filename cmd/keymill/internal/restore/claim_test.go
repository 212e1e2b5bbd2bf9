package restore

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// TestTwoRestoresIntoOneDatabaseDoNotMix: the one that begins last has it, and the one before is refused in one line, whenever it
// goes on.
func TestTwoRestoresIntoOneDatabaseDoNotMix(t *testing.T) {
	w := newWorld(t)
	for _, at := range []string{"before it is filled", "before it is a store", "after the other one has ended"} {
		database := postgrestest.Shared(t).Database(t)
		into := func(step func(string) error) Options {
			o, c := w.options(step), *w.config
			c.Data, c.Store = filepath.Join(t.TempDir(), "data"), database
			o.Config = &c
			return o
		}
		filled, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
		second := func() {
			go func() {
				_, err := Restore(t.Context(), into(func(step string) error {
					if step == "identify" {
						close(filled)
						<-goOn
					}
					return nil
				}))
				ended <- err
			}()
			<-filled
		}
		_, err := Restore(t.Context(), into(func(step string) error {
			switch {
			case step == "fill" && at == "before it is filled", step == "identify" && at == "before it is a store":
				second()
			case step == "identify" && at == "after the other one has ended":
				second()
				close(goOn)
				if err := <-ended; err != nil {
					t.Fatalf("%s: the second restore: %v", at, err)
				}
			}
			return nil
		}))
		switch at {
		case "before it is filled": // this one is the last that begins
			if err != nil {
				t.Fatalf("%s: the first restore: %v", at, err)
			}
			close(goOn)
			if err = <-ended; !errors.Is(err, openstore.ErrIdentified) {
				t.Errorf("%s: %v", at, err)
			}
		case "before it is a store":
			if !errors.Is(err, errClaimed) || !strings.Contains(err.Error(), database) || terminal.HintOf(err) == "" {
				t.Errorf("%s: %v", at, err)
			}
			close(goOn)
			if err := <-ended; err != nil {
				t.Fatalf("%s: the second restore: %v", at, err)
			}
		default:
			if !errors.Is(err, openstore.ErrIdentified) {
				t.Errorf("%s: %v", at, err)
			}
		}
		c := *w.config
		c.Store = database
		s, err := openstore.OpenReadOnly(t.Context(), &c)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.View(t.Context(), func(r storage.Reader) error {
			if _, err := storage.ReadMeta(r); err != nil {
				return err
			}
			if _, err := r.Get(claimRecord); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("%s: the claim is still there: %v", at, err)
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		s.Close()
	}
}

// TestAnUnansweredCommitIsNoOtherRestore: the store may be that of this run, so the error does not name another one.
func TestAnUnansweredCommitIsNoOtherRestore(t *testing.T) {
	s, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	own := newClaim()
	if err := own.take(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := identify(t.Context(), s, own, nil); err != nil { // without an identity, as if another run had removed the claim
		t.Fatal(err)
	}
	if err := own.explain(t.Context(), s, "the database", storage.ErrUnknownOutcome); !errors.Is(err, errClaimed) {
		t.Errorf("after another run: %v", err)
	}
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return storage.PutMeta(tx, storage.NewMeta(time.Now(), false)) }); err != nil {
		t.Fatal(err)
	}
	if err := own.explain(t.Context(), s, "the database", storage.ErrUnknownOutcome); !errors.Is(err, storage.ErrUnknownOutcome) || errors.Is(err, errClaimed) {
		t.Errorf("after this run: %v", err)
	}
}
