package connections

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"
)

// restTime is how long the rest of a body is awaited that the handler has not read. The answer is sent before. If the
// connection were closed at once, some clients would lose the answer.
const restTime = 250 * time.Millisecond

type connKey struct{}

// ConnContext is for http.Server.
func (l *Listener) ConnContext(ctx context.Context, wrapped net.Conn) context.Context {
	if c := unwrap(wrapped); c != nil {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// unwrap returns the conn that http.Server has, or nil for a probe.
func unwrap(wrapped net.Conn) *conn {
	if t, ok := wrapped.(*tls.Conn); ok {
		wrapped = t.NetConn()
	}
	c, _ := wrapped.(*conn)
	return c
}

// Handler returns h, and watches which requests are whole and not answered. The connection of such a request is not
// ended for a new one.
//
//	reading ── the body has come ──▶ working ── the answer begins ──▶ answering
//
// A request of HTTP/1.1 whose body h does not read ends its connection.
func (l *Listener) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if !ok {
			h.ServeHTTP(w, r)
			return
		}
		q := &request{ResponseWriter: w, c: c, http2: r.ProtoMajor == 2}
		defer q.end()
		if r.Body == http.NoBody {
			q.isWhole()
		} else {
			// net/http looks at the Body of its own Request, so it keeps that one.
			b := &body{r.Body, q, r.ContentLength, *r}
			r = &b.request
			r.Body = b
		}
		h.ServeHTTP(q, r)
	})
}

// A request is one that a handler has begun. It is the ResponseWriter of the handler.
type request struct {
	http.ResponseWriter
	c     *conn
	http2 bool

	whole, answering bool // owned by c.mu
}

// Unwrap is for http.ResponseController.
func (q *request) Unwrap() http.ResponseWriter { return q.ResponseWriter }

// WriteHeader begins the answer, unless the status is informational.
func (q *request) WriteHeader(status int) {
	if status >= 200 {
		q.answer()
	}
	q.ResponseWriter.WriteHeader(status)
}

// Write begins the answer, or goes on with it.
func (q *request) Write(p []byte) (int, error) {
	q.answer()
	return q.ResponseWriter.Write(p)
}

func (q *request) isWhole() {
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	if !q.whole && !q.answering {
		q.c.working++
	}
	q.whole = true
}

// answer notes that the answer begins, and dates it. "Connection: close" ends a connection behind the answer. For HTTP/2
// net/http sends GOAWAY in its place: the requests that have come are answered, and the client sends others on a new
// connection.
func (q *request) answer() {
	now := time.Now() // Date needs the wall clock
	q.c.mu.Lock()
	first := !q.answering
	if first && q.whole {
		q.c.working--
	}
	q.answering = true
	q.c.answered = now
	last := !q.c.told.IsZero() || !q.http2 && !q.whole
	q.c.mu.Unlock()
	if !first {
		return
	}
	header := q.Header()
	header["Date"] = q.c.l.dates.at(now)
	if last || !q.http2 && q.c.l.wanted.CompareAndSwap(true, false) {
		header.Set("Connection", "close")
	}
}

// end is called when the handler has returned or panics. net/http reads the rest of a body before it closes the
// connection.
func (q *request) end() {
	q.c.mu.Lock()
	whole, answering := q.whole, q.answering
	q.c.mu.Unlock()
	if !answering {
		q.answer()
	}
	if !whole && !q.http2 {
		http.NewResponseController(q.ResponseWriter).SetReadDeadline(time.Now().Add(restTime))
	}
}

// A body tells its request that it has come.
type body struct {
	io.ReadCloser
	q       *request
	left    int64        // negative if the length is not known
	request http.Request // that the handler gets
}

// Read reads the body.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err == io.EOF || b.left == 0 {
		b.q.isWhole()
	}
	return n, err
}
