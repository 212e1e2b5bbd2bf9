package issuer

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/claim"
	"keymill/issuer/due"
	"keymill/issuer/record"
	"keymill/issuer/sessionlist"
	"keymill/storage"
)

// A repeating store runs each Update twice, as a store may, and tells whether a transaction is open.
type repeating struct {
	storage.Store
	open bool
}

var errAgain = errors.New("again")

func (s *repeating) View(ctx context.Context, fn func(storage.Reader) error) error {
	s.open = true
	defer func() { s.open = false }()
	return s.Store.View(ctx, fn)
}

func (s *repeating) Update(ctx context.Context, fn func(storage.Tx) error) error {
	s.open = true
	defer func() { s.open = false }()
	if err := s.Store.Update(ctx, func(tx storage.Tx) error { return errors.Join(fn(tx), errAgain) }); !errors.Is(err, errAgain) {
		return err
	}
	return s.Store.Update(ctx, fn)
}

// TestDamageIsReportedOnceAfterTheTransaction, although an Update runs twice: a log line takes time, and a
// transaction must not wait for it.
func TestDamageIsReportedOnceAfterTheTransaction(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t)
	w.web()
	w.service("billing", "stock", "count")
	w.user("alice", "7")
	w.user("bob", "8")
	w.begin("7")
	id, _ := record.ParseID(w.begin("7").grant.Session)
	for _, tt := range []struct {
		what string
		key  func(w *world, session familyID) string
		read func(w *world) error
	}{
		{"users", func(*world, familyID) string { return "user/8" }, func(w *world) error {
			list, err := w.Users(ctx, "", 10)
			return wantLength(err, len(list), 1)
		}},
		{"clients", func(*world, familyID) string { return "client/billing" }, func(w *world) error {
			list, err := w.Clients(ctx, "", 10)
			return wantLength(err, len(list), 1)
		}},
		{"audiences", func(*world, familyID) string { return "audience/stock" }, func(w *world) error {
			list, err := w.Audiences(ctx, "", 10)
			return wantLength(err, len(list), 1)
		}},
		{"the newest sessions", func(_ *world, s familyID) string { return familyKey(s) }, func(w *world) error {
			page, err := w.Sessions(ctx, SessionQuery{Limit: 10})
			return wantLength(err, len(page.Sessions), 1)
		}},
		{"a user's sessions", func(_ *world, s familyID) string { return familyKey(s) }, func(w *world) error {
			page, err := w.Sessions(ctx, SessionQuery{User: "alice", Limit: 10})
			return wantLength(err, len(page.Sessions), 1)
		}},
		{"a user's lists", func(*world, familyID) string { return sessionlist.Key("7", "web") }, func(w *world) error {
			page, err := w.Sessions(ctx, SessionQuery{User: "alice", Limit: 10})
			return wantLength(err, len(page.Sessions), 0)
		}},
		{"a login that deletes what has ended", func(w *world, s familyID) string {
			list := sessionlist.List{Ended: []familyID{s}}
			for range sessionlist.MaxEnded {
				list.Ended = append(list.Ended, record.NewID(time.Now()))
			}
			w.put(func(tx storage.Tx) error { return list.Put(tx, "7", "web") })
			return familyKey(s)
		}, func(w *world) error {
			_, err := w.StartSession(ctx, SessionRequest{User: "7", Client: "web", Endpoint: LoginBrowser, From: home})
			return err
		}},
		{"the clean-up of an entry", func(w *world, _ familyID) string {
			key := due.Key(w.keys.ErasureTime().Add(-time.Hour), due.Token, claim.NewTokenID())
			w.put(func(tx storage.Tx) error { return tx.Put(key, record.Present()) })
			return key
		}, func(w *world) error { return w.sweep(ctx) }},
		{"the clean-up of a record", func(w *world, _ familyID) string {
			jti := claim.NewTokenID()
			w.put(func(tx storage.Tx) error {
				return errors.Join(tx.Put(accesstoken.DeniedKey(jti), record.Present()),
					tx.Put(due.Key(w.keys.ErasureTime().Add(-time.Hour), due.Token, jti), record.Present()))
			})
			return accesstoken.DeniedKey(jti)
		}, func(w *world) error { return w.sweep(ctx) }},
	} {
		key := tt.key(w, id)
		whole := w.all()[key]
		broken := bytes.Clone(whole)
		broken[len(broken)-1] ^= 1
		w.putBelow(key, broken)
		store := &repeating{Store: w.store}
		w.Issuer.store = store
		var reported []string
		w.damaged = func(err error) {
			if store.open {
				t.Errorf("%s: reported within a transaction", tt.what)
			}
			if d := (*storage.DamageError)(nil); errors.As(err, &d) {
				reported = append(reported, d.Key)
			}
		}
		if err := tt.read(w); err != nil || !slices.Equal(reported, []string{key}) {
			t.Errorf("%s: %v, reported %q", tt.what, err, reported)
		}
		w.Issuer.store = store.Store
		w.putBelow(key, whole)
	}
}

func wantLength(err error, got, want int) error {
	if err == nil && got != want {
		return errors.New("the list has another length")
	}
	return err
}

func (w *world) put(fn func(tx storage.Tx) error) {
	w.t.Helper()
	if err := w.store.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}
