package sealed

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"keymill/storage"
	"keymill/storage/storagetest"
)

// A shared is a store that several servers use. Its record keyring holds the keys in the clear.
type shared struct {
	t    testing.TB
	base storage.Store        // as the owner of the database sees it
	node func() storage.Store // as another server opens it
}

// onShared runs fn on every kind of store that several servers can use.
func onShared(t *testing.T, fn func(t *testing.T, s *shared)) {
	for kind, open := range map[string]func(t *testing.T) *shared{
		"bbolt": func(t *testing.T) *shared {
			base := openBase(t, t.TempDir())
			return &shared{t, base, func() storage.Store { return base }}
		},
		"rerunning": func(t *testing.T) *shared {
			base := storagetest.Rerunning(openBase(t, t.TempDir()))
			return &shared{t, base, func() storage.Store { return base }}
		},
		"optimistic": func(t *testing.T) *shared { _, s := onDatabase(t); return s },
	} {
		t.Run(kind, func(t *testing.T) { fn(t, open(t)) })
	}
}

// create makes the store, with records as pairs of key and value.
func (s *shared) create(records ...string) {
	s.t.Helper()
	s.update(func(tx storage.Tx) error {
		return errors.Join(s.putKeys(tx, testKeys), Create(tx, testKeys, func(tx storage.Tx) error { return putAll(tx, records) }))
	})
}

