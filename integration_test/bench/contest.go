package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"keymill/jwks"
)

// A trial is what the contenders of one table section do.
type trial struct {
	alg        string
	goroutines int
	asserted   bool // whether --assert demands anything of it
}

func trials() []trial {
	return []trial{
		{alg: jwks.EdDSA, goroutines: 1, asserted: true},
		{alg: jwks.RS256, goroutines: 1, asserted: true},
		{alg: jwks.EdDSA, goroutines: 16},
	}
}

// A contestPlan says how long a contest takes.
type contestPlan struct {
	rounds int
	slice  time.Duration // of each contender in each round
}

// poolSize is how many tokens the contenders go through, over and over. Who remembers
// none meets each as if for the first time.
const poolSize = 256

// A score is what one contender did.
type score struct {
	contender contender
	perOp     []float64 // nanoseconds, one number a round
	allocs    float64   // an operation
	bytes     float64   // an operation
}

// A contest is the outcome of one trial.
type contest struct {
	trial  trial
	scores []score
}

// hold lets the contenders verify in turns, in short slices: what the machine does to
// one it does to the others a moment later, and only numbers of the same round are
// compared. The order rotates, and every other round is run backwards, so that nobody
// always inherits the caches of the same neighbour.
func (s *stage) hold(ctx context.Context, t trial, p contestPlan) (contest, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := contest{trial: t}
	pool, err := s.tokens(t.alg, poolSize)
	if err != nil {
		return out, err
	}
	contenders, err := s.contenders(ctx, t.alg)
	if err != nil {
		return out, err
	}
	for _, c := range contenders {
		if err := s.prove(ctx, c, t.alg); err != nil {
			return out, err
		}
		score, err := weigh(ctx, c, pool)
		if err != nil {
			return out, err
		}
		out.scores = append(out.scores, score)
	}
	for round := range p.rounds {
		for _, i := range turns(round, len(out.scores)) {
			if err := out.scores[i].take(ctx, t, pool, p.slice); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// turns is the order of n contenders in a round.
func turns(round, n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = (i + round/2) % n
	}
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

// weigh counts allocations, apart from the contest, since reading the counters stops
// the world. What else the process does may add to them but not take away, so the least
// of some passes holds. Caches are filled first, and not with the very same strings: a
// token that comes again lies elsewhere, and comparing a string with itself is free.
func weigh(ctx context.Context, c contender, pool []signed) (score, error) {
	out := score{contender: c}
	for _, t := range pool {
		t.text = strings.Clone(t.text)
		if err := c.once(ctx, &t); err != nil {
			return out, err
		}
	}
	for pass := range 3 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range pool {
			if err := c.once(ctx, &pool[i]); err != nil {
				return out, err
			}
		}
		runtime.ReadMemStats(&after)
		allocs := float64(after.Mallocs-before.Mallocs) / float64(len(pool))
		bytes := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(pool))
		if pass == 0 || allocs < out.allocs {
			out.allocs, out.bytes = allocs, bytes
		}
	}
	return out, nil
}

// take adds one slice. It begins with a clean heap: nobody pays for the garbage of the
// one before.
func (s *score) take(ctx context.Context, t trial, pool []signed, d time.Duration) error {
	runtime.GC()
	counts := make([]int, t.goroutines)
	failures := make([]error, t.goroutines)
	var all sync.WaitGroup
	begun := time.Now()
	for i := range t.goroutines {
		all.Go(func() { counts[i], failures[i] = s.contender.run(ctx, pool, i*len(pool)/t.goroutines, begun, d) })
	}
	all.Wait()
	elapsed, n := time.Since(begun), 0
	for _, count := range counts {
		n += count
	}
	s.perOp = append(s.perOp, float64(elapsed)/float64(n))
	return errors.Join(failures...)
}

// run verifies tokens from place on until d has passed since begun, and counts them. The
// clock is read once in a while only: a cached verification is not much slower than it.
func (c contender) run(ctx context.Context, pool []signed, place int, begun time.Time, d time.Duration) (n int, err error) {
	const batch = 16
	for time.Since(begun) < d {
		for range batch {
			if err := c.once(ctx, &pool[(place+n)%len(pool)]); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// once verifies a token and checks the answer: a number about wrong ones is no number.
func (c contender) once(ctx context.Context, t *signed) error {
	subject, err := c.verify(ctx, t)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if subject != t.subject {
		return fmt.Errorf("%s: subject %q, want %q", c.name, subject, t.subject)
	}
	return nil
}
