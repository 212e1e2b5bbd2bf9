package storagetest

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"testing"

	"keymill/storage"
)

func readsWhatWasWritten(t *testing.T, s storage.Store) {
	put(t, s, "key", "value", "empty", "")
	view(t, s, func(t *run, r storage.Reader) error {
		if v, err := r.Get("key"); string(v) != "value" {
			t.Errorf("got %q, %v", v, err)
		}
		if v, err := r.Get("empty"); v == nil || len(v) != 0 || err != nil {
			t.Errorf("an empty value: got %v, %v, want an empty value that is not nil", v, err)
		}
		_, err := r.Get("absent")
		wantErr(t, "Get of an absent record", err, storage.ErrNotFound)
		return nil
	})
	update(t, s, func(t *run, tx storage.Tx) error {
		if err := errors.Join(tx.Delete("key"), tx.Delete("absent"), tx.Put("empty", []byte("full"))); err != nil {
			return err
		}
		_, err := tx.Get("key")
		wantErr(t, "Get of a deleted record", err, storage.ErrNotFound)
		v, err := tx.Get("empty")
		if string(v) != "full" {
			t.Errorf("Get of an own write: got %q, %v", v, err)
		}
		return nil
	})
	want(t, s, "empty=full")
}

func getAllKeepsItsOrder(t *testing.T, s storage.Store) {
	put(t, s, "a", "1", "b", "2", "e", "")
	check := func(t *run, r storage.Reader) error {
		got, err := r.GetAll("b", "absent", "a", "b", "e")
		if err != nil {
			return err
		}
		if len(got) != 5 || string(got[0]) != "2" || got[1] != nil || string(got[2]) != "1" || string(got[3]) != "2" || got[4] == nil {
			t.Errorf("got %q", got)
		}
		return nil
	}
	view(t, s, check)
	update(t, s, func(t *run, tx storage.Tx) error { return check(t, tx) })
}

func anErrorWritesNothing(t *testing.T, s storage.Store) {
	put(t, s, "a", "1", "b", "2")
	refused := errors.New("refused")
	err := s.Update(t.Context(), func(tx storage.Tx) error {
		if err := errors.Join(tx.Put("a", []byte("9")), tx.Delete("b"), tx.Put("c", nil)); err != nil {
			return err
		}
		return refused
	})
	if err != refused {
		t.Errorf("got %v, want the error of the function, unchanged", err)
	}
	want(t, s, "a=1 b=2")
}

func aPanicReachesItsCaller(t *testing.T, s storage.Store) {
	func() {
		defer func() {
			p := recover()
			if err, ok := p.(error); !ok || !bytes.Contains([]byte(err.Error()), []byte("test panic")) {
				t.Errorf("recovered %v", p)
			}
		}()
		s.Update(t.Context(), func(tx storage.Tx) error {
			if err := tx.Put("a", nil); err != nil {
				return err
			}
			panic(errors.New("test panic"))
		})
		t.Error("Update returned although its function panicked")
	}()
	want(t, s, "")
	put(t, s, "b", "2")
	want(t, s, "b=2")
}

// aViewDoesNotChange: the View reads once before the write, because a store on the network may fix the state
// of a View with its first read.
func aViewDoesNotChange(t *testing.T, s storage.Store) {
	put(t, s, "a", "1", "b", "1")
	var first, second string
	view(t, s, func(_ *run, r storage.Reader) (err error) {
		if first, err = list(r, "a", "z"); err != nil {
			return err
		}
		// The write happens in another goroutine before the View ends. If a store blocks the
		// write until then, the test hangs; if it shows the write to the View, the test fails.
		done := make(chan error)
		go func() {
			done <- s.Update(context.Background(), func(tx storage.Tx) error {
				return errors.Join(tx.Put("a", []byte("2")), tx.Delete("b"), tx.Put("c", nil))
			})
		}()
		if err := <-done; err != nil {
			return err
		}
		second, err = list(r, "a", "z")
		return err
	})
	// A run that was discarded may have written before the one that counts.
	if first != second || first != "a=1 b=1" && first != "a=2 c=" {
		t.Errorf("the View shows %q, and then %q", first, second)
	}
	want(t, s, "a=2 c=")
}

