package plot

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
)

var update = flag.Bool("update", false, "write the golden files again")

// hours are the pictures in testdata.
func hours() map[string][]api.ActivityMinute {
	of := func(count int, set func(i int, m *api.ActivityMinute)) []api.ActivityMinute {
		list := make([]api.ActivityMinute, count)
		for i := range list {
			list[i].Begin = time.Date(2026, 11, 28, 11, 37+i, 0, 0, time.UTC)
			set(i, &list[i])
		}
		return list
	}
	return map[string][]api.ActivityMinute{
		"none":  nil,
		"quiet": of(60, func(int, *api.ActivityMinute) {}),
		"first": of(1, func(_ int, m *api.ActivityMinute) { m.Tokens, m.Refusals = 3, 1 }),
		"busy": of(60, func(i int, m *api.ActivityMinute) {
			m.Tokens, m.Refusals = uint64(900+i*i), uint64(i%7)
			if i == 41 {
				m.Reuses = 1
			}
		}),
		"longer":   of(90, func(i int, m *api.ActivityMinute) { m.Tokens = uint64(i) }),
		"midnight": of(60, func(i int, m *api.ActivityMinute) { m.Begin, m.Tokens = m.Begin.Add(12*time.Hour), 1 }),
		"huge":     of(60, func(i int, m *api.ActivityMinute) { m.Tokens, m.Refusals = math.MaxUint64, uint64(1)<<(i%64) }),
	}
}

func TestTheSamePictureForever(t *testing.T) {
	for name, list := range hours() {
		path := filepath.Join("testdata", name+".svg")
		got := SVG(list)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; look at the change, then run the test with -update", path)
		}
	}
}

// TestAPictureIsWellFormedAndSmall.
func TestAPictureIsWellFormedAndSmall(t *testing.T) {
	for name, list := range hours() {
		svg := SVG(list)
		if len(svg) > 6000 || strings.Contains(svg, "--") || strings.Contains(svg, "NaN") {
			t.Errorf("%s has %d bytes:\n%s", name, len(svg), svg)
		}
		for d := xml.NewDecoder(strings.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}
