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

// What --assert demands of verification.
const (
	maxOverBare  = 6 * time.Microsecond // first verification, beyond the signature
	maxOfRivals  = 1.0                  // its time, of the fastest rival's
	leastSpeedup = 20.0                 // repeated verification, against the fastest rival
)

func (o options) contestPlan() contestPlan {
	if o.quick {
		return contestPlan{rounds: 8, slice: 15 * time.Millisecond}
	}
	return contestPlan{rounds: 100, slice: 20 * time.Millisecond}
}

// measureVerify needs no server but its own stage.
func measureVerify(p contestPlan, w io.Writer) (missed []string, err error) {
	s, err := openStage()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var contests []contest
	for _, t := range trials() {
		c, err := s.hold(context.Background(), t, p)
		if err != nil {
			return missed, err
		}
		contests = append(contests, c)
		missed = append(missed, c.demands()...)
	}
	return missed, printContests(w, contests)
}

func printContests(w io.Writer, contests []contest) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "verify\tns/op\tover bare µs\tallocs/op\tB/op\tof bare\trange\tof fastest\trange\t")
	for _, c := range contests {
		bare, rivals := c.named(bare).perOp, c.rivals()
		for _, s := range c.scores {
			ofBare, ofRivals := quotients(s.perOp, bare), quotients(s.perOp, rivals)
			fmt.Fprintf(t, "%s %s\t%.0f\t%.1f\t%.0f\t%.0f\t%.3f\t%.3f–%.3f\t%.3f\t%.3f–%.3f\t\n",
				c.trial, s.contender.name, median(s.perOp), median(c.over(s))/1e3, s.allocs, s.bytes,
				median(ofBare), quantile(ofBare, 0.1), quantile(ofBare, 0.9),
				median(ofRivals), quantile(ofRivals, 0.1), quantile(ofRivals, 0.9))
		}
	}
	return t.Flush()
}

// quantile returns the least of numbers that the share p of all do not exceed. Of a
// hundred short slices some are always lost to whatever else the machine does.
func quantile(numbers []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(numbers))
	return sorted[max(int(math.Ceil(p*float64(len(sorted)))), 1)-1]
}

func (t trial) String() string {
	if t.goroutines == 1 {
		return t.alg
	}
	return fmt.Sprintf("%s ×%d", t.alg, t.goroutines)
}

// named finds a score; an empty one if nobody is called so.
func (c contest) named(name string) score {
	for _, s := range c.scores {
		if s.contender.name == name {
			return s
		}
	}
	return score{}
}

// rivals is the time of the fastest rival in each round, whoever that was.
func (c contest) rivals() []float64 {
	var out []float64
	for _, s := range c.scores {
		switch {
		case !s.contender.rival:
		case out == nil:
			out = slices.Clone(s.perOp)
		default:
			for round, t := range s.perOp {
				out[round] = min(out[round], t)
			}
		}
	}
	return out
}

// over is what s took beyond the bare check, round by round, in nanoseconds.
func (c contest) over(s score) []float64 {
	bare := c.named(bare).perOp
	out := make([]float64, len(s.perOp))
	for round := range out {
		out[round] = s.perOp[round] - bare[round]
	}
	return out
}

// quotients divides a by b, round by round.
func quotients(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range out {
		out[i] = a[i] / b[i]
	}
	return out
}

// demands returns what c should have reached and did not.
func (c contest) demands() []string {
	if !c.trial.asserted {
		return nil
	}
	var missed []string
	miss := func(format string, args ...any) {
		missed = append(missed, fmt.Sprintf("verify %s: ", c.trial)+fmt.Sprintf(format, args...))
	}
	own, rivals := c.named(first), c.rivals()
	if over := median(c.over(own)); over > float64(maxOverBare) {
		miss("%.1f µs over the bare check, wanted %v", over/1e3, maxOverBare)
	}
	if ratio := median(quotients(own.perOp, rivals)); ratio > maxOfRivals {
		miss("%.3f of the fastest rival's time, wanted %.2f", ratio, maxOfRivals)
	}
	for _, s := range c.scores {
		if s.contender.rival && math.Round(own.allocs) >= math.Round(s.allocs) {
			miss("%.0f allocations, %s has %.0f", own.allocs, s.contender.name, s.allocs)
		}
	}
	if speedup := median(quotients(rivals, c.named(cached).perOp)); speedup < leastSpeedup {
		miss("cached %.1f × as fast as the fastest rival, wanted %g", speedup, leastSpeedup)
	}
	return missed
}
