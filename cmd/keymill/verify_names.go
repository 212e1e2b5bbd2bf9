package main

import (
	"io"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// The names below keep verify*.go as they are until they move to their own package.

type complaint struct {
	err  error
	code int
}

func (c *complaint) Error() string { return c.err.Error() }
func (c *complaint) Unwrap() error { return &terminal.Error{Err: c.err, Code: c.code} }

type table struct{ *terminal.Table }

func (t table) row(cells ...string) { t.Row(cells...) }
func (t table) flush() error        { return t.Flush() }

var errSaid = terminal.ErrPrinted

func newTable(w io.Writer, columns ...string) table { return table{terminal.NewTable(w, columns...)} }
func usage(format string, args ...any) error        { return terminal.Usage(format, args...) }
func hint(err error, format string, args ...any) error {
	return terminal.WithHint(err, format, args...)
}
func printJSON(w io.Writer, raw []byte) error       { return terminal.PrintJSON(w, raw) }
func marshalJSON(v any) ([]byte, error)             { return terminal.MarshalJSON(v) }
func printable(s string) string                     { return terminal.Printable(s) }
func instant(t *time.Time) string                   { return terminal.Instant(t) }
func listed(items []string) string                  { return terminal.List(items) }
func orDash(s string) string                        { return terminal.OrDash(s) }
func shellWord(s string) string                     { return terminal.ShellWord(s) }
func report(w io.Writer, err error) int             { return terminal.Report(w, err) }
func parseDuration(s string) (time.Duration, error) { return config.ParseDuration(s) }
