package timeline

import (
	"encoding/xml"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
)

// TestAnyInstantsAreDrawn in a picture of bounded size that is well-formed: a store can be damaged, and a clock can be wrong by
// centuries.
func TestAnyInstantsAreDrawn(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		c := Chart{RotateEvery: pick(r, 0, -1, time.Second, 30*day, math.MaxInt64), Frozen: r.IntN(3) == 0}
		if now := anyTime(r); now != nil {
			c.Now = *now
		}
		for range r.IntN(6) {
			k := Key{Key: api.Key{
				KID: "k<&\"", Alg: pick(r, "EdDSA", "<"), Stage: pick(r, reserve, spare, active, retiring, gone, "<", ""),
				Publish: anyTime(r), Sign: anyTime(r), Stop: anyTime(r), Drop: anyTime(r),
			}}
			if r.IntN(4) == 0 {
				k.Revoked = anyTime(r)
			}
			c.Keys = append(c.Keys, k)
		}
		svg := SVG(c)
		if len(svg) > 80_000 || strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Fatalf("%+v is drawn with %d bytes:\n%.2000s", c, len(svg), svg)
		}
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
		}
	}
}

func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }

// anyTime returns nil, a time of this year, or one of 10,000 years.
func anyTime(r *rand.Rand) *time.Time {
	switch r.IntN(6) {
	case 0:
		return nil
	case 1:
		return new(time.Time)
	case 2:
		return new(time.Date(r.IntN(10_000), 1, 1+r.IntN(365), 0, 0, 0, 0, time.UTC))
	}
	return new(time.Date(2026, 1, 1, 0, 0, r.IntN(365*24*3600), 0, time.UTC))
}
