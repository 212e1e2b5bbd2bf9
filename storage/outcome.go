package storage

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// An Outcome records how the function of an Update ended: it returned, panicked, or ended its
// goroutine as t.FailNow does. A store that runs functions in a goroutine of
// its own keeps the Outcome there and returns it in the caller's goroutine:
//
//	store's goroutine    o.Run(tx, fn), apply tx.Writes() if o.OK(), commit, o.Fail if that fails
//	caller's goroutine   return o.Return()
//
// A store that runs the function again after a conflict calls Run again, with a new
// Overlay. Only the last run counts.
type Outcome struct {
	err    error
	panic  *Panic
	exited bool
}

// Run runs fn on tx. It recovers a panic of fn. If fn ends its goroutine, Run does not
// return, but its caller's deferred functions run.
func (o *Outcome) Run(tx *Overlay, fn func(Tx) error) {
	*o = Outcome{exited: true}
	defer func() {
		if p := recover(); p != nil {
			*o = Outcome{panic: &Panic{Value: p, Stack: debug.Stack()}}
		}
	}()
	err := fn(tx)
	if err == nil {
		err = tx.Err()
	}
	*o = Outcome{err: err}
}

// OK reports whether the function succeeded, so that its writes may be committed.
func (o *Outcome) OK() bool { return o.err == nil && o.panic == nil && !o.exited }

// Fail records that the commit failed, or that the function could not be run.
func (o *Outcome) Fail(err error) { o.err = err }

// Return ends Update in the same way as the function ended: it returns the error, panics with
// a *Panic or ends the goroutine.
func (o *Outcome) Return() error {
	if o.panic != nil {
		panic(o.panic)
	}
	if o.exited {
		runtime.Goexit()
	}
	return o.err
}

// A Panic carries a panic of an Update's function from the goroutine that ran it to the
// caller of Update, which panics with it.
type Panic struct {
	Value any    // what the function panicked with
	Stack []byte // of the goroutine that ran the function
}

// Error includes the stack of the function.
func (p *Panic) Error() string {
	return fmt.Sprintf("%v\n\npanicked in a transaction:\n%s", p.Value, p.Stack)
}

// Unwrap returns the value if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}
