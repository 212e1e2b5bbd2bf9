package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// The bounds that --assert checks for verification.
const (
	maxOverBare    = 6 * time.Microsecond // time of a first verification beyond the signature check
	maxOfLibraries = 1.0                  // its time as a share of the fastest library's
	leastSpeedup   = 20.0                 // of a repeated verification, over the fastest library
)

func (o options) verifyPlan() verifyPlan {
	if o.quick {
		return verifyPlan{rounds: 8, slice: 15 * time.Millisecond}
	}
	return verifyPlan{rounds: 100, slice: 20 * time.Millisecond}
}

// measureVerify compares the verifiers with each workload.
func measureVerify(p verifyPlan, w io.Writer) (missed []string, err error) {
	s, err := startIssuer()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var comparisons []comparison
	for _, t := range workloads() {
		c, err := s.compare(context.Background(), t, p)
		if err != nil {
			return missed, err
		}
		comparisons = append(comparisons, c)
		missed = append(missed, c.missed()...)
	}
	return missed, printComparisons(w, comparisons)
}

func printComparisons(w io.Writer, comparisons []comparison) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "verify\tns/op\tover bare µs\tallocs/op\tB/op\tof bare\trange\tof fastest\trange\t")
	for _, c := range comparisons {
		bare, fastest := c.named(bare).perOp, c.fastestLibrary()
		for _, m := range c.measurements {
			ofBare, ofFastest := quotients(m.perOp, bare), quotients(m.perOp, fastest)
			fmt.Fprintf(t, "%s %s\t%.0f\t%.1f\t%.0f\t%.0f\t%.3f\t%.3f–%.3f\t%.3f\t%.3f–%.3f\t\n",
				c.workload, m.verifier.name, median(m.perOp), median(c.over(m))/1e3, m.allocs, m.bytes,
				median(ofBare), quantile(ofBare, 0.1), quantile(ofBare, 0.9),
				median(ofFastest), quantile(ofFastest, 0.1), quantile(ofFastest, 0.9))
		}
	}
	return t.Flush()
}

func (t workload) String() string {
	if t.goroutines == 1 {
		return t.alg
	}
	return fmt.Sprintf("%s ×%d", t.alg, t.goroutines)
}

// named returns the measurement of a verifier, or an empty one if there is none of that name.
func (c comparison) named(name string) measurement {
	for _, m := range c.measurements {
		if m.verifier.name == name {
			return m
		}
	}
	return measurement{}
}

// fastestLibrary returns the lowest time of all libraries, round by round.
func (c comparison) fastestLibrary() []float64 {
	var out []float64
	for _, m := range c.measurements {
		switch {
		case !m.verifier.library:
		case out == nil:
			out = slices.Clone(m.perOp)
		default:
			for round, t := range m.perOp {
				out[round] = min(out[round], t)
			}
		}
	}
	return out
}

// over returns how much longer m took than the bare check, round by round, in nanoseconds.
func (c comparison) over(m measurement) []float64 {
	bare := c.named(bare).perOp
	out := make([]float64, len(m.perOp))
	for round := range out {
		out[round] = m.perOp[round] - bare[round]
	}
	return out
}

// missed returns the bounds that c does not keep.
func (c comparison) missed() []string {
	if !c.workload.asserted {
		return nil
	}
	var missed []string
	miss := func(format string, args ...any) {
		missed = append(missed, fmt.Sprintf("verify %s: ", c.workload)+fmt.Sprintf(format, args...))
	}
	own, fastest := c.named(first), c.fastestLibrary()
	if over := median(c.over(own)); over > float64(maxOverBare) {
		miss("%.1f µs over the bare check, wanted %v", over/1e3, maxOverBare)
	}
	if ratio := median(quotients(own.perOp, fastest)); ratio > maxOfLibraries {
		miss("%.3f of the fastest library's time, wanted %.2f", ratio, maxOfLibraries)
	}
	for _, m := range c.measurements {
		if m.verifier.library && math.Round(own.allocs) >= math.Round(m.allocs) {
			miss("%.0f allocations, %s has %.0f", own.allocs, m.verifier.name, m.allocs)
		}
	}
	if speedup := median(quotients(fastest, c.named(cached).perOp)); speedup < leastSpeedup {
		miss("cached %.1f × as fast as the fastest library, wanted %g", speedup, leastSpeedup)
	}
	return missed
}
