package verifiers

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/nodes"
)

// beside returns a world of another server on the store of w.
func (w *world) beside(id string) *world {
	w.t.Helper()
	cfg := testKeys
	cfg.Master, cfg.Nodes, cfg.RotateEvery = w.keysOf.Master, nodes.New(nodes.Config{ID: id}), 3*time.Hour
	other := &world{t: w.t, file: w.file, keysOf: cfg, log: slog.DiscardHandler}
	other.openKeys()
	other.open()
	return other
}

// runKeys runs the keys of a world too, so that it knows what the others do.
func (w *world) runAll() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.keys.Run(ctx) }()
	end := w.run()
	w.t.Cleanup(func() { end(); cancel(); <-done })
}

// TestWhatAnotherServerServedCounts: for a rotation, after a removal, and once in warnings.
func TestWhatAnotherServerServedCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newWorld(t)
		a, b := first.beside("a"), first.beside("b")
		a.runAll()
		b.runAll()
		time.Sleep(90 * time.Minute)
		v := a.add("orders-api")
		if _, err := b.Add(t.Context(), api.NewVerifier{Name: "orders-api"}, "uid:0"); err == nil || !strings.Contains(err.Error(), "already exists") {
			t.Errorf("the name is used on another server: %v", err)
		}
		b.add("billing")
		time.Sleep(6 * time.Second)
		if !b.ServedPinned(v.Credential, b.without(b.spare())) {
			t.Fatal("a credential of another server is unknown after p")
		}
		time.Sleep(12 * time.Second)
		if err := a.CheckServed(a.spare()); err == nil || !strings.Contains(err.Error(), "orders-api") {
			t.Errorf("it was served without the spare by another server: %v", err)
		}
		b.ServedPinned(v.Credential, b.set())
		time.Sleep(6 * time.Second)
		if err := a.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := a.CheckServed(a.spare()); err != nil {
			t.Errorf("it was served the spare by another server: %v", err)
		}
		if err := a.Remove(t.Context(), "orders-api", "uid:0"); err != nil {
			t.Fatal(err)
		}
		b.ServedPinned(v.Credential, b.without(b.spare())) // before b knows
		time.Sleep(12 * time.Second)
		if b.ServedPinned(v.Credential, b.set()) {
			t.Error("a removed verifier is known on the other server")
		}
		if err := a.file.View(t.Context(), func(rd storage.Reader) error { _, err := rd.Get(servedKey("orders-api")); return err }); err == nil {
			t.Error("the record of a removed verifier is back")
		}
		if names := fmt.Sprintln(a.List("", 9)[0].Name, len(a.List("", 9)), len(b.List("", 9))); names != "billing 1 1\n" {
			t.Error(names)
		}
	})
}

// TestOneServerWarnsOfASpare that a verifier lacks, although all of them see it.
func TestOneServerWarnsOfASpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newWorld(t)
		a, b := first.beside("a"), first.beside("b")
		a.runAll()
		b.runAll()
		time.Sleep(time.Minute)
		v := a.add("orders-api")
		old := a.without(a.spare())
		var sign time.Time
		for _, k := range a.spares() {
			sign = k.Sign
		}
		time.Sleep(time.Until(sign.Add(-10 * time.Minute)))
		for range 9 {
			a.ServedPinned(v.Credential, old)
			time.Sleep(time.Minute)
		}
		if _, err := audit.Chain(t.Context(), a.store); err != nil {
			t.Fatal(err)
		}
		page, err := audit.Read(t.Context(), a.store, audit.Query{Limit: 1000})
		warnings := 0
		for _, rec := range page.Records {
			if rec.Action == "verifier.behind" {
				warnings++
			}
		}
		if err != nil || warnings != 1 {
			t.Errorf("%d warnings, %v", warnings, err)
		}
	})
}
