// Package auditlines copies the audit log of a running server out of its store: each record as the line of
// JSON that is stored, so that the SHA-256 of a line is "previous" of the next one.
//
//	storage/audit: chain ──▶ Copy, once a second ──▶ Destination: a File, or standard error
//	     audit/written ◀── the number reached ──┘
//
// The store is the buffer. While the destination is full, read-only or not read, the records wait there, the
// server serves, and Warnings says why. The number that was reached is remembered in the store after the
// lines are durable, so a restart goes on there. A crash between the two writes lines again: each record is
// written at least once, and a repeated line has the same number and the same bytes. A File leaves out the lines
// that it already ends with.
//
// The first start with a destination begins with the first record of the store.
//
// Of several servers with one store, the one that holds the lease writes to its destination: each record is in
// one of the destinations. A server that takes the lease over goes on after the number that was reached. One that was
// paused while it wrote may write up to one page that another one has written too.
package auditlines

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/audit"
)

const (
	pageRecords = 1000
	pollEvery   = time.Second

	// lateAfter is how long a write may take until it is a fault.
	lateAfter = 10 * time.Second
)

// A Destination takes lines. Write returns how many of them are durable, and an error if that are not all. It
// may block, and is called again only after it has returned. A line has no line break.
type Destination interface {
	Write(lines [][]byte) (int, error)
}

// Config is what a Copy needs.
type Config struct {
	Store storage.Store
	To    Destination
	Name  string // of the destination, for people
	Log   *slog.Logger

	// PerSecond bounds how many lines are written in a second; 0 does not.
	PerSecond int

	// Hold reports whether this server writes, see nodes.Registry.Lease. The lease is one of its own, because only a server
	// that has a destination asks for it. It is called about once a second. nil if it is the only server of the store.
	Hold func(context.Context) (bool, error)
}

// A Copy writes the records of one store to one destination.
type Copy struct {
	cfg Config

	// The goroutine of Run or Flush owns these.
	held    bool     // this server writes
	begun   bool     // saved is known
	saved   uint64   // what the store remembers
	pending *writing // a write that has not returned

	mu    sync.Mutex
	seq   uint64 // of the last record that is durable at the destination; written by that goroutine alone
	fault string // "" while all is well
}

// A writing is a call of Write in another goroutine, because it may block.
type writing struct {
	seqs []uint64 // numbers of its lines
	done chan result
}

type result struct {
	lines int
	err   error
}

// New returns a Copy that has not begun.
func New(cfg Config) *Copy { return &Copy{cfg: cfg} }

