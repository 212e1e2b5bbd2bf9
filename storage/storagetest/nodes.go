package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"keymill/storage"
)

// A check tests what two stores of the same records promise to callers that use them at once. They are one store if
// it can be opened only once. It returns what is wrong, and not a failed test, so that the tests of this package can show
// that it finds stores that break the promise.
type check struct {
	name string
	run  func(ctx context.Context, a, b storage.Store) error
}

// checks lists them all, except those that need more than two stores.
var checks = [...]check{
	{"NoWriteSkew", noWriteSkew},
	{"NoPhantom", noPhantom},
	{"AnUpdateIsSeenAtOnce", anUpdateIsSeenAtOnce},
	{"AnErrorCountsOnlyIfItsReadsHold", anErrorCountsOnlyIfItsReadsHold},
	{"AHotKeyIsFair", aHotKeyIsFair},
	{"TwoStartsAgree", twoStartsAgree},
}

// testTogether runs the checks on two stores if suite can open two.
func testTogether(t *testing.T, suite Suite) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			a, b := openBoth(t, suite, t.TempDir())
			if err := c.run(t.Context(), a, b); err != nil {
				t.Error(err)
			}
		})
	}
	if suite.Cut == nil {
		return
	}
	t.Run("ACutConnectionLosesNothing", func(t *testing.T) {
		dir := t.TempDir()
		a, b := openBoth(t, suite, dir)
		if err := aCutConnectionLosesNothing(t.Context(), a, b, func() { suite.Cut(t, dir) }); err != nil {
			t.Error(err)
		}
	})
}

// openBoth opens both stores at once, because that is how nodes of an empty store can start.
func openBoth(t *testing.T, suite Suite, dir string) (a, b storage.Store) {
	t.Helper()
	if suite.OpenSecond == nil {
		a = suite.Open(t, dir)
		t.Cleanup(func() { a.Close() })
		return a, a
	}
	var second sync.WaitGroup
	second.Go(func() { b = suite.OpenSecond(t, dir) })
	a = suite.Open(t, dir)
	t.Cleanup(func() { a.Close() })
	second.Wait()
	if b == nil {
		t.FailNow() // OpenSecond has said why
	}
	t.Cleanup(func() { b.Close() })
	return a, b
}

const rounds = 50

// noWriteSkew: of two Updates that read the same two records and each write one, the later one sees the earlier one.
func noWriteSkew(ctx context.Context, a, b storage.Store) error {
	take := func(s storage.Store, own string) error {
		return s.Update(ctx, func(tx storage.Tx) error {
			both, err := tx.GetAll("x", "y")
			if err != nil || string(both[0])+string(both[1]) != "freefree" {
				return err
			}
			return tx.Put(own, []byte("taken"))
		})
	}
	for n := range rounds {
		if err := set(ctx, a, "x", "free", "y", "free"); err != nil {
			return err
		}
		if err := atOnce(func() error { return take(a, "x") }, func() error { return take(b, "y") }); err != nil {
			return err
		}
		x, err := value(ctx, a, "x")
		y, err2 := value(ctx, b, "y")
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if (x == "taken") == (y == "taken") {
			return fmt.Errorf("round %d: x is %s and y is %s; exactly one of two callers can have found both free", n, x, y)
		}
	}
	return nil
}

// noPhantom: of two Updates that scan a range and insert into it, the later one sees what the earlier one inserted.
func noPhantom(ctx context.Context, a, b storage.Store) error {
	insert := func(s storage.Store, own string) error {
		return s.Update(ctx, func(tx storage.Tx) error {
			if found, err := list(tx, "range/", "range0"); err != nil || found != "" {
				return err
			}
			return tx.Put(own, nil)
		})
	}
	for n := range rounds {
		if err := atOnce(func() error { return insert(a, "range/a") }, func() error { return insert(b, "range/b") }); err != nil {
			return err
		}
		var found string
		if err := b.View(ctx, func(r storage.Reader) (err error) { found, err = list(r, "range/", "range0"); return err }); err != nil {
			return err
		}
		if found != "range/a=" && found != "range/b=" {
			return fmt.Errorf("round %d: the range holds %q; exactly one of two callers can have found it empty", n, found)
		}
		if err := a.Update(ctx, func(tx storage.Tx) error { return errors.Join(tx.Delete("range/a"), tx.Delete("range/b")) }); err != nil {
			return err
		}
	}
	return nil
}

