package main

import (
	"fmt"
	"io"
)

// The bound of --assert for groups with rounds: how much more processor time the first server may take for a request.
const maxRoundsRatio = 1.05

const roundConnections = 16

// repeated are the scenarios of a group that is measured in rounds. Each round has servers of its own, because two servers
// of one build differ by some percent for as long as they run: by where their memory is, for example. In
// one round that is an error of every slice, and only other processes show it.
type repeated []*repeatedResult

// A repeatedResult is the sum of several rounds.
type repeatedResult struct {
	result
	rounds []float64 // the median of the ratios of processor time in each
}

func (all *repeated) add(sc scenario) {
	*all = append(*all, &repeatedResult{result: result{scenario: sc, connections: roundConnections}})
}

// round compares two servers in each scenario.
func (all repeated) round(first, second target, p plan) error {
	for _, one := range all {
		r, err := compare(one.scenario, roundConnections, first, second, p)
		if err != nil {
			return err
		}
		one.addRound(r)
	}
	return nil
}

func (m *repeatedResult) addRound(r result) {
	m.rounds = append(m.rounds, median(r.cpuRatios()))
	m.server.join(r.server)
	m.floor.join(r.floor)
}

// print prints the results, and the median of the rounds of each with its confidence interval. what names the group in
// their lines, and than is what the processor time is compared with. It returns the bounds that are missed.
func (all repeated) print(w io.Writer, what, than string) (missed []string, err error) {
	var results []result
	for _, r := range all {
		missed = append(missed, r.missed(than)...)
		r.scenario.name += ", " + what
		results = append(results, r.result)
	}
	if err := printResults(w, results); err != nil {
		return missed, err
	}
	for _, r := range all {
		low, high := medianWithin(r.rounds)
		fmt.Fprintf(w, "%s: cpu ratio %.3f, the median of %d rounds (95 %%: %.3f to %.3f)\n", r.scenario.name, median(r.rounds), len(r.rounds), low, high)
	}
	return missed, nil
}

// missed returns whether the ratio of processor time is over its bound, or may be.
func (m repeatedResult) missed(than string) []string {
	ratio := median(m.rounds)
	low, high := medianWithin(m.rounds)
	switch {
	case ratio > maxRoundsRatio:
		return []string{fmt.Sprintf("%s: processor time %.3f of %s, wanted at most %.2f", m.scenario.name, ratio, than, maxRoundsRatio)}
	case high > maxRoundsRatio:
		return []string{fmt.Sprintf("%s: the rounds show only that the median is %.3f to %.3f, and the bound is %.2f; use a quieter machine",
			m.scenario.name, low, high, maxRoundsRatio)}
	}
	return nil
}
