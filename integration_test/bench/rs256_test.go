package main

import (
	"strings"
	"testing"
	"time"
)

// TestRS256IsComparedByRequestsAndByProcessorTime: a ratio below its bound is named, whichever of the two it is.
func TestRS256IsComparedByRequestsAndByProcessorTime(t *testing.T) {
	even := func(n float64) []float64 { return []float64{n, n, n} }
	for _, tt := range []struct {
		requests, perCPU float64
		slowest          time.Duration // in milliseconds
		want             []string
	}{
		{requests: 140, perCPU: 140, slowest: 3},
		{requests: 120, perCPU: 140, slowest: 3, want: []string{"by requests 1.200 of Go floor, wanted at least 1.30"}},
		{requests: 140, perCPU: 120, slowest: 3, want: []string{"by processor time 1.200 of Go floor, wanted at least 1.30"}},
		{requests: 140, perCPU: 140, slowest: 4, want: []string{"p99 4ms is over 3 × p50 1ms"}},
		{requests: 90, perCPU: 90, slowest: 3, want: []string{"Go floor", "libcrypto floor", "oidc-provider", "Go floor", "libcrypto floor", "oidc-provider"}},
	} {
		c := rs256Cases()[0]
		c.keymill = totals{perSecond: even(tt.requests), perCPU: even(tt.perCPU), latencies: []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond, tt.slowest * time.Millisecond}}
		for _, name := range []string{goFloor, libcryptoFloor, oidcProvider} {
			*c.rivals[name] = totals{perSecond: even(100), perCPU: even(100)}
		}
		missed := c.missed()
		if len(missed) != len(tt.want) {
			t.Errorf("%+v: missed %q", tt, missed)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(missed[i], want) {
				t.Errorf("%+v: missed %q", tt, missed)
			}
		}
	}
}
