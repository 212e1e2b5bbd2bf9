package terminal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestErrorsOfGoAreSaidInPlainWords makes them in the real libraries.
func TestErrorsOfGoAreSaidInPlainWords(t *testing.T) {
	dir := t.TempDir()
	of := func(_ any, err error) error { return err }
	var into struct{ N int }
	_, number := strconv.Atoi("abc")
	_, large := strconv.ParseInt("99999999999999999999", 10, 64)
	_, truth := strconv.ParseBool("maybe")
	listener, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := os.Create(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"open":               {of(os.Open(dir + "/none")), "cannot open " + dir + "/none: no such file or directory"},
		"read a directory":   {of(os.ReadFile(dir)), "cannot read " + dir + ": is a directory"},
		"write closed":       {of(file.Write([]byte("x"))), "cannot write " + dir + "/f: file already closed"},
		"mkdir":              {os.Mkdir(dir+"/f", 0o700), "cannot create " + dir + "/f: file exists"},
		"remove":             {os.Remove(dir + "/none"), "cannot remove " + dir + "/none: no such file or directory"},
		"rename":             {os.Rename(dir+"/none", dir+"/b"), "cannot rename " + dir + "/none to " + dir + "/b: no such file or directory"},
		"stat":               {of(os.Stat(dir + "/none")), "cannot read " + dir + "/none: no such file or directory"},
		"dial":               {of(net.Dial("unix", dir+"/none")), "no such file or directory"},
		"listen twice":       {of(net.Listen("unix", dir+"/s")), "address already in use"},
		"a name":             {&net.DNSError{Err: "no such host", Name: "no.invalid"}, "the name no.invalid cannot be resolved: no such host"},
		"a number":           {number, "it is not a number"},
		"a large number":     {large, "the number is too large"},
		"a truth value":      {truth, "it is neither true nor false"},
		"JSON":               {json.Unmarshal([]byte("{]"), &into), "the JSON is not well-formed"},
		"half of JSON":       {json.Unmarshal([]byte("{"), &into), "the JSON is not well-formed"},
		"JSON of other type": {json.Unmarshal([]byte(`{"N":"x"}`), &into), "the JSON member N has the wrong type"},
		"interrupted":        {ended.Err(), "it was interrupted"},
		"too late":           {late.Err(), "there was no answer in time"},
	} {
		for _, wrap := range []string{"%w", "request failed: %w", "a: %w; b"} {
			var out strings.Builder
			Report(&out, WithHint(fmt.Errorf(wrap, tt.err), "x"))
			said := tt.want
			if path := (*fs.PathError)(nil); wrap != "%w" && errors.As(tt.err, &path) {
				said = strings.TrimPrefix(said, verb(path.Op)+" ")
			}
			want := "keymill: " + fmt.Sprintf(strings.ReplaceAll(wrap, "%w", "%s"), said) + "\n  hint: x\n"
			if out.String() != want {
				t.Errorf("%s: %q, want %q", name, out.String(), want)
			}
		}
	}
	var out strings.Builder
	Report(&out, fmt.Errorf("%s: %w", dir, of(os.ReadFile(dir))))
	if out.String() != "keymill: "+dir+": is a directory\n" {
		t.Errorf("a path twice: %q", out.String())
	}
	out.Reset()
	Report(&out, errors.Join(of(os.Open("none")), number))
	if raw := regexp.MustCompile(`open none|strconv`); raw.MatchString(strings.ReplaceAll(out.String(), "cannot open none", "")) {
		t.Errorf("joined: %q", out.String())
	}
}

// TestJSONCannotMoveTheCursorOrTurnTheText: what a program reads stays the same.
//
// R104.
func TestJSONCannotMoveTheCursorOrTurnTheText(t *testing.T) {
	for _, text := range []string{
		"\u202egpj.exe", "a\u2066b\u2069", "\u200fא", "\x7f", "\u0080\u009b2J", "line\u2028line", "\ufeffx", "\U000e0041tag", "zero\u200bwidth",
		"plain", "Zoë 十五 😀", "\u001b[2J", "tab\tline\n",
	} {
		raw, err := MarshalJSON(map[string]any{text: []string{text}})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := PrintJSON(&out, raw); err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{out.String(), string(EscapeJSON(raw))} {
			var back map[string][]string
			if err := json.Unmarshal([]byte(line), &back); err != nil || len(back) != 1 || back[text][0] != text {
				t.Errorf("%q: a program reads %q, %v", text, back, err)
			}
			if strings.ContainsFunc(line, interpreted) || strings.Count(line, "\n") > 5 {
				t.Errorf("%q is printed as %q", text, line)
			}
		}
		if plain := text[0] >= 'A'; plain && Printable(text) == text && !strings.Contains(out.String(), text) {
			t.Errorf("%q is escaped: %s", text, out.String())
		}
	}
}
