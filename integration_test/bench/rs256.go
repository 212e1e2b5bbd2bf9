package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// The servers that Keymill is compared with in the group rs256.
const goFloor, libcryptoFloor, oidcProvider = "Go floor", "libcrypto floor", "oidc-provider"

// An rs256Case is one scenario of the group rs256 at one number of connections. It has the sum of all rounds.
type rs256Case struct {
	name        string
	connections int
	caller      func(target) caller
	bounds      map[string]float64 // rival → the lowest ratio to it, by requests and by processor time; 0 is none
	spread      float64            // the highest quotient of p99 and p50; 0 is none

	keymill totals
	rivals  map[string]*totals
}

func rs256Cases() (all []*rs256Case) {
	for _, connections := range concurrencies() {
		all = append(all, &rs256Case{
			name: "client_credentials RS256 through libcrypto", connections: connections, caller: tokenCaller(audienceRSA),
			bounds: map[string]float64{goFloor: 1.3, libcryptoFloor: 0.93, oidcProvider: 1},
		})
	}
	for _, connections := range concurrencies() {
		all = append(all, &rs256Case{
			name: "refresh RS256 through libcrypto", connections: connections, caller: refreshCaller(audienceRSA),
			bounds: map[string]float64{goFloor: 1.2, libcryptoFloor: 0},
		})
	}
	for _, c := range all {
		c.rivals = map[string]*totals{}
		for name := range c.bounds {
			c.rivals[name] = new(totals)
		}
		if _, slow := c.bounds[oidcProvider]; slow && c.connections == 16 {
			c.spread = 3
		}
	}
	return all
}

// rs256Plan has the turns of each round. In a turn each server has one slice.
func (o options) rs256Plan() (p plan, rounds int) {
	if o.quick {
		return plan{slices: 2, slice: 150 * time.Millisecond}, 1
	}
	return plan{slices: 6, slice: 400 * time.Millisecond}, 4
}

// measureRS256 compares Keymill, signing with libcrypto, with the floors and with oidc-provider.
func measureRS256(o options, w io.Writer) (missed []string, err error) {
	p, rounds := o.rs256Plan()
	all := rs256Cases()
	binary, remove, err := buildLibcrypto()
	if err != nil {
		return nil, err
	}
	defer remove()
	for range rounds {
		if err := measureRS256Once(binary, p, all); err != nil {
			return nil, err
		}
	}
	for _, c := range all {
		missed = append(missed, c.missed()...)
	}
	return missed, printRS256(w, all)
}

// measureRS256Once does one round with servers of its own.
func measureRS256Once(binary string, p plan, all []*rs256Case) (err error) {
	s, err := startRS256(binary)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return err
	}
	for _, c := range all {
		if err := c.round(s, p); err != nil {
			return fmt.Errorf("%s at %d connections: %w", c.name, c.connections, err)
		}
	}
	return nil
}

// A lane is a server of the group with the load on it.
type lane struct {
	target target
	caller func(target) caller
	totals *totals
	load   *load
}

// round loads the servers in turns, never two of them at once, in an order that rotates.
func (c *rs256Case) round(s *rs256Servers, p plan) error {
	lanes := []lane{{target: s.keymill, caller: c.caller, totals: &c.keymill}}
	for _, name := range c.names() {
		l := lane{target: s.rivals[name], caller: c.caller, totals: c.rivals[name]}
		if name == oidcProvider {
			l.caller = resourceCaller
		}
		lanes = append(lanes, l)
	}
	for i := range lanes {
		l := &lanes[i]
		var err error
		if l.load, err = dial(l.target.address, c.connections, func() caller { return l.caller(l.target) }); err != nil {
			return err
		}
		defer l.load.close()
		if _, err := l.load.run(p.slice / 2); err != nil { // warm up, not counted
			return err
		}
	}
	for turn := range p.slices {
		for _, i := range order(turn, len(lanes)) {
			if err := lanes[i].totals.add(lanes[i].load, lanes[i].target.pid, p.slice); err != nil {
				return err
			}
		}
	}
	return nil
}

// names returns the rivals of the case in the order of the table.
func (c *rs256Case) names() (all []string) {
	for _, name := range []string{goFloor, libcryptoFloor, oidcProvider} {
		if c.rivals[name] != nil {
			all = append(all, name)
		}
	}
	return all
}

// missed returns the bounds that the case does not keep.
func (c *rs256Case) missed() (out []string) {
	for _, name := range c.names() {
		rival := c.rivals[name]
		for what, ratios := range map[string][]float64{
			"requests":       quotients(c.keymill.perSecond, rival.perSecond),
			"processor time": quotients(c.keymill.perCPU, rival.perCPU),
		} {
			if ratio := median(ratios); ratio < c.bounds[name] {
				out = append(out, fmt.Sprintf("%s at %d: by %s %.3f of %s, wanted at least %.2f", c.name, c.connections, what, ratio, name, c.bounds[name]))
			}
		}
	}
	p50, p99 := percentile(c.keymill.latencies, 0.50), percentile(c.keymill.latencies, 0.99)
	if c.spread > 0 && float64(p99) > c.spread*float64(p50) {
		out = append(out, fmt.Sprintf("%s at %d: p99 %v is over %g × p50 %v", c.name, c.connections,
			p99.Round(time.Microsecond), c.spread, p50.Round(time.Microsecond)))
	}
	slices.Sort(out)
	return out
}

func printRS256(w io.Writer, all []*rs256Case) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "scenario\tconns\tserver/s\tp50 µs\tp99 µs\tcpu µs\tagainst\tits/s\tp50\tp99\tcpu\tratio\tmiddle\tcpu ratio\tmiddle\tbound\tturns\t")
	for _, c := range all {
		for _, name := range c.names() {
			rival := c.rivals[name]
			ratios := slices.Sorted(slices.Values(quotients(c.keymill.perSecond, rival.perSecond)))
			cpu := slices.Sorted(slices.Values(quotients(c.keymill.perCPU, rival.perCPU)))
			fmt.Fprintf(t, "%s\t%d\t%.0f\t%d\t%d\t%.1f\t%s\t%.0f\t%d\t%d\t%.1f\t%.3f\t%.2f–%.2f\t%.3f\t%.2f–%.2f\t%.2f\t%d\t\n",
				c.name, c.connections, median(c.keymill.perSecond),
				percentile(c.keymill.latencies, 0.50).Microseconds(), percentile(c.keymill.latencies, 0.99).Microseconds(), microseconds(c.keymill.cpuPerRequest()),
				name, median(rival.perSecond),
				percentile(rival.latencies, 0.50).Microseconds(), percentile(rival.latencies, 0.99).Microseconds(), microseconds(rival.cpuPerRequest()),
				median(ratios), ratios[len(ratios)/4], ratios[len(ratios)*3/4], median(cpu), cpu[len(cpu)/4], cpu[len(cpu)*3/4],
				c.bounds[name], len(ratios))
		}
	}
	return t.Flush()
}
