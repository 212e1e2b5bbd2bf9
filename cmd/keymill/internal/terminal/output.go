package terminal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// PrintJSON writes raw with indentation, and with EscapeJSON.
func PrintJSON(w io.Writer, raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := w.Write(EscapeJSON(b.Bytes()))
	return err
}

// EscapeJSON replaces the characters of JSON that a terminal would interpret or that change the
// direction of text by escapes such as \u202e. A program reads the same values. Outside of
// strings JSON has none but line ends and tabs, which stay.
func EscapeJSON(raw []byte) []byte {
	if !bytes.ContainsFunc(raw, interpreted) {
		return raw
	}
	var b []byte
	for _, r := range string(raw) {
		switch {
		case !interpreted(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}

// interpreted reports whether r is for the terminal and not for its reader.
func interpreted(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }

// MarshalJSON is json.Marshal without the escaping that only HTML needs.
func MarshalJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// A Table is printed with aligned columns.
type Table struct {
	w *tabwriter.Writer
}

// NewTable returns a table whose first row is columns, if there are any.
func NewTable(w io.Writer, columns ...string) *Table {
	t := &Table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(columns) > 0 {
		t.Row(columns...)
	}
	return t
}

// Row adds a row. Its cells are made printable.
func (t *Table) Row(cells ...string) {
	for i, c := range cells {
		cells[i] = Printable(c)
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

// Flush writes the table. The widths of the columns are known only then.
func (t *Table) Flush() error { return t.w.Flush() }

// Printable returns s, quoted if it has characters that a terminal would interpret, or bytes that are no
// character: some terminals take those for control characters, and a Table would take 0xff for a mark.
func Printable(s string) string {
	if !utf8.ValidString(s) {
		return strconv.QuoteToASCII(s)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}

// FormatTime formats a time as every command does: RFC 3339, UTC, seconds; "-" if there is none.
func FormatTime(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.UTC().Truncate(time.Second).Format(time.RFC3339)
}

// List writes a list into one cell, and "-" if it is empty.
func List(items []string) string { return OrDash(strings.Join(items, " ")) }

// OrDash returns s, or "-" if s is empty.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ShellWord quotes s if a shell would not read it as one plain word, so that a suggested
// command can be pasted.
func ShellWord(s string) string {
	special := strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:@,", r)
	}) >= 0
	if s != "" && !special {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
