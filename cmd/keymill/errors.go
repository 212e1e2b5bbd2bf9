package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// A complaint is an error as the operator reads it: one line that says what is wrong
// and where, and perhaps one more that says what to type.
type complaint struct {
	err  error
	hint string
	code int // exit code; 0 means 1
}

func (c *complaint) Error() string { return c.err.Error() }
func (c *complaint) Unwrap() error { return c.err }

// errSaid ends the program with code 1 when the answer is already on stdout.
var errSaid = errors.New("the answer was printed")

// usage is a command line that cannot be meant as it was typed.
func usage(format string, args ...any) error {
	return &complaint{err: fmt.Errorf(format, args...), code: 2}
}

// hint adds the second line to err and keeps its exit code.
func hint(err error, format string, args ...any) error {
	c := &complaint{err: err, hint: fmt.Sprintf(format, args...)}
	var inner *complaint
	if errors.As(err, &inner) {
		c.code = inner.code
	}
	return c
}

// report prints err and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, errSaid) {
		return 1
	}
	fmt.Fprintf(w, "keymill: %s\n", oneLine(err.Error()))
	var c *complaint
	if !errors.As(err, &c) {
		return 1
	}
	if c.hint != "" {
		fmt.Fprintf(w, "  hint: %s\n", oneLine(c.hint))
	}
	return max(c.code, 1)
}

// oneLine keeps the promise of one line, and a foreign text from moving the cursor.
func oneLine(s string) string {
	fields := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, f := range fields {
		fields[i] = strings.TrimSpace(f)
	}
	return printable(strings.Join(fields, " "))
}

// nearest returns the candidate that word was probably meant to be, or "".
func nearest(word string, candidates []string) string {
	best, found := 1+min(max(2, len(word)/3), len(word)-1), ""
	for _, c := range candidates {
		if strings.HasPrefix(c, word) && len(word) > 1 || strings.HasSuffix(c, "."+word) {
			return c
		}
		if d := distance(word, c); d < best {
			best, found = d, c
		}
	}
	return found
}

// distance counts the insertions, deletions and replacements that turn a into b
// (Levenshtein), one row of the table at a time.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