// Run writes new records until ctx ends, and then returns nil. It returns an error only if the store has failed.
func (c *Copy) Run(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		more, err := c.step(ctx)
		if storage.Ended(c.cfg.Store, err) {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, storage.ErrMoved) {
			c.report(err)
		}
		if more && err == nil && c.cfg.PerSecond == 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Flush writes what is left, after Run has returned. What cannot be written before ctx ends is left for the next
// start.
func (c *Copy) Flush(ctx context.Context) {
	for more := true; more; {
		var err error
		if more, err = c.step(ctx); err != nil {
			return
		}
	}
}

// Warnings returns why records wait, or nothing. A nil Copy has none.
func (c *Copy) Warnings() []api.Warning {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault == "" {
		return nil
	}
	return []api.Warning{{Check: "audit.log", Detail: fmt.Sprintf("%s: %s; the audit records from number %d on wait in the store", c.cfg.Name, c.fault, c.seq+1)}}
}

// step writes one page of records and remembers it. more is true if there are further records.
func (c *Copy) step(ctx context.Context) (more bool, err error) {
	if c.held, err = c.holds(ctx); err != nil || !c.held {
		c.begun = false // another server writes, and the store knows how far
		return false, err
	}
	if !c.begun {
		if c.saved, err = audit.Written(ctx, c.cfg.Store); err != nil {
			return false, err
		}
		c.reach(c.saved)
		c.begun = true
		if c.cfg.Hold != nil {
			c.cfg.Log.Info("this server writes the audit records of all nodes to audit.log now", "to", c.cfg.Name, "from", c.saved+1)
		}
	}
	more = true // behind a write that was late
	if c.pending == nil {
		if more, err = c.send(ctx); err != nil {
			return false, err
		}
	}
	if c.pending == nil {
		return false, c.save(ctx)
	}
	done, err := c.wait(ctx)
	if done > c.seq { // another server can have written more in the meantime
		c.reach(done)
	}
	return more, errors.Join(err, c.save(ctx))
}

func (c *Copy) holds(ctx context.Context) (bool, error) {
	if c.cfg.Hold == nil {
		return true, nil
	}
	return c.cfg.Hold(ctx)
}

// send begins to write the next page, if there is one.
func (c *Copy) send(ctx context.Context) (more bool, err error) {
	limit := pageRecords
	if c.cfg.PerSecond > 0 {
		limit = min(limit, c.cfg.PerSecond)
	}
	page, err := audit.Read(ctx, c.cfg.Store, audit.Query{Forward: true, From: audit.Cursor{Seq: c.seq}, Limit: limit})
	if err != nil {
		return false, err
	}
	if page.Last < c.seq {
		c.cfg.Log.Error("the audit log in the store ends before the last record that was written to audit.log; later records get its numbers again",
			"written", c.seq, "last", page.Last)
		c.reach(page.Last)
		return true, nil
	}
	w := &writing{done: make(chan result, 1)}
	var lines [][]byte
	for _, r := range page.Records {
		line, err := r.Line()
		if err != nil || r.Seq == 0 { // it waits for the chain, and comes again with a number
			break
		}
		lines, w.seqs = append(lines, line), append(w.seqs, r.Seq)
	}
	if len(lines) == 0 {
		return false, nil
	}
	c.pending = w
	go func() {
		n, err := c.cfg.To.Write(lines)
		w.done <- result{n, err}
	}()
	return page.More, nil
}

var errLate = errors.New("a write has not ended in time; is it read?")

// wait returns the number of the last record that the pending write has made durable, or 0.
func (c *Copy) wait(ctx context.Context) (uint64, error) {
	late := time.NewTimer(lateAfter)
	defer late.Stop()
	select {
	case r := <-c.pending.done:
		seqs := c.pending.seqs[:r.lines]
		c.pending = nil
		if len(seqs) == 0 {
			return 0, r.err
		}
		return seqs[len(seqs)-1], r.err
	case <-late.C:
		return 0, errLate
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (c *Copy) reach(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq = seq
}

// save remembers the number in the store. If that fails, for example on a full disk, the next call tries again.
func (c *Copy) save(ctx context.Context) error {
	if c.seq == c.saved || c.seq == 0 {
		return nil
	}
	now, err := audit.SetWritten(ctx, c.cfg.Store, c.saved, c.seq)
	if err != nil {
		return err
	}
	if c.saved = now; now != c.seq {
		c.begun = false // another server has written: go on where it stopped
	}
	return nil
}

// report logs a fault when it begins, changes or has ended.
func (c *Copy) report(err error) {
	fault := ""
	if err != nil {
		fault = terminal.OneLine(terminal.Plain(err))
	}
	c.mu.Lock()
	before := c.fault
	c.fault = fault
	c.mu.Unlock()
	switch {
	case fault == before:
	case fault == "" && !c.held: // another server writes
	case fault == "":
		c.cfg.Log.Info("audit records are written to audit.log again", "to", c.cfg.Name)
	default:
		attrs := []any{"to", c.cfg.Name, "error", fault}
		if hint := terminal.HintOf(err); hint != "" {
			attrs = append(attrs, "hint", hint)
		}
		c.cfg.Log.Error("audit records cannot be written to audit.log; they wait in the store and are written later", attrs...)
	}
}
