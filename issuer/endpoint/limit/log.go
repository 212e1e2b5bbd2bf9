package limit

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Log writes the log lines of requests that failed. Anyone can cause such lines, so their
// number is bounded. Lines that are left out are counted by reason, and Report logs the
// counts. Each LineLimiter bounds one kind of line, so that a flood of one kind does not
// hide the others.
type Log struct {
	log      *slog.Logger
	replays  *LineLimiter // a flood of anything else must not hide a stolen token
	faults   *LineLimiter
	overload *LineLimiter // warnings, such as that a queue is full: a flood of requests causes them
	users    *LineLimiter // refusals of a known user's requests
	others   *LineLimiter
	leftOut  Counter
	later    sync.WaitGroup // calls of WriteLater whose line is not written yet
}

// NewLog returns a Log that writes to log.
func NewLog(log *slog.Logger) *Log {
	return &Log{
		log: log, replays: NewLineLimiter(), faults: NewLineLimiter(), overload: NewLineLimiter(),
		users: NewLineLimiter(), others: NewLineLimiter(),
	}
}

// A Line is the log line of one request.
type Line struct {
	Level     slog.Level
	Message   string
	Attrs     []slog.Attr
	Reason    string     // under which the line is counted if it is left out
	User      string     // "" if no user is known
	From      netip.Addr // of the request
	Replay    bool       // it says that a refresh token was replayed
	CountOnly bool       // leave it out in any case
}

// Write writes a line or counts it. ctx is that of the request. Debug lines are not bounded: the operator who asks for
// them wants to see every request.
func (l *Log) Write(ctx context.Context, line Line) {
	bound := l.others
	switch {
	case line.Replay:
		bound = l.replays
	case line.Level > slog.LevelWarn:
		bound = l.faults
	case line.Level > slog.LevelInfo:
		bound = l.overload
	case line.User != "":
		bound = l.users
	}
	if line.CountOnly || line.Level >= slog.LevelInfo && !bound.Allow(line.User, line.From, time.Now()) {
		l.leftOut.Count(line.Reason)
		return
	}
	l.log.LogAttrs(ctx, line.Level, line.Message, line.Attrs...)
}

// WriteLater writes a line in another goroutine, so that the answer to the request does not
// take longer because of it.
func (l *Log) WriteLater(ctx context.Context, line Line) {
	l.later.Go(func() { l.Write(ctx, line) })
}

// Flush waits until the lines of all calls of WriteLater are written.
func (l *Log) Flush() { l.later.Wait() }

// Report logs how many lines were left out since the last report, if any.
func (l *Log) Report() {
	counts := l.leftOut.Take()
	if len(counts) == 0 {
		return
	}
	attrs := make([]slog.Attr, 0, len(counts))
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		attrs = append(attrs, slog.Int(reason, counts[reason]))
	}
	l.log.LogAttrs(context.Background(), slog.LevelInfo, "refused requests without a line of their own", attrs...)
}

// A Counter counts by reason. Its zero value has counted nothing.
type Counter struct {
	mu     sync.Mutex
	counts map[string]int // owned by mu; reasons are words of our own, so it stays small
}

// Count adds 1.
func (c *Counter) Count(reason string) { c.Add(map[string]int{reason: 1}) }

// Add adds several counts.
func (c *Counter) Add(counts map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	for reason, n := range counts {
		c.counts[reason] += n
	}
}

// Take returns the counts, nil if there are none, and starts again.
func (c *Counter) Take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	c.counts = nil
	return counts
}
