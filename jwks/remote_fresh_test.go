package jwks

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestFreshnessIsWhatTheServerSaysWithinAnHour(t *testing.T) {
	for _, tt := range []struct {
		cacheControl string // lines, cut at |
		age          time.Duration
		want         time.Duration
	}{
		{"max-age=60", 0, time.Minute},
		{"public, max-age=300", 0, 5 * time.Minute},
		{"MAX-AGE=60", 0, time.Minute},
		{`max-age="60"`, 0, time.Minute},
		{"\t max-age=60 ,", 0, time.Minute},
		{"max-age=060", 0, time.Minute},
		{"max-age=1", 0, time.Second}, // the smallest value

		// Age counts, and a set that arrives too old is fetched again soon.
		{"max-age=60", 20 * time.Second, 40 * time.Second},
		{"max-age=60", 59 * time.Second, time.Second},
		{"max-age=60", 60 * time.Second, 10 * time.Second},
		{"max-age=60", 1 << 31 * time.Second, 10 * time.Second},
		{"max-age=86400", 23*time.Hour + 50*time.Minute, 10 * time.Minute},

		// Never more than an hour.
		{"max-age=3600", 0, time.Hour},
		{"max-age=3601", 0, time.Hour},
		{"max-age=86400", 2 * time.Hour, time.Hour},
		{"max-age=2147483648", 0, time.Hour},
		{"max-age=18446744073709551617", 0, time.Hour}, // 2^64 + 1 must not become 1
		{"max-age=" + strings.Repeat("9", 4000), 0, time.Hour},

		// The smallest of several.
		{"max-age=60, max-age=30", 0, 30 * time.Second},
		{"max-age=30|max-age=60", 0, 30 * time.Second},
		{"max-age=60|no-store", 0, 10 * time.Second},

		// Must not be stored.
		{"no-store", 0, 10 * time.Second},
		{"no-cache", 0, 10 * time.Second},
		{"No-Cache, max-age=60", 0, 10 * time.Second},
		{`no-cache="Set-Cookie", max-age=60`, 0, 10 * time.Second},
		{"max-age=0", 0, 10 * time.Second},
		{"max-age=0, max-age=x", 0, 10 * time.Second},

		// Nothing that can be read.
		{"", 0, 5 * time.Minute},
		{"", time.Hour, 5 * time.Minute},
		{"public", 0, 5 * time.Minute},
		{"max-age", 0, 5 * time.Minute},
		{"max-age=", 0, 5 * time.Minute},
		{`max-age=""`, 0, 5 * time.Minute},
		{`max-age="60`, 0, 5 * time.Minute},
		{"max-age=-1", 0, 5 * time.Minute},
		{"max-age=+60", 0, 5 * time.Minute},
		{"max-age=1e3", 0, 5 * time.Minute},
		{"max-age=60.5", 0, 5 * time.Minute},
		{"max-age = 60", 0, 5 * time.Minute},
		{"max-age=6\xd9\xa0", 0, 5 * time.Minute},
		{"max-ages=60", 0, 5 * time.Minute},
		{"s-maxage=60", 0, 5 * time.Minute}, // for shared caches
		{"max-age=x, max-age=60", 0, time.Minute},

		// Text between quotes is not a directive.
		{`private="a, max-age=9", max-age=60`, 0, time.Minute},
		{`x="\", max-age=9", max-age=60`, 0, time.Minute},
		{`x="no-store`, 0, 5 * time.Minute},
		{`x="open|max-age=60`, 0, time.Minute}, // an open quote ends with its line
		{`x="\`, 0, 5 * time.Minute},
		{",,,=,\"", 0, 5 * time.Minute},
	} {
		if got := freshFor(strings.Split(tt.cacheControl, "|"), tt.age); got != tt.want {
			t.Errorf("%.60q at age %v: fresh for %v, want %v", tt.cacheControl, tt.age, got, tt.want)
		}
	}
}

func TestAgeIsTheFirstValue(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  time.Duration
	}{
		{nil, 0},
		{[]string{"7"}, 7 * time.Second},
		{[]string{" 7 , 9"}, 7 * time.Second},
		{[]string{"7", "9"}, 7 * time.Second},
		{[]string{"-7"}, 0},
		{[]string{"soon"}, 0},
		{[]string{"99999999999999999999"}, 1 << 31 * time.Second},
	} {
		if got := readAge(http.Header{"Age": tt.lines}); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.lines, got, tt.want)
		}
	}
}

func TestOnlyATagThatCanBeSentBackIsKept(t *testing.T) {
	for tag, good := range map[string]bool{
		`"a"`: true, `W/"a"`: true, `""`: true, `"a,b/\é"`: true,
		``: false, `a`: false, `"`: false, `w/"a"`: false, `"a"b"`: false, `"a b"`: false,
		"\"a\x00b\"": false, "\"a\x7fb\"": false, "\"a\r\nX: y\"": false,
		`"` + strings.Repeat("a", 255) + `"`: false,
	} {
		if got := entityTag(http.Header{"Etag": {tag}}); (got == tag && got != "") != good || !good && got != "" {
			t.Errorf("%q: kept %q", tag, got)
		}
	}
}

// FuzzCacheControl checks that a set is fresh for a second to an hour whatever the server says,
// and never longer than a max-age alone allows.
func FuzzCacheControl(f *testing.F) {
	f.Add(`private="a, max-age=9", max-age=60`, "7")
	f.Add(`x="\`, "")
	f.Fuzz(func(t *testing.T, line, age string) {
		got := freshFor([]string{line}, readAge(http.Header{"Age": {age}}))
		if got < time.Second || got > time.Hour {
			t.Errorf("%q at age %q: fresh for %v", line, age, got)
		}
		if more := freshFor([]string{line, "max-age=20"}, 0); more > 20*time.Second {
			t.Errorf("%q hides max-age=20: %v", line, more)
		}
	})
}