func (s *shared) update(fn func(storage.Tx) error) {
	s.t.Helper()
	if err := s.base.Update(s.t.Context(), fn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shared) putKeys(tx storage.Tx, keys Keys) error {
	record, err := json.Marshal(keys)
	return errors.Join(err, tx.Put(keyringKey, record))
}

// setKeys writes the record keyring alone.
func (s *shared) setKeys(keys Keys) {
	s.t.Helper()
	s.update(func(tx storage.Tx) error { return s.putKeys(tx, keys) })
}

func readKeys(_ storage.Reader, record []byte) (keys Keys, err error) {
	return keys, json.Unmarshal(record, &keys)
}

// join returns the Store of another server.
func (s *shared) join() *Store {
	s.t.Helper()
	base := s.node()
	record, err := get(s.t, base, keyringKey)
	if err != nil {
		s.t.Fatal(err)
	}
	keys, err := readKeys(nil, []byte(record))
	if err != nil {
		s.t.Fatal(err)
	}
	node, err := New(s.t.Context(), base, keys)
	if err != nil {
		s.t.Fatal(err)
	}
	node.Share(Shared{Record: []byte(record), Read: readKeys})
	return node
}

func keysOf(generation uint32, life uint64) Keys {
	key := func(n uint32) Generation { return Generation{n, [32]byte{byte(n), 2, 3}} }
	keys := Keys{Database: "db", Life: life, Current: key(generation)}
	if generation > 1 {
		previous := key(generation - 1)
		keys.Previous = &previous
	}
	return keys
}

// change makes the next data key the current one, as an administrator on another machine does.
func (s *shared) change(next Keys) {
	s.t.Helper()
	s.update(func(tx storage.Tx) error {
		return errors.Join(s.putKeys(tx, next), Change(tx, next, func(tx storage.Tx) error {
			for e, err := range tx.Scan("ring/", "ring0") {
				if err = errors.Join(err, tx.Put(e.Key, e.Value)); err != nil {
					return err
				}
			}
			return nil
		}))
	})
}

// end ends the change, as the server does that has tagged all records again.
func (s *shared) end(node *Store, keys Keys) {
	s.t.Helper()
	if err := node.Retag(s.t.Context(), nil); err != nil {
		s.t.Fatal(err)
	}
	keys.Previous = nil
	s.setKeys(keys)
	if err := node.Refresh(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// wantGeneration fails unless each record has a tag of the generation.
func (s *shared) wantGeneration(keys Keys) {
	s.t.Helper()
	g, err := newTagger("db", keys.Current)
	if err != nil {
		s.t.Fatal(err)
	}
	var others []string
	if err := s.base.View(s.t.Context(), func(r storage.Reader) error {
		others = nil
		for e, err := range r.Scan("", "\x7f") {
			if err != nil {
				return err
			}
			if _, _, ok := g.check(e.Key, e.Value); !ok && !untagged(e.Key) {
				others = append(others, e.Key)
			}
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	if others != nil {
		s.t.Errorf("without a tag of generation %d: %q", keys.Current.Number, others)
	}
}

// TestNoServerWritesUnderADataKeyThatWasReplaced: not one that was paused over a whole change, or over two.
//
// I26.
func TestNoServerWritesUnderADataKeyThatWasReplaced(t *testing.T) {
	onShared(t, func(t *testing.T, s *shared) {
		s.create("ring/EdDSA", "1", "user/7", "1", "client/web", "1")
		paused, other := s.join(), s.join()
		for _, node := range []*Store{paused, other} { // so that their caches have the keys
			put(t, node, "user/7", "2")
		}
		for generation := range uint32(2) {
			keys := keysOf(generation+2, 0)
			s.change(keys)
			s.end(other, keys)
		}
		put(t, paused, "user/7", "3", "client/web", "3")
		s.wantGeneration(keysOf(3, 0))
		for _, node := range []*Store{paused, other, s.join()} {
			if v, err := get(t, node, "client/web"); v != "3" || err != nil || node.Generation() != 3 {
				t.Errorf("%q, %v, generation %d", v, err, node.Generation())
			}
			if err := node.CheckManifest(t.Context()); err != nil || node.Damaged() != nil {
				t.Errorf("%v, %v", err, node.Damaged())
			}
		}
	})
}

// TestAReadOfANewerDataKeyIsNoDamage: the server reads the keys again first. A record that is forged is damage.
//
// I23.
func TestAReadOfANewerDataKeyIsNoDamage(t *testing.T) {
	onShared(t, func(t *testing.T, s *shared) {
		s.create("ring/EdDSA", "1", "user/7", "1", "user/8", "1")
		a, b, c := s.join(), s.join(), s.join()
		s.change(keysOf(2, 0))
		put(t, a, "user/7", "2")
		if v, err := get(t, b, "user/7"); v != "2" || err != nil || b.Damaged() != nil {
			t.Errorf("get: %q, %v, %v", v, err, b.Damaged())
		}
		if err := c.View(t.Context(), func(r storage.Reader) error { // a list sets a damaged record aside
			n := 0
			for _, err := range r.Scan("user/", "user0") {
				if err == nil {
					n++
				}
			}
			if n != 2 {
				return fmt.Errorf("%d users", n)
			}
			return nil
		}); err != nil || c.Damaged() != nil {
			t.Errorf("scan: %v, %v", err, c.Damaged())
		}
		put(t, s.base, "user/8", "forged, with a generation of 3\x03"+strings.Repeat("t", tagBytes))
		if _, err := get(t, b, "user/8"); !errors.Is(err, storage.ErrForged) || len(b.Damaged()) != 1 {
			t.Errorf("forged: %v, %v", err, b.Damaged())
		}
	})
}

// TestAServerThatCannotReadTheKeysWritesNothing: its callers can try again. What it reads with the keys that it has
// goes on.
func TestAServerThatCannotReadTheKeysWritesNothing(t *testing.T) {
	onShared(t, func(t *testing.T, s *shared) {
		s.create("ring/EdDSA", "1", "user/7", "1")
		node := s.join()
		newest := must(get(t, s.base, keyringKey))
		write := func(tx storage.Tx) error { return tx.Put("user/7", []byte("2")) }
		for what, want := range map[string]error{"sealed under another master key": storage.ErrUnavailable, "": storage.ErrDamaged} {
			if what == "" {
				remove(t, s.base, keyringKey)
			} else {
				put(t, s.base, keyringKey, what)
			}
			if err := node.Update(t.Context(), write); !errors.Is(err, want) {
				t.Errorf("keyring %q: update: %v", what, err)
			}
			if err := node.Refresh(t.Context()); !errors.Is(err, want) || node.Status().Failed != nil {
				t.Errorf("keyring %q: refresh: %v", what, err)
			}
			if v, err := get(t, node, "user/7"); v != "1" || err != nil {
				t.Errorf("keyring %q: read %q, %v", what, v, err)
			}
		}
		put(t, s.base, keyringKey, newest)
		if err := node.Update(t.Context(), write); err != nil {
			t.Errorf("after it is whole again: %v", err)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestAnOlderKeyringThatIsPutBackIsDamage: for a server that has seen the newer one.
//
// I26.
func TestAnOlderKeyringThatIsPutBackIsDamage(t *testing.T) {
	onShared(t, func(t *testing.T, s *shared) {
		s.create("ring/EdDSA", "1", "user/7", "1")
		node := s.join()
		s.change(keysOf(2, 0))
		s.end(node, keysOf(2, 0))
		newest := must(get(t, s.base, keyringKey))
		for what, older := range map[string]Keys{"the first data key": testKeys, "both data keys": keysOf(2, 0)} {
			s.setKeys(older)
			if err := node.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("user/7", nil) }); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("%s: %v", what, err)
			}
		}
		put(t, s.base, keyringKey, newest)
		put(t, node, "user/7", "2")
	})
}

// TestAServerOfAnEarlierLifeEnds: after a restore it writes nothing, whether it looks first or not, and its callers
// know that the store has ended.
//
// I14.
func TestAServerOfAnEarlierLifeEnds(t *testing.T) {
	onShared(t, func(t *testing.T, s *shared) {
		s.create("ring/EdDSA", "1", "user/7", "1")
		for life, want := range map[uint64]string{2: "restored from a backup", 0: "an older copy"} {
			s.setKeys(keysOf(1, 1))
			writes, looks, reads := s.join(), s.join(), s.join()
			s.setKeys(keysOf(1, life))
			errs := map[string]error{
				"update":  writes.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("user/7", []byte("2")) }),
				"refresh": looks.Refresh(t.Context()),
			}
			put(t, s.base, "user/8", "of the restored store, under another data key")
			_, errs["view"] = get(t, reads, "user/8")
			for what, err := range errs {
				var ended *LifeError
				if !errors.As(err, &ended) || !strings.Contains(err.Error(), want) {
					t.Errorf("life %d, %s: %v", life, what, err)
				}
			}
			for _, node := range []*Store{writes, looks, reads} {
				err := node.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("user/7", []byte("2")) })
				if _, viewErr := get(t, node, "user/7"); !storage.Ended(node, err) || !storage.Ended(node, viewErr) || node.Status().Failed == nil {
					t.Errorf("life %d: %v, %v", life, err, viewErr)
				}
			}
		}
		if v, err := get(t, s.join(), "user/7"); v != "1" || err != nil {
			t.Errorf("the store has %q, %v", v, err)
		}
	})
}

// TestTwoServersEndAChangeTogether: the cursor of the slower one does not go back, and a change that follows loses nothing.
//
// I26.
func TestTwoServersEndAChangeTogether(t *testing.T) {
	onShared(t, func(t *testing.T, s *shared) {
		s.create("ring/EdDSA", "1")
		writer := s.join()
		for i := range 8 {
			var records []string
			for k := range 50 {
				records = append(records, fmt.Sprintf("family/%05d", 50*i+k), "1")
			}
			put(t, writer, records...)
		}
		s.change(keysOf(2, 0))
		slow, fast := s.join(), s.join()
		first := true
		if err := slow.Retag(t.Context(), func(int, string) {
			if v, err := get(t, s.join(), "family/later"); !first && (v != "1" || err != nil) {
				t.Errorf("while slow goes on: %q, %v", v, err)
			}
			if first { // between two of its transactions
				first = false
				if err := fast.Retag(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				s.end(fast, keysOf(2, 0))
				put(t, fast, "family/later", "1") // after slow has looked
				s.change(keysOf(3, 0))
			}
		}); err != nil {
			t.Fatal(err)
		}
		node := s.join()
		for _, key := range []string{"family/00399", "family/later"} {
			if v, err := get(t, node, key); v != "1" || err != nil {
				t.Errorf("%s: %q, %v", key, v, err)
			}
		}
		s.end(node, keysOf(3, 0))
		s.wantGeneration(keysOf(3, 0))
	})
}

// TestTheCursorNeverGoesBack: behind it the last data key forges nothing, also while a slower server tags records again.
//
// I26.
func TestTheCursorNeverGoesBack(t *testing.T) {
	onShared(t, func(t *testing.T, s *shared) {
		s.create("ring/EdDSA", "1")
		writer := s.join()
		for i := range 4 {
			var records []string
			for k := range 50 {
				records = append(records, fmt.Sprintf("family/%05d", 50*i+k), "1")
			}
			put(t, writer, records...)
		}
		older := must(get(t, s.base, "family/00199"))
		s.change(keysOf(2, 0))
		slow, fast, stop := s.join(), s.join(), errors.New("stop")
		fastDone := false
		if err := retagUntil(t, slow, func() error {
			if fastDone {
				return stop // after the first of its transactions behind those of fast
			}
			fastDone = true
			return fast.Retag(t.Context(), nil)
		}); !errors.Is(err, stop) {
			t.Fatal(err)
		}
		put(t, s.base, "family/00199", older)
		if _, err := get(t, s.join(), "family/00199"); !errors.Is(err, storage.ErrForged) {
			t.Errorf("behind the cursor: %v", err)
		}
	})
}

// retagUntil runs Retag, and next after each of its transactions until that returns an error.
func retagUntil(t *testing.T, s *Store, next func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = p.(error)
		}
	}()
	return s.Retag(t.Context(), func(int, string) {
		if err := next(); err != nil {
			panic(err)
		}
	})
}

// TestServersWriteWhileTheDataKeyChanges: each write that is acknowledged is there in the end, under the newest key.
//
// I26.
func TestServersWriteWhileTheDataKeyChanges(t *testing.T) {
	onShared(t, func(t *testing.T, s *shared) {
		s.create("ring/EdDSA", "1", "user/0", "0", "user/1", "0", "user/2", "0", "client/web", "0")
		const changes = 5
		var wg sync.WaitGroup
		stop := make(chan struct{})
		counts := make([]int, 3)
		for n := range counts {
			node := s.join()
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := node.Update(t.Context(), func(tx storage.Tx) error {
						own, err := tx.Get(fmt.Sprint("user/", n))
						if err != nil || string(own) != fmt.Sprint(counts[n]) {
							return fmt.Errorf("read %q, %w", own, err)
						}
						return errors.Join(tx.Put(fmt.Sprint("user/", n), []byte(fmt.Sprint(counts[n]+1))), tx.Put("client/web", []byte("1")))
					}); err != nil {
						t.Error(err)
						return
					}
					counts[n]++
				}
			})
		}
		for generation := range uint32(changes) {
			keys := keysOf(generation+2, 0)
			s.change(keys)
			s.end(s.join(), keys)
		}
		close(stop)
		wg.Wait()
		s.wantGeneration(keysOf(changes+1, 0))
		for n, want := range counts {
			if v, err := get(t, s.join(), fmt.Sprint("user/", n)); v != fmt.Sprint(want) || err != nil {
				t.Errorf("server %d wrote %d, the store has %q, %v", n, want, v, err)
			}
		}
		if err := s.join().CheckManifest(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestTheComparisonTakesNoneOfTheCallersKeys: an Update of a shared store may touch as many keys as any other.
func TestTheComparisonTakesNoneOfTheCallersKeys(t *testing.T) {
	onShared(t, func(t *testing.T, s *shared) {
		s.create()
		node := s.join()
		if err := node.Update(t.Context(), func(tx storage.Tx) error {
			for n := range storage.MaxUpdateKeys {
				if err := tx.Put(fmt.Sprint("user/", n), nil); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkUpdate is what the comparison of the keyring costs a store that several servers use.
func BenchmarkUpdate(b *testing.B) {
	for _, isShared := range []bool{false, true} {
		b.Run(fmt.Sprint("shared=", isShared), func(b *testing.B) {
			base, s := create(b, "user/7", "1")
			put(b, base, keyringKey, strings.Repeat("k", 400))
			if isShared {
				s.Share(Shared{Record: []byte(strings.Repeat("k", 400))})
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Update(b.Context(), func(tx storage.Tx) error {
					_, err := tx.Get("user/7")
					return err
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
