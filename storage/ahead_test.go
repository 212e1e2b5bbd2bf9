package storage_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"keymill/storage"
	"keymill/storage/storagetest"
)

// An impatient store runs each function, works ahead, and then runs the function again, as a store on the network does
// when a record has changed.
type impatient struct {
	storage.Store
	between func()
}

func (s impatient) View(ctx context.Context, fn func(storage.Reader) error) error {
	s.Store.View(ctx, fn)
	storage.WorkAhead(ctx)
	storage.WorkAhead(ctx) // nothing is left to do
	s.between()
	return s.Store.View(ctx, fn)
}

// TestWhatFollowsAViewIsOfTheRunThatCounts, whether the store works ahead or not.
func TestWhatFollowsAViewIsOfTheRunThatCounts(t *testing.T) {
	base := openBase(t)
	put(t, base, "a", "old")
	change := func() { put(t, base, "a", "new") }
	for name, tt := range map[string]struct {
		store storage.Store
		want  []string // what next saw
	}{
		"patient":   {base, []string{"new"}},
		"rerunning": {storagetest.Rerunning(base), []string{"new", "new"}},
		"impatient": {impatient{base, change}, []string{"old", "new"}},
	} {
		if change(); name == "impatient" {
			put(t, base, "a", "old")
		}
		var read string
		var seen []string
		err := storage.ViewThen(t.Context(), tt.store, func(r storage.Reader) error {
			v, err := r.Get("a")
			read = string(v)
			return err
		}, func() { seen = append(seen, read) })
		if err != nil || !slices.Equal(seen, tt.want) {
			t.Errorf("%s: what follows has seen %q, %v, want %q", name, seen, err, tt.want)
		}
	}
}

// TestNothingFollowsAViewThatFails, and a panic counts only after the run that does.
func TestNothingFollowsAViewThatFails(t *testing.T) {
	base := openBase(t)
	refused, runs := errors.New("refused"), 0
	if err := storage.ViewThen(t.Context(), base, func(storage.Reader) error { return refused }, func() { runs++ }); err != refused || runs != 0 {
		t.Errorf("the View returned %v, and %d runs followed", err, runs)
	}
	s := impatient{base, func() {}}
	first := true
	fail := func() {
		if runs++; first {
			panic("of a run that is discarded")
		}
	}
	if err := storage.ViewThen(t.Context(), s, func(storage.Reader) error { first = runs == 0; return nil }, fail); err != nil || runs < 2 {
		t.Errorf("after a panic that is discarded: %v, %d runs", err, runs)
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic that counts is lost")
		}
	}()
	storage.ViewThen(t.Context(), s, func(storage.Reader) error { return nil }, func() { panic("always") })
}
