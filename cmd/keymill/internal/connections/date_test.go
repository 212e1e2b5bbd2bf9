package connections

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestAnAnswerHasTheDateWhenItBegins: one that shares the text of the second with others, and that of a clock that was set
// back.
func TestAnAnswerHasTheDateWhenItBegins(t *testing.T) {
	var d dates
	at := time.Unix(1_800_000_000, 0)
	for _, step := range []time.Duration{0, 999 * time.Millisecond, time.Millisecond, time.Hour, -2 * time.Hour, 0} {
		at = at.Add(step)
		want := []string{at.UTC().Format(http.TimeFormat)}
		if got := d.at(at.In(time.FixedZone("", 3600))); !slices.Equal(got, want) {
			t.Errorf("at %s: %q", at, got)
		}
	}
	w := newWorld(t, 10, nil)
	conn := w.dial()
	for _, path := range []string{"/", "/large", "/"} {
		begun := time.Now().Truncate(time.Second)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 2<<20), nil)
		w.must(err)
		dated, err := http.ParseTime(resp.Header.Get("Date"))
		if lines := resp.Header["Date"]; err != nil || len(lines) != 1 || dated.Before(begun) || dated.After(time.Now()) {
			t.Errorf("%s: %q, %v", path, lines, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
}
