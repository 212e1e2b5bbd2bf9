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

// A workload is what the verifiers of one section of the table do.
type workload struct {
	alg        string
	goroutines int
	asserted   bool // whether --assert checks it
}

func workloads() []workload {
	return []workload{
		{alg: jwks.EdDSA, goroutines: 1, asserted: true},
		{alg: jwks.RS256, goroutines: 1, asserted: true},
		{alg: jwks.ES256, goroutines: 1, asserted: true},
		{alg: jwks.EdDSA, goroutines: 16},
	}
}

// A verifyPlan says how long a comparison takes.
type verifyPlan struct {
	rounds int
	slice  time.Duration // of each verifier in each round
}

// poolSize is the number of tokens that the verifiers verify in a loop. To a verifier without
// a cache each is new every time.
const poolSize = 256

// A measurement is what one verifier did.
type measurement struct {
	verifier verifier
	perOp    []float64 // nanoseconds, one number per round
	allocs   float64   // an operation
	bytes    float64   // an operation
}

// A comparison has the measurements of one workload.
type comparison struct {
	workload     workload
	measurements []measurement
}

// compare lets the verifiers run in turns, in short slices. If the machine slows down, all
// are affected within the same round, and only numbers of one round are compared. The order
// rotates and is reversed in every other round, so that no verifier always runs after the
// same one and finds its data in the processor's caches.
func (s *testIssuer) compare(ctx context.Context, t workload, p verifyPlan) (comparison, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := comparison{workload: t}
	pool, err := s.tokens(t.alg, poolSize)
	if err != nil {
		return out, err
	}
	verifiers, err := s.verifiers(ctx, t.alg)
	if err != nil {
		return out, err
	}
	for _, v := range verifiers {
		if err := s.checkVerifier(ctx, v, t.alg); err != nil {
			return out, err
		}
		m, err := newMeasurement(ctx, v, pool)
		if err != nil {
			return out, err
		}
		out.measurements = append(out.measurements, m)
	}
	for round := range p.rounds {
		for _, i := range order(round, len(out.measurements)) {
			if err := out.measurements[i].add(ctx, t, pool, p.slice); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// order returns the order of n verifiers in a round.
func order(round, n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = (i + round/2) % n
	}
	if round%2 == 1 {
		slices.Reverse(out)
	}
	return out
}

// newMeasurement counts the allocations of v. That happens before the rounds, since reading
// the counters stops the world. Other goroutines may add allocations and never remove any, so
// the lowest of three passes counts. Caches are filled first, with copies of the strings: in a
// service a repeated token has other memory, and comparing a string with itself is free.
func newMeasurement(ctx context.Context, v verifier, pool []signed) (measurement, error) {
	out := measurement{verifier: v}
	for _, t := range pool {
		t.text = strings.Clone(t.text)
		if err := v.once(ctx, &t); err != nil {
			return out, err
		}
	}
	for pass := range 3 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range pool {
			if err := v.once(ctx, &pool[i]); err != nil {
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

// add runs one slice and adds its result. It collects garbage first, so that no verifier pays
// for the one before it.
func (m *measurement) add(ctx context.Context, t workload, pool []signed, d time.Duration) error {
	runtime.GC()
	counts := make([]int, t.goroutines)
	failures := make([]error, t.goroutines)
	var all sync.WaitGroup
	begun := time.Now()
	for i := range t.goroutines {
		all.Go(func() { counts[i], failures[i] = m.verifier.run(ctx, pool, i*len(pool)/t.goroutines, begun, d) })
	}
	all.Wait()
	elapsed, n := time.Since(begun), 0
	for _, count := range counts {
		n += count
	}
	m.perOp = append(m.perOp, float64(elapsed)/float64(n))
	return errors.Join(failures...)
}

// run verifies tokens, beginning at place, until d has passed since begun, and counts them. It
// reads the clock once per batch, because a cached verification takes not much longer than
// reading the clock.
func (v verifier) run(ctx context.Context, pool []signed, place int, begun time.Time, d time.Duration) (n int, err error) {
	const batch = 16
	for time.Since(begun) < d {
		for range batch {
			if err := v.once(ctx, &pool[(place+n)%len(pool)]); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

// once verifies a token and checks the subject: the time of wrong answers means nothing.
func (v verifier) once(ctx context.Context, t *signed) error {
	subject, err := v.verify(ctx, t)
	if err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	if subject != t.subject {
		return fmt.Errorf("%s: subject %q, want %q", v.name, subject, t.subject)
	}
	return nil
}
