package requestid

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

const (
	trace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent = "00f067aa0ba902b7"
)

// TestOnlyAWholeTraceparentNamesATrace, in version 00 and in later ones.
func TestOnlyAWholeTraceparentNamesATrace(t *testing.T) {
	for _, valid := range []string{
		"00-" + trace + "-" + parent + "-01",
		"00-" + trace + "-" + parent + "-ff", // flags that this version does not know
		"01-" + trace + "-" + parent + "-01",
		"cc-" + trace + "-" + parent + "-00-what.comes-later",
		"fe-" + trace + "-" + parent + "-00-",
	} {
		if got := traceID(valid); got != trace {
			t.Errorf("%q: the trace is %q", valid, got)
		}
	}
	zeros := strings.Repeat("0", 32)
	for _, invalid := range []string{
		"", "00", "-", strings.Repeat("-", 55), trace,
		"ff-" + trace + "-" + parent + "-01",
		"00-" + trace + "-" + parent + "-01-",
		"00-" + trace + "-" + parent + "-01-more",
		"00-" + trace + "-" + parent + "-011",
		"cc-" + trace + "-" + parent + "-01.more",
		"cc-" + trace + "-" + parent + "-0",
		"cc-" + trace + "-" + parent + "-",
		"00-" + trace + "-" + parent + "-1",
		"00-" + trace + "-" + parent,
		"0-" + trace + "-" + parent + "-001",
		"00-" + zeros + "-" + parent + "-01",
		"00-" + trace + "-" + zeros[:16] + "-01",
		"00-" + strings.ToUpper(trace) + "-" + parent + "-01",
		"00-" + trace + "-" + strings.ToUpper(parent) + "-01",
		"CC-" + trace + "-" + parent + "-01",
		"00-" + trace + "-" + parent + "-0A",
		"00-" + trace[1:] + "g-" + parent + "-01",
		"00-" + trace + "-" + parent[1:] + "\n-01",
		"0x-" + trace + "-" + parent + "-01",
		"00_" + trace + "_" + parent + "_01",
		"00-" + trace + parent + "--01",
		"00-" + trace[1:] + "-" + parent + "-01-",
		" 00-" + trace + "-" + parent + "-01",
		"00-" + trace + "-" + parent + "-01,00-" + trace + "-" + parent + "-01",
	} {
		if got := traceID(invalid); got != "" {
			t.Errorf("%q: the trace is %q", invalid, got)
		}
	}
}

// hostile are values that would harm a log or its reader.
var hostile = []string{
	"", " ", "a b", "a\tb", "a\rb", "a\nlevel=ERROR msg=forged", "a\r\nb", "\x1b[31mred", "\x00", "\x7f", `a"b`, "a'b", `a\b`, "a`b", "a,b", "a;b",
	"{}", "<b>", "$(id)", "%0a", "é", "\u202e", "日本", "\U0001f600", "\xff", strings.Repeat("a", maxRequestID+1), strings.Repeat("a", 10<<10),
}

// TestAnIDIsShortAndHarmless, or it is ignored.
func TestAnIDIsShortAndHarmless(t *testing.T) {
	for _, valid := range []string{
		"a", "7b2e8a3c-0d6f-4f1e-9a51-2f0c6d8b7e90", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "Root=1-67891233-abcdef012345678912345678", "dGVzdA==", "a.b_c~d:e/f+g@h",
		strings.Repeat("a", maxRequestID),
	} {
		if got := requestID(valid); got != valid {
			t.Errorf("%q is read as %q", valid, got)
		}
	}
	for _, invalid := range hostile {
		if got := requestID(invalid); got != "" {
			t.Errorf("%.40q is read as %q", invalid, got)
		}
	}
}

