package nodelist

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/nodes"
	"keymill/storage/storagetest"
)

const poll = 5 * time.Second

// TestTheListHasWhatAnOperatorAsks of two nodes and their leases, on a store that runs functions again too.
func TestTheListHasWhatAnOperatorAsks(t *testing.T) {
	for what, wrap := range map[string]func(storage.Store) storage.Store{
		"bbolt": func(s storage.Store) storage.Store { return s }, "rerunning": storagetest.Rerunning,
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testList(t, wrap) })
		})
	}
}

func testList(t *testing.T, wrap func(storage.Store) storage.Store) {
	file, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s, ctx := wrap(file), t.Context()
	a := nodes.New(nodes.Config{ID: "a", Poll: poll})
	b := nodes.New(nodes.Config{ID: "b", Poll: poll, Wall: func() time.Time { return time.Now().Add(-time.Minute) }})
	for range 5 {
		for n, r := range []*nodes.Registry{a, b} {
			facts := nodes.Facts{Host: "host-" + r.ID(), Version: "1.2.3", Keys: uint64(17 + n), Generation: 2, Algorithms: []string{"RS256"}}
			if err := errors.Join(
				s.Update(ctx, func(tx storage.Tx) error { return r.Put(tx, facts) }),
				file.View(ctx, func(rd storage.Reader) error { _, err := r.Read(rd); return err }),
			); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(poll)
	}
	if held, err := b.Hold(ctx, s, "webhook"); !held || err != nil {
		t.Fatal(held, err)
	}
	got, err := Read(ctx, a, s)
	if err != nil || !got.Shared || got.Node != "a" || len(got.Nodes) != 2 || len(got.Leases) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if n := got.Nodes[1]; n.ID != "b" || n.Host != "host-b" || n.Version != "1.2.3" || !n.Live || n.Keys != 18 || n.Generation != 2 ||
		len(n.Algorithms) != 1 || n.Beat.Before(n.Started) || n.Beat.Nanosecond() != 0 {
		t.Errorf("%+v", n)
	}
	if d, err := time.ParseDuration(got.Nodes[1].ClockOffset); err != nil || (d+time.Minute).Abs() > 2*poll || got.Nodes[0].ClockOffset != "0s" {
		t.Errorf("offsets %q and %q, %v", got.Nodes[0].ClockOffset, got.Nodes[1].ClockOffset, err)
	}
	if l := got.Leases[0]; l.Name != "webhook" || l.Node != "b" || !l.Until.After(got.Nodes[1].Beat) {
		t.Errorf("%+v", l)
	}
}

// TestAServerThatHasItsStoreAloneReadsNothing: it answers also while the store does not.
func TestAServerThatHasItsStoreAloneReadsNothing(t *testing.T) {
	got, err := Read(t.Context(), nil, away{})
	if err != nil || got.Shared || got.Node != "" || got.Nodes == nil || len(got.Nodes) != 0 || got.Leases == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Read(t.Context(), nodes.New(nodes.Config{}), away{}); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("a store that is away: %v", err)
	}
}

type away struct{ storage.Store }

func (away) View(context.Context, func(storage.Reader) error) error { return storage.ErrUnavailable }
