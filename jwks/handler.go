package jwks

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A Handler serves the Set that was published last, to GET and HEAD, with a strong ETag and
// Cache-Control: public, max-age. It responds with 503 before the first Publish.
//
// It never compresses, redirects or varies. Some clients, such as PyJWT, use plain urllib,
// and shared caches work best if every client gets the same response.
type Handler struct {
	maxAge  string
	current atomic.Pointer[cachedResponse]
}

// A cachedResponse is a Set that is ready to send. Its header fields are assigned to the header map
// as they are, so a request neither allocates nor formats them.
type cachedResponse struct {
	set    *Set
	etag   string
	body   []byte
	always []field // for 200 and for 304 (RFC 9110, section 15.4.5)
	entity []field // for 200 only
}

// A field is shared by all requests, so no code may write to the elements of value.
type field struct {
	name  string // in the canonical form of net/http
	value []string
}

// NewHandler returns a Handler whose responses may be cached for maxAge, in whole seconds.
func NewHandler(maxAge time.Duration) *Handler {
	seconds := max(0, int64(maxAge/time.Second))
	return &Handler{maxAge: "public, max-age=" + strconv.FormatInt(seconds, 10)}
}

// Publish replaces the set that is served. It is safe for concurrent use.
func (h *Handler) Publish(s *Set) {
	h.current.Store(&cachedResponse{
		set:  s,
		etag: s.etag,
		body: s.json,
		always: []field{
			{"Access-Control-Allow-Origin", []string{"*"}}, // public keys, for browsers too
			{"Cache-Control", []string{h.maxAge}},
			{"Etag", []string{s.etag}},
			{"X-Content-Type-Options", []string{"nosniff"}},
		},
		entity: []field{
			// RFC 7517, section 8.5.1, registers application/jwk-set+json. PyJWT, jose and
			// go-oidc ignore the type. Proxies, caches and simple clients that look at it
			// know the plain type, so every client gets that.
			{"Content-Type", []string{"application/json"}},
			{"Content-Length", []string{strconv.Itoa(len(s.json))}},
		},
	})
}

// ServeHTTP sends the set. It implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.send(w, r) }

// ServeSet sends the set, as ServeHTTP does, and returns it if the client has it now: if the body of a GET was
// written to the connection completely, or if If-None-Match of a GET has the ETag of the set, so that the
// client had it before. It returns nil for every other response. That includes a 304 for "*", which names no set, and
// a ResponseWriter that cannot flush, because errors of the connection are not known then.
//
// A client that hangs up before or while the body is written does not have the set. One that hangs up after the
// operating system took the last byte cannot be told from one that reads it.
func (h *Handler) ServeSet(w http.ResponseWriter, r *http.Request) *Set {
	// The operating system takes a small body also for a client that has hung up; only the context knows. It is
	// not looked at later: many clients close the connection as soon as they have read the last byte.
	gone := r.Context().Err() != nil
	sent, err := h.send(w, r)
	switch {
	case sent.set == nil || err != nil || gone:
		return nil
	case sent.unchanged:
		return sent.set
	}
	// net/http buffers a small body, and Write returns before anything is sent. The flush takes the place of
	// the one after the handler, so it costs no system call more.
	if http.NewResponseController(w).Flush() != nil {
		return nil
	}
	return sent.set
}

// sentSet is what a response said about the set. set is nil if it said nothing.
type sentSet struct {
	set       *Set
	unchanged bool // the client had it before
}

// send writes the response. Its error means that the client has gone.
func (h *Handler) send(w http.ResponseWriter, r *http.Request) (sentSet, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return sentSet{}, nil
	}
	a := h.current.Load()
	if a == nil {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "no keys yet", http.StatusServiceUnavailable)
		return sentSet{}, nil
	}
	header := w.Header()
	for _, f := range a.always {
		header[f.name] = f.value
	}
	if tags := r.Header["If-None-Match"]; tags != nil {
		if named := anyLists(tags, a.etag); named || anyStar(tags) {
			w.WriteHeader(http.StatusNotModified)
			if !named || r.Method == http.MethodHead {
				return sentSet{}, nil
			}
			return sentSet{a.set, true}, nil
		}
	}
	for _, f := range a.entity {
		header[f.name] = f.value
	}
	if r.Method == http.MethodHead {
		return sentSet{}, nil
	}
	_, err := w.Write(a.body)
	return sentSet{set: a.set}, err
}

// anyLists reports whether a line of If-None-Match lists etag, by the weak comparison (RFC 9110,
// section 13.1.2).
func anyLists(lines []string, etag string) bool {
	return slices.ContainsFunc(lines, func(line string) bool { return listHas(line, etag) })
}

// anyStar reports whether a line is "*", which any set matches.
func anyStar(lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool { return strings.TrimSpace(line) == "*" })
}

// listHas looks for etag in a list of entity tags. A tag may contain commas, so it is read
// from quote to quote. A syntax error ends the search, and the client gets the whole set.
func listHas(list, etag string) bool {
	for {
		list = strings.TrimLeft(list, " \t,")
		list = strings.TrimPrefix(list, "W/")
		if !strings.HasPrefix(list, `"`) {
			return false
		}
		end := strings.IndexByte(list[1:], '"')
		if end < 0 {
			return false
		}
		if list[:end+2] == etag {
			return true
		}
		list = list[end+2:]
	}
}
