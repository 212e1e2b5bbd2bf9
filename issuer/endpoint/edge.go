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

	"keymill/issuer"
	"keymill/keystore"
)

// Header values are shared by all answers and assigned as they are, which saves an
// allocation each; nothing may write through them.
var (
	jsonType  = []string{"application/json"}
	noStore   = []string{"no-store"}
	noCache   = []string{"no-cache"} // RFC 6749, section 5.1, asks for it in Pragma
	noSniff   = []string{"nosniff"}
	challenge = []string{`Basic realm="keymill"`}
)

// A handle answers a request, or returns why not and has written nothing.
type handle func(w http.ResponseWriter, r *http.Request) error

// An edge is one face: routes, and what becomes of errors and panics.
type edge struct {
	router  *httprouter.Router
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

// A statusError is a refusal whose status its code does not tell.
type statusError struct {
	status     int
	retryAfter time.Duration
	*issuer.Refusal
}

func (e *statusError) Unwrap() error { return e.Refusal }

var (
	errNotFound    = &statusError{http.StatusNotFound, 0, issuer.Refuse("not_found", "there is nothing at this path")}
	errMethod      = &statusError{http.StatusMethodNotAllowed, 0, issuer.Refuse("invalid_request", "this path does not take this method")}
	errMisdirected = &statusError{http.StatusMisdirectedRequest, 0,
		issuer.Refuse("invalid_request", "a server started with --dev answers only to its own host name")}
)

// A clientError adds who asked, for the log.
type clientError struct {
	client string
	error
}

func (e *clientError) Unwrap() error { return e.error }

// A busy is how a face says "not now".
type busy struct {
	code   string
	candid bool // says why: only to operators
}

func (b busy) body(reason string) errorBody {
	if b.candid {
		return bodyOf(issuer.Refuse(b.code, "%s; try again later", reason))
	}
	return errorBody{b.code, "the server cannot do this just now, try again later"}
}

// A reply is what an error becomes.
type reply struct {
	status     int
	retryAfter time.Duration
	body       any
	level      slog.Level
}

type errorBody struct {
	Code string `json:"error"`
	Hint string `json:"error_description,omitempty"`
}

// statuses of refusals; all others are 400.
var statuses = map[string]int{
	"invalid_client": http.StatusUnauthorized,
	"not_found":      http.StatusNotFound,
	"already_exists": http.StatusConflict,
	"in_use":         http.StatusConflict,
}

// refuse is where errors end: it writes the answer and the log line.
func (e *edge) refuse(w http.ResponseWriter, r *http.Request, err error) {
	a := explain(err, e.busy)
	header := w.Header()
	header["Cache-Control"] = noStore
	header["Pragma"] = noCache
	if a.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int((a.retryAfter+time.Second-1)/time.Second)))
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

// explain is the table of the package doc.
func explain(err error, b busy) reply {
	var (
		status   *statusError
		refusal  *issuer.Refusal
		invalid  *keystore.InvalidError
		notReady *keystore.NotReadyError
	)
	switch {
	case errors.As(err, &status):
		level := slog.LevelInfo
		if status.status == http.StatusNotFound || status.status == http.StatusMethodNotAllowed {
			level = slog.LevelDebug // scanners send thousands of these
		}
		return reply{status.status, status.retryAfter, bodyOf(status.Refusal), level}
	case errors.As(err, &refusal):
		return reply{statusOf(refusal), 0, bodyOf(refusal), slog.LevelInfo}
	case errors.As(err, &invalid):
		refusal = issuer.Refuse(invalid.Code, "%s", invalid.Hint)
		return reply{statusOf(refusal), 0, bodyOf(refusal), slog.LevelInfo}
	case errors.As(err, &notReady):
		body := struct {
			errorBody
			At *time.Time `json:"at"`
		}{bodyOf(issuer.Refuse("not_ready", "%s", notReady.Error())), instant(notReady.At)}
		return reply{http.StatusConflict, 0, body, slog.LevelInfo}
	}
	if reason, wait, ok := issuer.Unavailable(err); ok {
		return reply{http.StatusServiceUnavailable, max(wait, time.Second), b.body(reason), slog.LevelWarn}
	}
	return reply{http.StatusInternalServerError, 0,
		errorBody{"server_error", "the server failed, its log says why"}, slog.LevelError}
}

func statusOf(r *issuer.Refusal) int {
	if status, ok := statuses[r.Code]; ok {
		return status
	}
	return http.StatusBadRequest
}

func bodyOf(r *issuer.Refusal) errorBody { return errorBody{r.Code, r.Hint} }

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

// short bounds what a stranger can write into one log attribute.
func short(s string) string { return s[:min(len(s), 100)] }