// anUpdateIsSeenAtOnce: what begins on one store after an Update on the other has returned sees its writes.
func anUpdateIsSeenAtOnce(ctx context.Context, a, b storage.Store) error {
	for n := range rounds {
		wanted := strconv.Itoa(n)
		if err := set(ctx, a, "written", wanted); err != nil {
			return err
		}
		viewed, err := value(ctx, b, "written")
		var updated string
		err = errors.Join(err, b.Update(ctx, func(tx storage.Tx) error {
			v, err := tx.Get("written")
			updated = string(v)
			return err
		}))
		if err != nil {
			return err
		}
		if viewed != wanted || updated != wanted {
			return fmt.Errorf("after an Update that wrote %s a View reads %s, and an Update %s", wanted, viewed, updated)
		}
		a, b = b, a
	}
	return nil
}

// anErrorCountsOnlyIfItsReadsHold: two records always have the same value, so no function may end with an error or
// a panic that says otherwise, and none with one of a value that was replaced before it began.
func anErrorCountsOnlyIfItsReadsHold(ctx context.Context, a, b storage.Store) error {
	if err := set(ctx, a, "one", "0", "two", "0"); err != nil {
		return err
	}
	compare := func(r storage.Reader, differ func(one, two string) error) error {
		one, err := r.Get("one")
		if err != nil {
			return err
		}
		two, err := r.Get("two")
		if err != nil || string(one) == string(two) {
			return err
		}
		return differ(string(one), string(two))
	}
	fail := func(one, two string) error { return fmt.Errorf("a function saw %s and %s together", one, two) }
	writes := func() error {
		for n := range 3 * rounds {
			if err := set(ctx, a, "one", strconv.Itoa(n), "two", strconv.Itoa(n)); err != nil {
				return err
			}
		}
		return nil
	}
	reads := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("a panic counted: %v", p)
			}
		}()
		for range rounds {
			if err := errors.Join(
				b.View(ctx, func(r storage.Reader) error { return compare(r, fail) }),
				b.Update(ctx, func(tx storage.Tx) error { return compare(tx, fail) }),
				b.Update(ctx, func(tx storage.Tx) error { return compare(tx, func(one, two string) error { panic(fail(one, two)) }) }),
			); err != nil {
				return err
			}
		}
		return nil
	}
	if err := atOnce(writes, reads); err != nil {
		return err
	}
	for n := range rounds {
		wanted := fmt.Sprint("value ", n)
		if err := set(ctx, a, "one", wanted); err != nil {
			return err
		}
		if err := b.Update(ctx, func(tx storage.Tx) error {
			v, err := tx.Get("one")
			return errors.Join(err, errors.New(string(v)))
		}); err == nil || err.Error() != wanted {
			return fmt.Errorf("the function saw %q as it ended, want %q", err, wanted)
		}
	}
	return nil
}

// maxRuns is how often a store may run one function while others change the same record.
const maxRuns = 20

// aHotKeyIsFair: callers of one counter, on both stores, each come to their turn.
func aHotKeyIsFair(ctx context.Context, a, b storage.Store) error {
	const callers, each = 16, 15
	var work []func() error
	for c := range callers {
		s := []storage.Store{a, b}[c%2]
		work = append(work, func() error {
			for range each {
				runs := 0
				if err := s.Update(ctx, func(tx storage.Tx) error {
					runs++ // what no other function does
					return count(tx, "hot")
				}); err != nil {
					return err
				}
				if runs > maxRuns {
					return fmt.Errorf("a function ran %d times, want at most %d", runs, maxRuns)
				}
			}
			return nil
		})
	}
	if err := atOnce(work...); err != nil {
		return err
	}
	n, err := value(ctx, b, "hot")
	if err == nil && n != strconv.Itoa(callers*each) {
		err = fmt.Errorf("the counter is %s after %d Updates", n, callers*each)
	}
	return err
}

// twoStartsAgree: of two programs that start on an empty store, one writes the first record, and the other reads it.
func twoStartsAgree(ctx context.Context, a, b storage.Store) error {
	start := func(s storage.Store, own string, agreed *string) error {
		return s.Update(ctx, func(tx storage.Tx) error {
			v, err := tx.Get("start")
			if errors.Is(err, storage.ErrNotFound) {
				*agreed = own
				return tx.Put("start", []byte(own))
			}
			*agreed = string(v)
			return err
		})
	}
	var first, second string
	if err := atOnce(
		func() error { return start(a, "a", &first) },
		func() error { return start(b, "b", &second) },
	); err != nil {
		return err
	}
	stored, err := value(ctx, a, "start")
	if err == nil && (first != stored || second != stored) {
		err = fmt.Errorf("the record is %s, and the starts have %s and %s", stored, first, second)
	}
	return err
}

