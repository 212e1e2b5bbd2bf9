package optimistic_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
)

// stores returns stores of one new database.
func stores(t *testing.T, n int, f enginetest.Faults) (all []*optimistic.Store, db *enginetest.Database) {
	db = enginetest.NewDatabase()
	for range n {
		s := optimistic.New(db.Open(f), optimistic.Options{})
		t.Cleanup(func() { s.Close() })
		all = append(all, s)
	}
	return all, db
}

func update(t *testing.T, s storage.Store, fn func(storage.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Errorf("update: %v", err)
	}
}

func put(t *testing.T, s storage.Store, key, value string) {
	t.Helper()
	update(t, s, func(tx storage.Tx) error { return tx.Put(key, []byte(value)) })
}

func view(t *testing.T, s storage.Store, fn func(storage.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Errorf("view: %v", err)
	}
}

// get reads a record that exists.
func get(r storage.Reader, key string) (string, error) {
	v, err := r.Get(key)
	return string(v), err
}

// TestOnlyOneTakesTheLastPlace: callers look whether a place is free and take another record each. If the look were
// not compared, two of them would take it. The callers are on one store, and on two.
func TestOnlyOneTakesTheLastPlace(t *testing.T) {
	looks := map[string]func(tx storage.Tx, other string) (taken bool, err error){
		"Skew": func(tx storage.Tx, other string) (bool, error) {
			v, err := tx.GetAll("place/" + other)
			return err == nil && v[0] != nil, err
		},
		"Phantom": func(tx storage.Tx, other string) (taken bool, err error) {
			for _, err := range tx.Scan("place/", "place0") {
				return err == nil, err
			}
			return false, nil
		},
	}
	for name, look := range looks {
		for nodes := 1; nodes <= 2; nodes++ {
			t.Run(fmt.Sprint(name, nodes), func(t *testing.T) {
				for range 100 {
					synctest.Test(t, func(t *testing.T) {
						s, db := stores(t, nodes, enginetest.Faults{Delay: func(operation string) time.Duration {
							if operation == "Commit" {
								return 10 * time.Millisecond
							}
							return rand.N(time.Millisecond)
						}})
						names := []string{"a", "b"}
						var all sync.WaitGroup
						for range 2 { // keep the committers of the first store busy, so that the calls meet in a group
							all.Go(func() { update(t, s[0], func(tx storage.Tx) error { return tx.Delete("none") }) })
							synctest.Wait()
						}
						for i, own := range names {
							all.Go(func() {
								err := s[i%nodes].Update(t.Context(), func(tx storage.Tx) error {
									if taken, err := look(tx, names[1-i]); taken || err != nil {
										return err
									}
									return tx.Put("place/"+own, nil)
								})
								if err != nil {
									t.Error(err)
								}
							})
						}
						all.Wait()
						if n := len(db.Records()); n != 1 {
							t.Fatalf("%d places are taken, want 1", n)
						}
					})
				}
			})
		}
	}
}

// TestAScanThatIsLeftIsComparedAsFar as the function has seen it, its last record included, and no farther.
func TestAScanThatIsLeftIsComparedAsFar(t *testing.T) {
	const many, left = 200, 100 // more than one page of a Scan
	key := func(i int) string { return fmt.Sprintf("k/%03d", i) }
	for name, tt := range map[string]struct {
		change int // the record that another node writes in the meantime
		runs   int
	}{"First": {0, 2}, "Last": {left - 1, 2}, "NotSeen": {left, 1}} {
		t.Run(name, func(t *testing.T) {
			s, _ := stores(t, 2, enginetest.Faults{})
			for i := range many {
				put(t, s[0], key(i), "")
			}
			runs := 0
			look := func(tx storage.Tx) error {
				seen := 0
				for _, err := range tx.Scan(key(left-40), "") {
					if seen++; err != nil || seen == 40 {
						return err
					}
				}
				return nil
			}
			update(t, s[0], func(tx storage.Tx) error {
				if runs++; runs > 2 {
					return errors.New("a third run")
				}
				if err := look(tx); err != nil {
					return err
				}
				if runs == 1 {
					change := max(tt.change, left-40)
					put(t, s[1], key(change), "changed")
				}
				return tx.Put("own", nil)
			})
			if runs != tt.runs {
				t.Errorf("%d runs, want %d", runs, tt.runs)
			}
		})
	}
}

// TestWhatAWrongRunReturnsIsDiscarded: two records are always equal. A store that has one of them in its cache sees them
// differ in its first run. Whatever the function makes of that has no effect.
func TestWhatAWrongRunReturnsIsDiscarded(t *testing.T) {
	wrong := errors.New("the records differ")
	for name, act := range map[string]func(){
		"Error": func() {},
		"Panic": func() { panic("the records differ") },
	} {
		t.Run(name, func(t *testing.T) {
			s, db := stores(t, 2, enginetest.Faults{})
			set := func(value string) {
				update(t, s[1], func(tx storage.Tx) error {
					return errors.Join(tx.Put("left", []byte(value)), tx.Put("right", []byte(value)))
				})
			}
			runs, differed := 0, 0
			look := func(r storage.Reader) error {
				runs++
				left, err := get(r, "left")
				right, err2 := get(r, "right")
				if left != right {
					differed++
					act()
					return wrong
				}
				return errors.Join(err, err2)
			}
			stale := func(value string) {
				update(t, s[1], func(tx storage.Tx) error { return errors.Join(tx.Delete("left"), tx.Delete("right")) })
				view(t, s[0], func(r storage.Reader) error { _, err := r.GetAll("left"); return err })
				set(value)
				s[0].Forget("right")
				runs, differed = 0, 0
			}
			stale("1")
			view(t, s[0], look)
			if runs != 2 || differed != 1 {
				t.Errorf("View: %d runs, of which %d saw a difference, want 2 and 1", runs, differed)
			}
			stale("2")
			update(t, s[0], func(tx storage.Tx) error { return look(tx) })
			if runs != 2 || differed != 1 {
				t.Errorf("Update: %d runs, of which %d saw a difference, want 2 and 1", runs, differed)
			}
			stale("3")
			update(t, s[0], func(tx storage.Tx) error { return errors.Join(look(tx), tx.Put("seen", nil)) })
			if _, ok := db.Records()["seen"]; !ok || differed != 1 {
				t.Errorf("Update that writes: %d of %d runs saw a difference, and its write exists: %v", differed, runs, ok)
			}
		})
	}
}

// TestAViewWorksAheadWhileItWaits for the comparison, and again if that finds that a record has changed.
func TestAViewWorksAheadWhileItWaits(t *testing.T) {
	var gated atomic.Bool
	asked, answer := make(chan struct{}), make(chan struct{})
	s, _ := stores(t, 2, enginetest.Faults{Fail: func(operation string) error {
		if operation == "Commit" && gated.Load() {
			asked <- struct{}{}
			<-answer
		}
		return nil
	}})
	put(t, s[0], "a", "old")
	put(t, s[1], "a", "new")
	gated.Store(true)
	var read string
	var seen []string
	err := storage.ViewThen(t.Context(), s[0], func(r storage.Reader) (err error) {
		read, err = get(r, "a")
		return err
	}, func() {
		if seen = append(seen, read); len(seen) == 1 {
			<-asked
			answer <- struct{}{}
		}
	})
	if want := []string{"old", "new"}; err != nil || !slices.Equal(seen, want) {
		t.Errorf("what follows has seen %q, %v, want %q", seen, err, want)
	}
}
