package storagetest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"keymill/storage"
)

// engines are those of a Suite, by their directories.
type engines struct {
	mu  sync.Mutex
	all map[string]*engine // directory → engine; owned by mu
}

func (e *engines) of(dir string) *engine {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all[dir] == nil {
		e.all[dir] = newEngine(sound)
	}
	return e.all[dir]
}

// TestASoundStorePasses the whole suite, as one of two that are open at once, also below runs that are discarded.
func TestASoundStorePasses(t *testing.T) {
	for name, over := range map[string]func(storage.Store) storage.Store{
		"plain": func(s storage.Store) storage.Store { return s }, "rerunning": Rerunning,
	} {
		t.Run(name, func(t *testing.T) {
			known := &engines{all: map[string]*engine{}}
			open := func(_ *testing.T, dir string) storage.Store { return over(known.of(dir).open()) }
			Run(t, Suite{Open: open, OpenSecond: open, Cut: func(_ *testing.T, dir string) { known.of(dir).cut() }})
		})
	}
}

// TestEachCheckFindsItsFault: a check that no store fails checks nothing.
func TestEachCheckFindsItsFault(t *testing.T) {
	found := map[string]bool{}
	for _, tt := range []struct {
		fault fault
		check string
		says  string
	}{
		{writeSkew, "NoWriteSkew", "x is taken and y is taken"},
		{phantoms, "NoPhantom", `the range holds "range/a= range/b="`},
		{staleReads, "AnUpdateIsSeenAtOnce", "after an Update that wrote "},
		{hastyErrors, "AnErrorCountsOnlyIfItsReadsHold", "a function saw "},
		{unfair, "AHotKeyIsFair", " times, want at most 20"},
		{separate, "TwoStartsAgree", "the starts have a and b"},
	} {
		found[tt.check] = true
		for _, c := range checks {
			if c.name != tt.check {
				continue
			}
			e := newEngine(tt.fault)
			if err := c.run(t.Context(), e.open(), e.open()); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s, where %s: %v, want %s", c.name, tt.fault, err, tt.says)
			}
		}
	}
	for _, c := range checks {
		if !found[c.name] {
			t.Errorf("no fault is known that %s finds", c.name)
		}
	}
	for f, says := range map[fault]string{
		lostWrites: "and its record is lost", doubleWrites: " were counted", wronglyUnsaved: "and wrote its record",
	} {
		e := newEngine(f)
		if err := aCutConnectionLosesNothing(context.Background(), e.open(), e.open(), e.cut); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("where %s: %v, want %s", f, err, says)
		}
	}
}