func scansInKeyOrder(t *testing.T, s storage.Store) {
	put(t, s, "b/2", "", "a", "", "b/10", "", "b", "", "b/1", "", "b0", "", "b/~", "", "B", "")
	for _, tt := range []struct{ start, end, want string }{
		{"b/", "b0", "b/1= b/10= b/2= b/~="}, // '0' follows '/'
		{"b/1", "b/2", "b/1= b/10="},         // half-open
		{"", "b", "B= a="},
		{"b/2", "b/2", ""},
		{"b", "a", ""},
		{"a", "", "a= b= b/1= b/10= b/2= b/~= b0="}, // to the last key
		{"", "", "B= a= b= b/1= b/10= b/2= b/~= b0="},
		{"c", "\x7f", ""},
	} {
		check := func(t *run, r storage.Reader) error {
			got, err := list(r, tt.start, tt.end)
			if got != tt.want {
				t.Errorf("[%q, %q) is %q, want %q", tt.start, tt.end, got, tt.want)
			}
			return err
		}
		view(t, s, check)
		update(t, s, func(t *run, tx storage.Tx) error { return check(t, tx) })
	}
}

func scansSeeOwnWrites(t *testing.T, s storage.Store) {
	put(t, s, "b", "old", "d", "old", "f", "old", "h", "old")
	update(t, s, func(t *run, tx storage.Tx) error {
		err := errors.Join(
			tx.Put("a", []byte("new")), tx.Put("d", []byte("new")), tx.Put("e", []byte("new")),
			tx.Delete("b"), tx.Delete("h"), tx.Delete("nowhere"),
			tx.Put("i", nil), tx.Delete("i"), tx.Delete("f"), tx.Put("f", []byte("again")), tx.Put("z", nil))
		if err != nil {
			return err
		}
		got, err := list(tx, "a", "z")
		if got != "a=new d=new e=new f=again" {
			t.Errorf("scan in the transaction is %q", got)
		}
		if all, err := list(tx, "", ""); err != nil || all != got+" z=" {
			t.Errorf("scan of all in the transaction is %q, %v", all, err)
		}
		return err
	})
	want(t, s, "a=new d=new e=new f=again z=")
}

func scansMayWrite(t *testing.T, s storage.Store) {
	put(t, s, "a/1", "x", "a/2", "x", "a/3", "x")
	update(t, s, func(t *run, tx storage.Tx) error {
		seen := 0
		for e, err := range tx.Scan("a/", "a0") {
			if err != nil {
				return err
			}
			seen++
			if err := errors.Join(tx.Delete(e.Key), tx.Put("a/9"+e.Key[2:], e.Value)); err != nil {
				return err
			}
		}
		if seen != 3 {
			t.Errorf("a loop that writes saw %d records, want the 3 at its beginning", seen)
		}
		return nil
	})
	want(t, s, "a/91=x a/92=x a/93=x")
}

func everythingIsACopy(t *testing.T, s storage.Store) {
	mine := []byte("value")
	scribble := func(b []byte) {
		for i := range b {
			b[i] = '!'
		}
	}
	check := func(t *run, r storage.Reader) error {
		for range 2 {
			v, err := r.Get("a")
			if err != nil || string(v) != "value" {
				t.Errorf("got %q, %v", v, err)
			}
			scribble(v)
			for e, err := range r.Scan("a", "b") {
				if err != nil || string(e.Value) != "value" {
					t.Errorf("scanned %q, %v", e.Value, err)
				}
				scribble(e.Value)
			}
		}
		return nil
	}
	update(t, s, func(t *run, tx storage.Tx) error {
		copy(mine, "value")
		if err := tx.Put("a", mine); err != nil {
			return err
		}
		scribble(mine)
		return check(t, tx)
	})
	view(t, s, check)
	update(t, s, func(t *run, tx storage.Tx) error { return check(t, tx) })
	want(t, s, "a=value")
}

