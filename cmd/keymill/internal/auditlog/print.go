package auditlog

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/audit"
)

// A Printer prints records.
type Printer struct {
	Out        io.Writer
	JSON       bool // a line of JSON each, otherwise a table
	Unverified bool // marks each record
}

// Print prints records.
func (p Printer) Print(records []audit.Record) error {
	if p.JSON {
		return p.lines(records)
	}
	t := terminal.NewTable(p.Out)
	for _, r := range records {
		cells := []string{number(r.Seq), terminal.FormatTime(&r.Time), r.Action, r.By, terminal.OrDash(r.Target), detailText(r.Detail)}
		if p.Unverified {
			cells = slices.Insert(cells, 0, "unverified")
		}
		t.Row(cells...)
	}
	return t.Flush()
}

// lines prints each record as it is stored, so that the hash of a line is "previous" of the next one.
func (p Printer) lines(records []audit.Record) error {
	for _, r := range records {
		line, err := r.Line()
		if err != nil {
			return err
		}
		if p.Unverified {
			line = append([]byte(`{"unverified":true,`), bytes.TrimPrefix(line, []byte("{"))...)
		}
		if _, err := fmt.Fprintf(p.Out, "%s\n", line); err != nil {
			return err
		}
	}
	return nil
}

// number is "-" for a record that is not in the chain yet.
func number(seq uint64) string {
	if seq == 0 {
		return "-"
	}
	return strconv.FormatUint(seq, 10)
}

// detailText writes a record's details into one cell, ordered by name.
func detailText(detail map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(detail)) {
		words = append(words, name+"="+terminal.Printable(detail[name]))
	}
	return strings.Join(words, " ")
}
