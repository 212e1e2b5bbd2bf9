package storage

import "fmt"

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
