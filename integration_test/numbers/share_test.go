package numbers

import (
	"errors"
	"math/rand/v2"
	"sync"

	"keymill/issuer/refusal"
)

// shareOut gives each worker a part of the tokens and lets it change any of its own, so
// that n changes are made in all and nobody shows a token twice.
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
