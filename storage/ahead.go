package storage

import "context"

// ViewThen calls View, and next with what fn has assigned. If View succeeds, next has run after the run of fn that counts.
// The error is that of View.
//
// A store on the network runs next while it asks the database whether what fn has read still holds. So next can run
// several times, also after a run of fn that is discarded, and nothing that it makes may leave the program before ViewThen
// has returned nil. Like fn, it has no effect except that it assigns. Unlike fn, it may sign and wait, because no
// transaction is open.
func ViewThen(ctx context.Context, s Store, fn func(Reader) error, next func()) error {
	a := &ahead{next: next}
	err := s.View(context.WithValue(ctx, aheadKey{}, a), func(r Reader) error {
		a.due = false
		err := fn(r)
		a.due = err == nil
		return err
	})
	if err == nil && a.due {
		next()
	}
	return err
}

// WorkAhead runs the second function of a ViewThen, if ctx is of one and fn has succeeded. A View calls it while it waits,
// in the goroutine of its caller and between two runs of fn. It may also never call it. What comes of it does not count
// yet, so a panic is ignored: if fn does not run again, next does, after the View.
func WorkAhead(ctx context.Context) {
	a, _ := ctx.Value(aheadKey{}).(*ahead)
	if a == nil || !a.due {
		return
	}
	defer func() { a.due = recover() != nil }()
	a.next()
}

type aheadKey struct{}

// An ahead is one ViewThen. One goroutine uses it.
type ahead struct {
	next func()
	due  bool // fn has succeeded, and next has not run since
}
