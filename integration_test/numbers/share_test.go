package numbers

import (
	"errors"
	"math/rand/v2"
	"sync"

	"keymill/issuer/refusal"
)

// shareOut divides the tokens among the workers. Each worker changes random tokens of its own part, so
// that no token is presented twice. Together they make n changes.
func shareOut(tokens []refusal.Secret, n int, change func(refusal.Secret) (refusal.Secret, error)) error {
	shares := min(workers, len(tokens))
	errs := make([]error, shares)
	var all sync.WaitGroup
	for w := range shares {
		own := tokens[len(tokens)*w/shares : len(tokens)*(w+1)/shares]
		times := n*(w+1)/shares - n*w/shares
		all.Go(func() {
			for range times {
				i := rand.IntN(len(own))
				next, err := change(own[i])
				if err != nil {
					errs[w] = err
					return
				}
				own[i] = next
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