func anEndedTransactionRefusesUse(t *testing.T, s storage.Store) {
	var r storage.Reader
	var tx storage.Tx
	view(t, s, func(_ *run, now storage.Reader) error { r = now; return nil })
	update(t, s, func(_ *run, now storage.Tx) error { tx = now; return nil })
	for i, late := range []storage.Reader{r, tx} {
		if _, err := late.Get("a"); err == nil || errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%d: a read after the end returned %v", i, err)
		}
		if _, err := list(late, "a", "z"); err == nil {
			t.Errorf("%d: a scan after the end returned no error", i)
		}
	}
	if tx.Put("a", nil) == nil || tx.Delete("a") == nil {
		t.Error("a write after the end returned no error")
	}
	want(t, s, "")
}

// anEndedScanRefusesUse keeps an iterator longer than its transaction, as iter.Pull can.
func anEndedScanRefusesUse(t *testing.T, s storage.Store) {
	put(t, s, "a", "1", "b", "2", "c", "3")
	type function = func(*run, storage.Reader) error
	for name, transact := range map[string]func(fn function) error{
		"View": func(fn function) error { return tryView(t, s, fn) },
		"Update": func(fn function) error {
			return tryUpdate(t, s, func(t *run, tx storage.Tx) error { return fn(t, tx) })
		},
		"Update that wrote": func(fn function) error {
			return tryUpdate(t, s, func(t *run, tx storage.Tx) error { return errors.Join(tx.Put("b", []byte("2")), fn(t, tx)) })
		},
	} {
		for steps := range 4 { // before the first record, and after each of them
			var next func() (storage.Entry, error, bool)
			stop := func() {}
			if err := transact(func(t *run, r storage.Reader) error {
				stop() // of a run before this one
				next, stop = iter.Pull2(r.Scan("a", "z"))
				for range steps {
					if _, err, ok := next(); err != nil || !ok {
						t.Errorf("%s: a record is missing: %v", name, err)
					}
				}
				return nil
			}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			put(t, s, "d", "4") // what the scan would read belongs to another state
			if e, err, ok := next(); err == nil || !ok || errors.Is(err, storage.ErrBroken) {
				t.Errorf("%s, %d steps: a step after the end returned %q, %v, %v", name, steps, e.Key, err, ok)
			}
			if e, err, ok := next(); ok {
				t.Errorf("%s, %d steps: the scan goes on after its error: %q, %v", name, steps, e.Key, err)
			}
			stop()
			update(t, s, func(t *run, tx storage.Tx) error { return tx.Delete("d") })
		}
	}
	want(t, s, "a=1 b=2 c=3")
}

func aClosedStoreRefuses(t *testing.T, s storage.Store) {
	put(t, s, "a", "1")
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	never := errors.New("the function ran in a closed store")
	wantErr(t, "view", s.View(t.Context(), func(storage.Reader) error { return never }), storage.ErrClosed)
	wantErr(t, "update", s.Update(t.Context(), func(storage.Tx) error { return never }), storage.ErrClosed)
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// aStoreThatWorksSaysSo, and no call fails for its end, also after a refusal of its caller.
func aStoreThatWorksSaysSo(t *testing.T, s storage.Store) {
	refused := errors.New("refused")
	err := tryUpdate(t, s, func(*run, storage.Tx) error { return refused })
	for range 2 {
		if st := s.Status(); st.Failed != nil || st.Away != nil || !st.Since.IsZero() || st.Bytes < -1 {
			t.Errorf("the Status is %+v", st)
		}
		if storage.Ended(s, err) {
			t.Errorf("%v ends a loop", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := tryUpdate(t, s, func(*run, storage.Tx) error { return nil }); !storage.Ended(s, err) {
		t.Errorf("%v ends no loop", err)
	}
}
