package connections

import "time"

const (
	// stall is how long a connection may be active without a whole request before it is ended for a new one, and how long
	// bytes may come on it without one. A body that comes in time is never cut.
	stall = time.Second

	// flushTime is how long a connection of HTTP/2 stays after it has become idle: net/http says so before it has flushed
	// the last frame of the answer.
	flushTime = 50 * time.Millisecond

	// lookEvery is how often all connections are looked at while a new one waits.
	lookEvery = 100 * time.Millisecond

	// maxTries bounds the connections of a queue that are looked at more often.
	maxTries = 64
)

// evict ends one connection, so that a new one gets its place. It returns false if none may be ended.
func (l *Listener) evict() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	tries := maxTries
	if !now.Before(l.nextScan) {
		l.nextScan = now.Add(lookEvery)
		tries = l.cfg.Max
	}
	for _, from := range []struct {
		queue  *queue
		age    time.Duration // at least, in the queue
		mayEnd func(*conn, time.Time) bool
	}{
		{&l.fresh, quiet, (*conn).isQuiet},
		{&l.idle, 0, (*conn).isQuiet},
		{&l.active, 0, (*conn).isStalled},
	} {
		left := tries
		for c := range from.queue.all() {
			if left == 0 {
				break
			}
			if now.Sub(c.since) >= from.age && c.endIf(now, from.mayEnd) {
				l.forget(c)
				return true
			}
			left--
		}
	}
	return false
}

// ask asks some connections to end behind their next answer: one of HTTP/1.1, and those of HTTP/2 that have been busy
// longest. Clients that behave well send their next request on a new connection.
func (l *Listener) ask() {
	l.wanted.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	now, left := time.Now(), 1+l.cfg.Max/100
	if now.Before(l.nextAsk) {
		return
	}
	l.nextAsk = now.Add(lookEvery)
	for _, of := range []*queue{&l.active, &l.idle} {
		for c := range of.all() {
			if left == 0 {
				return
			}
			if c.tell(now, of == &l.active && now.Sub(c.since) >= stall) {
				left--
			}
		}
	}
}

// isQuiet reports whether a connection without a request has none that begins. HTTP/2 has frames that belong to no
// request, and an attacker can send a header byte by byte, so bytes alone do not save it for long. Bytes that the server
// has read and not worked on yet can be a whole request: on a busy machine that can take longer than quiet. c.mu and the
// mutex of the Listener are held.
func (c *conn) isQuiet(now time.Time) bool {
	switch {
	case c.http2 && now.Sub(c.since) < flushTime:
		return false
	case !c.heard.IsZero() && !c.reading.Load():
		return false
	case c.heard.IsZero(), now.Sub(c.heard) >= quiet:
		return true
	case c.http2:
		return c.working == 0 && c.hasIgnored(now)
	}
	return c.isNoisy(now)
}

// isStalled reports whether an active connection only waits for its client: no request is whole and not answered. c.mu is held.
func (c *conn) isStalled(now time.Time) bool {
	idles := now.Sub(c.since) >= stall && now.Sub(c.answered) >= quiet
	return c.working == 0 && (idles || c.hasIgnored(now))
}

// hasIgnored reports whether bytes come without a pause long after the answers to them would have told the client of
// HTTP/2 to use a new connection. c.mu is held.
func (c *conn) hasIgnored(now time.Time) bool {
	return !c.told.IsZero() && now.Sub(c.told) >= stall && c.isNoisy(now)
}

// isNoisy reports whether bytes come without a pause, and no answer of HTTP/1.1. c.mu is held.
func (c *conn) isNoisy(now time.Time) bool { return !c.heard.IsZero() && now.Sub(c.run) >= stall }

// tell lets the answers tell a client of HTTP/2 to use a new connection, if it is busy and they do not yet.
func (c *conn) tell(now time.Time, busy bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.http2 || !c.told.IsZero() || !busy && !c.isNoisy(now) {
		return false
	}
	c.told = now
	return true
}

// endIf closes the connection if it may be ended.
func (c *conn) endIf(now time.Time, mayEnd func(*conn, time.Time) bool) bool {
	c.mu.Lock()
	if !mayEnd(c, now) {
		c.mu.Unlock()
		return false
	}
	c.gone = true
	c.mu.Unlock()
	c.Conn.Close()
	return true
}