// aCutConnectionLosesNothing: while connections are cut, each call counts and leaves a record. Those that succeeded are
// all there, those that failed with ErrUnavailable are not, and none counted twice.
func aCutConnectionLosesNothing(ctx context.Context, a, b storage.Store, cut func()) error {
	const callers, each, every = 8, 100, 5 * time.Millisecond
	results := make([]error, callers*each)
	var work []func() error
	for c := range callers {
		s := []storage.Store{a, b}[c%2]
		work = append(work, func() error {
			for n := range each {
				id := c*each + n
				results[id] = s.Update(ctx, func(tx storage.Tx) error {
					return errors.Join(count(tx, "count"), tx.Put("done/"+key(id), nil))
				})
				if err := results[id]; err != nil && !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, storage.ErrUnknownOutcome) {
					return fmt.Errorf("an Update returned %w, want ErrUnavailable or ErrUnknownOutcome", err)
				}
			}
			return nil
		})
	}
	working, end := context.WithCancel(ctx)
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for working.Err() == nil {
			time.Sleep(every)
			cut()
		}
	})
	err := atOnce(work...)
	end()
	cutting.Wait()
	if err != nil {
		return err
	}
	for _, s := range []storage.Store{a, b} {
		if err := comesBack(ctx, s); err != nil {
			return err
		}
	}
	return checkResults(ctx, b, results)
}

// comesBack writes until that succeeds.
func comesBack(ctx context.Context, s storage.Store) (err error) {
	for range 100 {
		if err = set(ctx, s, "back", ""); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if failed := s.Status().Failed; err != nil || failed != nil {
		return fmt.Errorf("after the cuts an Update returns %v, and the Status says %v", err, failed)
	}
	return nil
}

// checkResults compares the records of aCutConnectionLosesNothing with what its calls returned.
func checkResults(ctx context.Context, s storage.Store, results []error) error {
	var done map[string]bool
	var counted string
	if err := s.View(ctx, func(r storage.Reader) error {
		done = map[string]bool{}
		for e, err := range r.Scan("done/", "done0") {
			if err != nil {
				return err
			}
			done[e.Key] = true
		}
		v, err := r.Get("count")
		counted = string(v)
		return err
	}); err != nil {
		return err
	}
	for id, err := range results {
		there := done["done/"+key(id)]
		switch {
		case err == nil && !there:
			return fmt.Errorf("call %d succeeded, and its record is lost", id)
		case errors.Is(err, storage.ErrUnavailable) && there:
			return fmt.Errorf("call %d returned %v, and wrote its record", id, err)
		}
	}
	if counted != strconv.Itoa(len(done)) {
		return fmt.Errorf("%d calls left a record, and %s were counted", len(done), counted)
	}
	return nil
}

// atOnce runs all functions at the same time.
func atOnce(work ...func() error) error {
	errs := make([]error, len(work))
	begin := make(chan struct{})
	var all sync.WaitGroup
	for n, fn := range work {
		all.Go(func() {
			<-begin
			errs[n] = fn()
		})
	}
	close(begin)
	all.Wait()
	return errors.Join(errs...)
}

// set writes pairs of key and value in one transaction.
func set(ctx context.Context, s storage.Store, pairs ...string) error {
	return s.Update(ctx, func(tx storage.Tx) (err error) {
		for i := 0; i < len(pairs); i += 2 {
			err = errors.Join(err, tx.Put(pairs[i], []byte(pairs[i+1])))
		}
		return err
	})
}

// value reads a record, "" if there is none.
func value(ctx context.Context, s storage.Store, key string) (string, error) {
	var v []byte
	err := s.View(ctx, func(r storage.Reader) (err error) {
		v, err = r.Get(key)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return string(v), err
}

// count adds one to a counter.
func count(tx storage.Tx, key string) error {
	v, err := tx.Get(key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	n, _ := strconv.Atoi(string(v))
	return tx.Put(key, []byte(strconv.Itoa(n+1)))
}
