package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/julienschmidt/httprouter"
)

// Header values are shared by all answers and assigned as they are, which saves an
// allocation each; nothing may write through them.
var (
	jsonType  = []string{"application/json"}
	noStore   = []string{"no-store"}
	noCache   = []string{"no-cache"} // RFC 6749, section 5.1, asks for it in Pragma
	noSniff   = []string{"nosniff"}
	basicAuth = []string{`Basic realm="keymill"`}
)

// A handle answers a request, or returns why not and has written nothing.
type handle func(w http.ResponseWriter, r *http.Request) error

// An edge is one face: routes, and what becomes of errors and panics.
type edge struct {
	router  *httprouter.Router
	shapes  map[string]*shape         // path → how its refusals look; without one, as RFC 6749 says
	admit   func(*http.Request) error // asked before a route is looked for
	busy    busy
	address func(*http.Request) netip.Addr
	log     *slog.Logger
}

func (e *edge) handle(method, path string, h handle) {
	e.router.Handle(method, path, func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
		if err := h(w, r); err != nil {
			e.refuse(w, r, err)
		}
	})
}

// get serves HEAD as well: net/http leaves the body out.
func (e *edge) get(path string, h handle) {
	e.handle(http.MethodGet, path, h)
	e.handle(http.MethodHead, path, h)
}

// door serves POST and the preflight of browsers, and refuses in a shape of its own.
func (e *edge) door(path string, s *shape, post, preflight handle) {
	e.shapes[path] = s
	e.handle(http.MethodPost, path, post)
	e.handle(http.MethodOptions, path, preflight)
}

func (e *edge) handler(h handle) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			e.refuse(w, r, err)
		}
	})
}

func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer e.survive(w, r)
	header := w.Header()
	header["X-Content-Type-Options"] = noSniff
	header["Cache-Control"] = noStore
	if err := e.admit(r); err != nil {
		e.refuse(w, r, err)
		return
	}
	e.router.ServeHTTP(w, r)
}

// survive makes a panic one request's problem. Handlers write last of all, so there
// is hardly ever a half-sent answer that this one would follow.
func (e *edge) survive(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p) // net/http closes the connection
	}
	e.refuse(w, r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
}

// refuse is where errors end: it writes the answer and the log line.
func (e *edge) refuse(w http.ResponseWriter, r *http.Request, err error) {
	a, challenge := explain(err, e.busy), basicAuth
	if gone := r.Context().Err(); gone != nil && errors.Is(err, gone) {
		a.level = slog.LevelDebug // whoever asked has hung up, and nothing is wrong here
	}
	if s := e.shapes[r.URL.Path]; s != nil {
		a, challenge = s.apply(r, a, err), s.challenge
	}
	header := w.Header()
	header["Cache-Control"] = noStore
	header["Pragma"] = noCache
	if a.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(seconds(a.retryAfter)))
	}
	if a.status == http.StatusUnauthorized {
		header["Www-Authenticate"] = challenge
	}
	if e.log.Enabled(r.Context(), a.level) {
		e.logRefusal(r, a, err)
	}
	writeJSON(w, a.status, a.body)
}

// logRefusal writes one line. The query, the body and the Authorization header may hold
// secrets, so they are never among the attributes.
func (e *edge) logRefusal(r *http.Request, a reply, err error) {
	attrs := []slog.Attr{slog.String("method", short(r.Method)), slog.String("path", short(r.URL.Path)), slog.Int("status", a.status)}
	if c := (*clientError)(nil); errors.As(err, &c) {
		attrs = append(attrs, slog.String("client", short(c.client)))
	}
	if by := actor(r); by != "" {
		attrs = append(attrs, slog.String("by", by))
	} else {
		attrs = append(attrs, slog.String("from", e.address(r).String()))
	}
	e.log.LogAttrs(r.Context(), a.level, "request refused", append(attrs, slog.String("err", err.Error()))...)
}

// writeJSON writes v, or returns an error and has written nothing.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	w.Write(b) // an error means the client has gone; there is nobody to tell
	return nil
}

// instant shows t as RFC 3339 in UTC, or null while it is undetermined.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// seconds rounds up: who comes back earlier is refused again.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// short bounds what a stranger can write into one log attribute.
func short(s string) string { return s[:min(len(s), 100)] }
