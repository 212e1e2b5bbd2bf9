package sealed

import (
	"errors"
	"testing"

	"keymill/storage"
)

// TestARehearsalWritesNothing, and an error of its function is returned as ever.
func TestARehearsalWritesNothing(t *testing.T) {
	t.Parallel()
	_, s := create(t, "client/a", "1", "client/b", "2")
	ctx := storage.Rehearsal(t.Context())
	err := s.Update(ctx, func(tx storage.Tx) error {
		if err := errors.Join(tx.Put("client/a", []byte("3")), tx.Put("client/c", []byte("4")), tx.Delete("client/b")); err != nil {
			return err
		}
		if v, err := tx.Get("client/a"); err != nil || string(v) != "3" {
			t.Errorf("within the transaction: %q, %v", v, err)
		}
		return nil
	})
	if !errors.Is(err, storage.ErrRehearsed) {
		t.Errorf("got %v", err)
	}
	refused := errors.New("refused")
	if err := s.Update(ctx, func(storage.Tx) error { return refused }); err != refused {
		t.Errorf("got %v, want the error of the function", err)
	}
	var got []string
	err = s.View(t.Context(), func(r storage.Reader) error {
		got = nil
		for e, err := range r.Scan("client/", storage.EndOf("client/")) {
			if err != nil {
				return err
			}
			got = append(got, e.Key+" "+string(e.Value))
		}
		return nil
	})
	if err != nil || len(got) != 2 || got[0] != "client/a 1" || got[1] != "client/b 2" {
		t.Errorf("the store has %q, %v", got, err)
	}
}
