package timeline

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"keymill/issuer/api"
)

var update = flag.Bool("update", false, "write the golden files again")

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// key returns a key with four instants, as offsets from noon. "" is an instant that is not determined.
func key(alg, kid, stage string, offsets ...string) Key {
	k := Key{Key: api.Key{Alg: alg, KID: kid, Stage: stage}}
	for i, instant := range []**time.Time{&k.Publish, &k.Sign, &k.Stop, &k.Drop} {
		if i < len(offsets) && offsets[i] != "" {
			*instant = new(noon.Add(offset(offsets[i])))
		}
	}
	return k
}

// offset reads a duration that can be in days.
func offset(s string) time.Duration {
	if days, found := strings.CutSuffix(s, "d"); found {
		var n float64
		if _, err := fmt.Sscan(days, &n); err != nil {
			panic(err)
		}
		return time.Duration(n * float64(day))
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}

func revokedAt(k Key, at string) Key {
	k.Revoked = new(noon.Add(offset(at)))
	return k
}

// charts are the pictures in testdata.
func charts() map[string]Chart {
	month := 30 * day
	steady := []Key{
		key("EdDSA", "a3hVq0dQx1Zt5n0cK9s8rE4mWv7yU2pL6jB1iG3oTfk", "retiring", "-60d", "-30.001d", "-0.001d", "0.02d"),
		key("EdDSA", "b7TzL2mQ5wXc8vN1kR4sJ6hD9gF3aP0oYuEiVtBqZxM", "active", "-30.001d", "-0.001d", "29.999d", "30.02d"),
		key("EdDSA", "c0KpW9nR6tYs3bH8jM5xD2fG7lQ4vZ1aUoEiCuTrNqB", "spare", "-0.001d", "29.999d"),
		key("EdDSA", "d5FjX8qL1eVw4zC7nB0mT3kS6rG9hP2yAoIiUuOeRtK", "reserve"),
		key("RS256", "e2MnB5vC8xZ1aS4dF7gH0jK3lQ6wE9rT2yU5iO8pAsD", "active", "-40d", "-11d", "19d", "19.02d"),
		key("RS256", "f9QwE6rT3yU0iO7pA4sD1fG8hJ5kL2zX9cV6bN3mQwE", "spare", "-11d", "19d"),
		key("RS256", "g4AsD7fG0hJ3kL6zX9cV2bN5mQ8wE1rT4yU7iO0pAsD", "reserve"),
	}
	year := append([]Key{}, steady...)
	year = append(year, revokedAt(key("EdDSA", "old-1", "revoked", "-71d", "-41d", "-31d", "-30d"), "-50d"))
	var sixty []Key
	for n := range 60 {
		sixty = append(sixty, key("RS256", fmt.Sprintf("imported-%02d", n), "retiring",
			fmt.Sprintf("%dd", -n), "", fmt.Sprintf("%dd", -n), fmt.Sprintf("%dd", 60-n)))
	}
	hostile := []Key{
		key("EdDSA", strings.Repeat("<script>alert(1)</script>&\"'", 8), "active", "-1d", "-1d", "1d", "2d"),
		key("EdDSA", "\u202egnp.exe\x1b[31m\x00\u2066\ufeff", "spare", "-1d", "1d"),
		key("</text><b>", strings.Repeat("é", 200), "<i>", "-1d", "-1d"),
	}
	return map[string]Chart{
		"fresh": {RotateEvery: month, Now: noon, Keys: []Key{
			key("EdDSA", "first", "active", "0s", "0s", "30d", "30.02d"), key("EdDSA", "second", "spare", "0s", "30d"), key("EdDSA", "third", "reserve"),
		}},
		"year": {RotateEvery: month, Now: noon, Keys: year},
		"revoked": {RotateEvery: month, Now: noon, Keys: []Key{
			revokedAt(key("EdDSA", "stolen", "revoked", "-40d", "-10d", "20d"), "-1h"),
			key("EdDSA", "next", "active", "-10d", "-1h", "29.9d", "30d"),
			key("EdDSA", "after", "spare", "-1h", "29.9d"), key("EdDSA", "later", "reserve"),
		}},
		"imported": {RotateEvery: month, Now: noon, Keys: []Key{
			key("RS256", "verify-only", "retiring", "-2d", "", "-2d", "12d"),
			key("RS256", "own", "active", "-5d", "-5d", "2d", "2.02d"),
			key("RS256", "imported-1", "spare", "-2d", "2d", "32d", "32.02d"),
			key("RS256", "imported-2", "spare", "-1d", "32d"), key("RS256", "reserve", "reserve"),
		}},
		"sixty":   {RotateEvery: month, Now: noon, Keys: sixty},
		"frozen":  {RotateEvery: month, Now: noon, Frozen: true, Keys: steady},
		"unknown": {Keys: []Key{key("EdDSA", "x", "active", "-1h", "-1h"), key("EdDSA", "y", "spare"), key("RS256", "z", "reserve")}},
		"trial": {RotateEvery: 12 * time.Second, Now: noon, Keys: []Key{
			key("EdDSA", "one", "retiring", "-30s", "-26s", "-14s", "1m"), key("EdDSA", "two", "retiring", "-26s", "-14s", "-2s", "72s"),
			key("EdDSA", "three", "active", "-14s", "-2s", "10s", "84s"), key("EdDSA", "four", "spare", "-2s", "10s"), key("EdDSA", "five", "reserve"),
		}},
		"none":    {RotateEvery: month, Now: noon},
		"gone":    {RotateEvery: month, Now: noon, Keys: []Key{key("EdDSA", "old", "retiring", "-50d", "-40d", "-10d", "-9d"), key("EdDSA", "only", "active", "-40d", "-10d")}},
		"hostile": {RotateEvery: day, Now: noon, Keys: hostile},
	}
}

func TestTheSamePictureForever(t *testing.T) {
	for name, chart := range charts() {
		path := filepath.Join("testdata", name+".svg")
		got := SVG(chart)
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

// TestNoTextOfAKeyIsMarkup: hostile kids are text, are bounded, and turn no direction.
func TestNoTextOfAKeyIsMarkup(t *testing.T) {
	for name, chart := range charts() {
		svg := SVG(chart)
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			switch token := token.(type) {
			case xml.StartElement:
				if e := token.Name.Local; !strings.Contains(" svg title desc defs pattern rect circle path text g ", " "+e+" ") {
					t.Errorf("%s has an element %s", name, e)
				}
			case xml.CharData:
				if n := len([]rune(string(token))); n > 600 {
					t.Errorf("%s has a text of %d characters", name, n)
				}
			}
		}
		if i := strings.IndexFunc(svg, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%s has the character %q", name, svg[i:i+4])
		}
	}
	if n := len(SVG(charts()["sixty"])); n > 22_000 {
		t.Errorf("60 keys are drawn in %d bytes", n)
	}
}

// TestWhatIsPlannedFollowsThePolicy: the spare signs for one rotation, the reserve follows it.
func TestWhatIsPlannedFollowsThePolicy(t *testing.T) {
	chart := charts()["fresh"]
	keys := chart.rings()[0].keys
	for i, want := range []struct{ publish, sign, stop, drop string }{
		{"0s", "0s", "30d", "30.02d"}, {"0s", "30d", "60d", "60.02d"}, {"30d", "60d", "", ""},
	} {
		planned := key("EdDSA", "", "", want.publish, want.sign, want.stop, want.drop)
		for j, pair := range [][2]*time.Time{{keys[i].Publish, planned.Publish}, {keys[i].Sign, planned.Sign}, {keys[i].Stop, planned.Stop}, {keys[i].Drop, planned.Drop}} {
			if got, want := pair[0], pair[1]; (got == nil) != (want == nil) || got != nil && !got.Equal(*want) {
				t.Errorf("key %d, instant %d: %v, want %v", i, j, got, want)
			}
		}
	}
	if chart.Keys[1].Stop != nil || chart.Keys[2].Publish != nil {
		t.Error("the plan was written into the caller's keys")
	}
	chart.Frozen = true
	if keys := chart.rings()[0].keys; keys[2].Publish != nil {
		t.Error("something is planned although the clock is frozen")
	}
}

func TestTicksAreRoundAndFew(t *testing.T) {
	for width := 2 * time.Second; width < 200*365*day; width += width / 3 * 2 {
		list := ticks(noon, noon.Add(width))
		if len(list) < 2 || len(list) > maxTicks+1 {
			t.Errorf("%v has %d ticks", width, len(list))
		}
		for i := 1; i < len(list); i++ {
			if !list[i-1].at.Before(list[i].at) || list[i-1].label == list[i].label {
				t.Errorf("%v has the ticks %v and %v", width, list[i-1], list[i])
			}
		}
	}
}
