package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"keymill/storage"
)

// TestTextOfClientsIsEscaped: it is read back unchanged, but its stored form cannot mislead
// a terminal or a program that reads lines.
//
// R104.
func TestTextOfClientsIsEscaped(t *testing.T) {
	for _, text := range []string{
		"a\r\nb", "\x1b[31mred\x1b[0m", "\u009b31m", "\x7f\x00\x08", "\u202egnp.exe", "\u2028\u2029",
		`"quoted" \ <b>&`, "naïve 😀", "tab\t",
	} {
		s := openStore(t)
		e := Event{Action: text, By: text, Target: text, Detail: map[string]string{text: text}}
		if err := s.Update(t.Context(), func(tx storage.Tx) error { return Append(tx, noon, e) }); err != nil {
			t.Fatal(err)
		}
		wantPrintable(t, s)
		chain(t, s, 1)
		wantPrintable(t, s)
		r, err := last(t.Context(), s, 1)
		if err != nil || len(r) != 1 {
			t.Fatalf("%q: %v", text, err)
		}
		if r[0].Action != text || r[0].By != text || r[0].Target != text || r[0].Detail[text] != text {
			t.Errorf("%q was read back as %+v", text, r[0])
		}
	}
}

func wantPrintable(t *testing.T, s storage.Store) {
	t.Helper()
	if err := s.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "\x7f") {
			if err != nil {
				return err
			}
			for _, b := range e.Value {
				if b < ' ' || b > '~' {
					t.Errorf("%s contains byte %#x: %s", e.Key, b, e.Value)
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestARecordStaysUnder4KiB whatever its event holds, and says that facts are missing.
func TestARecordStaysUnder4KiB(t *testing.T) {
	for _, filler := range []string{"x", "\x1b", "é", "😀", "x\xff", `"`, "<", "\\"} {
		long := strings.Repeat(filler, 100_000)
		e := Event{Action: long, By: long, Target: long, Detail: map[string]string{}}
		for i := range 100 {
			e.Detail[fmt.Sprint(i)+long] = long
		}
		few := Event{Action: "few", Detail: map[string]string{"a": long, "b": "lost"}}
		many := Event{Action: "many", Detail: map[string]string{}}
		for i := range 1000 {
			many.Detail[fmt.Sprint(i)] = ""
		}
		for _, e := range []Event{e, few, many} {
			r := bounded(e)
			r.Seq, r.Time, r.Previous = 1<<64-1, time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), emptyHead().Hash
			b, err := encode(r)
			if err != nil || len(b) >= 4<<10 {
				t.Errorf("%q: %d bytes, %v", filler, len(b), err)
			}
			var back Record
			if err := json.Unmarshal(b, &back); err != nil {
				t.Errorf("%q: %v", filler, err)
			}
			if _, marked := r.Detail[cutMark]; !marked && !strings.HasSuffix(r.Detail["a"], cutMark) {
				t.Errorf("%q: the record does not say that facts are missing", filler)
			}
		}
	}
	for in, want := range map[string]string{"short": "short", strings.Repeat("x", 70): strings.Repeat("x", 61) + "..."} {
		if got := cut(in, maxAction); got != want {
			t.Errorf("cut %q to %q, want %q", in, got, want)
		}
	}
}

// TestEqualRecordsHaveEqualBytes, because the chain hashes them.
func TestEqualRecordsHaveEqualBytes(t *testing.T) {
	r := Record{Seq: 7, Time: noon, Action: "key.rotate", By: "uid:0", Target: "kid",
		Detail: map[string]string{"z": "é", "a": "<", "m": "1"}, Previous: "00"}
	const want = `{"seq":7,"time":"2026-03-01T12:00:00Z","action":"key.rotate","by":"uid:0","target":"kid",` +
		`"detail":{"a":"\u003c","m":"1","z":"\u00e9"},"previous":"00"}`
	for range 20 {
		if b, err := encode(r); string(b) != want || err != nil {
			t.Fatalf("got %s, %v", b, err)
		}
	}
}

// FuzzRecord: any strings make a record that is below 4 KiB and printable, and encoding it
// again gives the same bytes.
func FuzzRecord(f *testing.F) {
	f.Add("key.rotate", "uid:0", "kid", "name", "value")
	f.Add("\x1b[31m", "\u009b", "\xff\xfe", "😀", "a\r\nb<>&\"\\")
	f.Add("two names that are not UTF-8", "", "", "\x9f", "\xb1")
	f.Fuzz(func(t *testing.T, action, by, target, name, value string) {
		r := bounded(Event{Action: action, By: by, Target: target, Detail: map[string]string{name: value, value: name}})
		r.Seq, r.Time, r.Previous = 1<<64-1, noon, emptyHead().Hash
		b, err := encode(r)
		if err != nil || len(b) >= 4<<10 {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		for _, c := range b {
			if c < ' ' || c > '~' {
				t.Fatalf("byte %#x in %s", c, b)
			}
		}
		var back Record
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if again, err := encode(back); string(again) != string(b) || err != nil {
			t.Fatalf("%s became %s, %v", b, again, err)
		}
	})
}
