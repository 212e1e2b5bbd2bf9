package jwks

import (
	"net/http"
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
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	a := h.current.Load()
	if a == nil {
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "no keys yet", http.StatusServiceUnavailable)
		return
	}
	header := w.Header()
	for _, f := range a.always {
		header[f.name] = f.value
	}
	if tags := r.Header["If-None-Match"]; tags != nil && anyMatches(tags, a.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	for _, f := range a.entity {
		header[f.name] = f.value
	}
	if r.Method == http.MethodHead {
		return
	}
	w.Write(a.body) // an error means that the client has gone
}

// anyMatches compares the lines of If-None-Match with etag, by the weak comparison (RFC 9110,
// section 13.1.2).
func anyMatches(lines []string, etag string) bool {
	for _, line := range lines {
		if strings.TrimSpace(line) == "*" || listHas(line, etag) {
			return true
		}
	}
	return false
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
