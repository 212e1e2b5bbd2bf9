// Package auditlog reads and prints the audit log, from a running server or from a store that no
// server uses.
//
//	admin API of a server ──┐
//	                        ├──▶ Source ──▶ Tail ──▶ Printer
//	Store: a file, read-only ┘
package auditlog

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/audit"
)

const (
	pageRecords = 1000
	pollEvery   = time.Second
)

// A Source returns one page of the log.
type Source func(context.Context, audit.Query) (audit.Page, error)

// A Tail prints records, oldest first.
type Tail struct {
	Source Source
	Filter audit.Filter
	Newest int  // how many of those that the filter selects; 0 to 1,000
	All    bool // all of them, and Newest does not count
	Follow bool // then new ones, until the context ends
	Print  func([]audit.Record) error

	Bounded bool // Newest was given
}

// Run prints the records. If there are none, it says so on notes.
func (t *Tail) Run(ctx context.Context, notes io.Writer) error {
	printed, err := t.run(ctx)
	if err == nil && printed == 0 && t.Filter != (audit.Filter{}) && !t.Follow {
		line := "no audit record matches"
		if near := suggestAction(t.Filter.Action); near != "" {
			line = fmt.Sprintf("%s, and no action is called %s; did you mean %s?", line, terminal.Printable(t.Filter.Action), near)
		}
		fmt.Fprintln(notes, line)
	}
	return err
}

func (t *Tail) run(ctx context.Context) (printed int, err error) {
	next := audit.Cursor{}
	if !t.All {
		if printed, next.Seq, err = t.newest(ctx); err != nil {
			return printed, err
		}
		if !t.Follow {
			return printed, nil
		}
	}
	for {
		p, err := t.Source(ctx, audit.Query{Filter: t.Filter, Forward: true, From: next, Limit: pageRecords})
		if err != nil {
			return printed, err
		}
		next = p.Next
		if t.Follow {
			p.Records, next = numbered(p.Records), audit.Cursor{Seq: next.Seq}
		}
		if err := t.Print(p.Records); err != nil {
			return printed, err
		}
		printed += len(p.Records)
		switch {
		case p.More:
		case !t.Follow || !sleep(ctx):
			return printed, nil
		}
	}
}

// newest prints the newest records, and returns the number of the newest one in the log when the first
// page was read: what is newer follows, also what is added before the last page is read.
func (t *Tail) newest(ctx context.Context) (printed int, last uint64, err error) {
	var records []audit.Record
	q := audit.Query{Filter: t.Filter, Limit: max(t.Newest, 1)}
	for more := true; more && len(records) < q.Limit; {
		rest := q
		rest.Limit -= len(records)
		p, err := t.Source(ctx, rest)
		if err != nil {
			return 0, 0, err
		}
		if q.From == (audit.Cursor{}) {
			last = p.Last
		}
		if t.Follow {
			p.Records = numbered(p.Records)
		}
		records = append(p.Records, records...)
		q.From, more = p.Next, p.More && t.Newest > 0
	}
	records = records[max(len(records)-t.Newest, 0):]
	return len(records), last, t.Print(records)
}

// numbered leaves out the records that are not in the chain yet. They come again with their numbers.
func numbered(records []audit.Record) []audit.Record {
	return slices.DeleteFunc(records, func(r audit.Record) bool { return r.Seq == 0 })
}

// sleep waits for the next poll, and reports whether ctx still goes on.
func sleep(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pollEvery):
		return true
	}
}