// TestNoHeaderForgesALine or any part of one, in both formats: a line has its ids or is as without the headers.
//
// R104.
func TestNoHeaderForgesALine(t *testing.T) {
	for _, json := range []bool{false, true} {
		bare := line(t, json, http.Header{})
		for _, v := range hostile {
			for _, header := range []http.Header{{"X-Request-Id": {v}}, {"Traceparent": {v}}, {"Traceparent": {"00-" + trace + "-" + parent + "-01" + v + "x"}}} {
				if got := line(t, json, header); got != bare {
					t.Errorf("%.80q logs %q", header, got)
				}
			}
		}
	}
}

// TestAHeaderThatIsGivenTwiceIsIgnored, also with two equal values. The other header counts.
func TestAHeaderThatIsGivenTwiceIsIgnored(t *testing.T) {
	parents := "00-" + trace + "-" + parent + "-01"
	for _, tt := range []struct {
		header http.Header
		want   string
	}{
		{http.Header{"X-Request-Id": {"a"}, "Traceparent": {parents}}, "trace_id=" + trace + " request_id=a"},
		{http.Header{"X-Request-Id": {"a", "b"}, "Traceparent": {parents}}, "trace_id=" + trace},
		{http.Header{"X-Request-Id": {"a", "a"}, "Traceparent": {parents}}, "trace_id=" + trace},
		{http.Header{"X-Request-Id": {"a"}, "Traceparent": {parents, parents}}, "request_id=a"},
		{http.Header{"X-Request-Id": {"", "a"}, "Traceparent": {}}, ""},
		{http.Header{"Request-Id": {"a"}, "Tracestate": {"a=b"}}, ""},
	} {
		want := strings.TrimSpace("level=INFO msg=refused err=wrong "+tt.want) + "\n"
		if got := line(t, false, tt.header); got != want {
			t.Errorf("%v logs %q, want %q", tt.header, got, want)
		}
	}
}

// TestOnlyTheLinesOfARequestHaveItsIDs, also those of loggers that were derived.
func TestOnlyTheLinesOfARequestHaveItsIDs(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(NewHandler(slog.NewJSONHandler(&out, nil)))
	r := Add(&http.Request{Header: http.Header{"X-Request-Id": {"abc"}}})
	log.InfoContext(r.Context(), "one", "err", "x")
	log.With("a", 1).InfoContext(r.Context(), "two")
	log.WithGroup("g").InfoContext(r.Context(), "three")
	log.Info("four")
	log.DebugContext(r.Context(), "hidden")
	var got []string
	for text := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		group, _ := m["g"].(map[string]any)
		got = append(got, fmt.Sprint(m["msg"], m["request_id"], group["request_id"]))
	}
	if want := "[oneabc<nil> twoabc<nil> three<nil>abc four<nil><nil>]"; strings.ReplaceAll(fmt.Sprint(got), " <nil>", "<nil>") != want {
		t.Errorf("logged %v", got)
	}
	if bare := (&http.Request{Header: http.Header{"X-Request-Id": {"a b"}}}); Add(bare) != bare {
		t.Error("a request without ids was copied")
	}
}

// line returns a line that is logged for a request with the header, without its time.
func line(t *testing.T, json bool, header http.Header) string {
	t.Helper()
	var out bytes.Buffer
	opts := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	var next slog.Handler = slog.NewTextHandler(&out, opts)
	if json {
		next = slog.NewJSONHandler(&out, opts)
	}
	slog.New(NewHandler(next)).InfoContext(Add(&http.Request{Header: header}).Context(), "refused", "err", "wrong")
	return out.String()
}

func FuzzAdd(f *testing.F) {
	f.Add("00-"+trace+"-"+parent+"-01", "abc")
	f.Fuzz(func(t *testing.T, traceparent, id string) {
		if got := traceID(traceparent); got != "" && (len(got) != 32 || !isHex(got) || isZero(got)) {
			t.Errorf("%q is the trace %q", traceparent, got)
		}
		if got := requestID(id); got != "" && (got != id || len(got) > maxRequestID || strings.ContainsAny(got, "\"'\\ \r\n\x1b")) {
			t.Errorf("%q is the id %q", id, got)
		}
	})
}
