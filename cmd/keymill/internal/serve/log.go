package serve

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/endpoint/requestid"
)

const (
	// maxLogLines is how many lines wait at most until they are written.
	maxLogLines = 1000

	// flushTime is how long the process waits at its end until the waiting lines are written.
	flushTime = time.Second
)

// newLog returns a logger that writes through a queue, and the queue.
func newLog(format string, level slog.Leveler, w io.Writer) (*slog.Logger, *logQueue) {
	queue := newLogQueue(w, func(lost int64) []byte {
		var line bytes.Buffer
		// The level is the highest, so that no setting hides it.
		slog.New(newHandler(format, slog.LevelError, &line)).Error("log lines were dropped, because the log could not be written", "lines", lost)
		return line.Bytes()
	})
	return slog.New(newHandler(format, level, queue)), queue
}

func newHandler(format string, level slog.Leveler, w io.Writer) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return requestid.NewHandler(slog.NewJSONHandler(w, opts))
	}
	return requestid.NewHandler(slog.NewTextHandler(w, opts))
}

// A logQueue is an io.Writer of complete lines that never blocks and never fails. A goroutine
// writes the lines in their order:
//
//	Write ──▶ at most maxLogLines ──▶ goroutine ──▶ standard error
//	  └─ dropped if full                  └─ dropped if the write fails
//
// So a log that is full, that is not read or whose reader has ended does not delay or end
// what the server does. Dropped lines are counted. As soon as writing works, a line in their
// place says how many they were.
type logQueue struct {
	w      io.Writer
	report func(lost int64) []byte // returns that line
	lines  chan logLine
	full   atomic.Int64 // lines that found the queue full, not taken over by a later line
	all    atomic.Int64 // lines that were dropped since the start, for metrics
	close  func()
	closed chan struct{} // closed by close: the goroutine ends once no line waits
	ended  chan struct{} // closed by the goroutine

	// The goroutine's own.
	lost int64 // lines to report
	torn bool  // what was written last is the beginning of a line
}

type logLine struct {
	text    []byte
	lost    int64      // lines that were dropped directly before this one
	written chan error // gets the result of writing it; nil if no goroutine waits for that
}

func newLogQueue(w io.Writer, report func(lost int64) []byte) *logQueue {
	q := &logQueue{
		w: w, report: report, lines: make(chan logLine, maxLogLines),
		closed: make(chan struct{}), ended: make(chan struct{}),
	}
	q.close = sync.OnceFunc(func() { close(q.closed) })
	go q.run()
	return q
}

// Write queues p, which is a complete line, and returns at once.
func (q *logQueue) Write(p []byte) (int, error) {
	line := logLine{text: bytes.Clone(p), lost: q.full.Swap(0)}
	select {
	case q.lines <- line:
	default:
		q.full.Add(line.lost + 1)
		q.all.Add(1)
	}
	return len(p), nil
}

// Close waits until the lines that were queued before are written, or for flushTime. Lines
// that are queued later may be lost. It may be called several times.
func (q *logQueue) Close() {
	q.close()
	late := time.NewTimer(flushTime)
	defer late.Stop()
	select {
	case <-q.ended:
	case <-late.C:
	}
}

func (q *logQueue) run() {
	defer close(q.ended)
	for {
		select {
		case line := <-q.lines:
			q.write(line)
		case <-q.closed:
			for len(q.lines) > 0 {
				q.write(<-q.lines)
			}
			q.lost += q.full.Swap(0)
			q.writeLost()
			return
		}
	}
}

func (q *logQueue) write(line logLine) {
	q.lost += line.lost
	err := q.writeLost()
	if err == nil {
		// slog leaves characters in JSON that change the direction of text. People read logs, too.
		err = q.writeText(terminal.EscapeJSON(line.text))
	}
	switch {
	case line.written != nil:
		line.written <- err
	case err != nil:
		q.lost++
		q.all.Add(1)
	}
	if err != nil {
		return
	}
	// The next line may not come for hours, so what was dropped after this one is reported now.
	if len(q.lines) == 0 {
		q.lost += q.full.Swap(0)
		q.writeLost()
	}
}

// writeLost reports lost lines. It returns an error if there are some and the report cannot be
// written.
func (q *logQueue) writeLost() error {
	if q.lost == 0 {
		return nil
	}
	if err := q.writeText(q.report(q.lost)); err != nil {
		return err
	}
	q.lost = 0
	return nil
}

// writeText returns an error unless text was written completely. On a full disk a part of it can be
// written. The next text then begins on a line of its own.
func (q *logQueue) writeText(text []byte) error {
	if q.torn {
		text = append([]byte{'\n'}, text...)
	}
	n, err := q.w.Write(text)
	if n > 0 {
		q.torn = text[n-1] != '\n'
	}
	return err
}
