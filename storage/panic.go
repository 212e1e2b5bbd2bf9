package storage

import "fmt"

// A Panic carries a panic out of a store's goroutine into that of its caller.
type Panic struct {
	Value any
	Stack []byte // of the goroutine that ran the function
}

func (p *Panic) Error() string {
	return fmt.Sprintf("%v\n\npanicked in a transaction:\n%s", p.Value, p.Stack)
}

// Unwrap returns the value if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}
