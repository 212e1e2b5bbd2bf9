package endpoint

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/admin"
	"keymill/issuer/endpoint/challenge"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/endpoint/metrics"
	"keymill/issuer/endpoint/requestid"
	"keymill/issuer/outage"
	"keymill/issuer/refusal"
)

// All answers share these header values, which saves an allocation each. Nothing may
// write to them.
var (
	jsonType  = []string{"application/json"}
	noStore   = []string{"no-store"}
	noCache   = []string{"no-cache"} // in Pragma, see RFC 6749, section 5.1
	noSniff   = []string{"nosniff"}
	basicAuth = []string{`Basic realm="keymill"`}
)

// A handler answers a request or returns an error. If it returns an error, it has written
// nothing.
type handler func(w http.ResponseWriter, r *http.Request) error

// A router finds the handler of a request and turns errors and panics into answers.
type router struct {
	damaged     func(context.Context, error) // may be nil, see Config
	mux         *httprouter.Router
	routes      []route
	format      *errorFormat                               // of errors; nil for that of RFC 6749
	formats     map[string]*errorFormat                    // path → format of its errors; the router's if absent
	admit       func(*http.Request) error                  // called before a route is looked up
	identify    func(*http.Request) (*http.Request, error) // called after admit; nil on listeners that need no token
	unavailable unavailable
	address     func(*http.Request) netip.Addr
	log         *slog.Logger
	lines       *limit.Log                                         // of failed requests; nil for administrators, whose lines are not bounded
	begin       func(http.ResponseWriter, string) *metrics.Request // counts a request for a path; nil if none is counted

	clientExists func(ctx context.Context, id string, away bool) bool
}

// A route is one method of one path.
type route struct{ method, path string }

func (s *Server) newRouter(u unavailable, admit func(*http.Request) error) *router {
	rt := &router{
		mux: httprouter.New(), formats: map[string]*errorFormat{}, admit: admit,
		unavailable: u, address: s.address, log: s.cfg.Log, clientExists: s.clientExists,
	}
	// A redirect would send the client's credentials to a path that the client did not name.
	rt.mux.RedirectTrailingSlash, rt.mux.RedirectFixedPath = false, false
	rt.mux.HandleOPTIONS = false
	rt.mux.NotFound = rt.httpHandler(func(http.ResponseWriter, *http.Request) error { return errNotFound })
	rt.mux.MethodNotAllowed = rt.httpHandler(methodNotAllowed)
	return rt
}

// methodNotAllowed removes OPTIONS from the Allow header that httprouter has set: it is
// served for preflight requests only.
func methodNotAllowed(w http.ResponseWriter, _ *http.Request) error {
	var allow []string
	for m := range strings.SplitSeq(w.Header().Get("Allow"), ", ") {
		if m != http.MethodOptions {
			allow = append(allow, m)
		}
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	return errMethod
}

func (rt *router) handle(method, path string, h handler) {
	rt.add(method, path, rt.httpHandler(h))
}

// get serves HEAD as well: net/http leaves out the body.
func (rt *router) get(path string, h handler) {
	rt.handle(http.MethodGet, path, h)
	rt.handle(http.MethodHead, path, h)
}

// handleKeySet adds the handler of the key set. It writes all lines of the header itself, and each line costs a percent of
// the time of such a request.
func (rt *router) handleKeySet(path string, h handler) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		rt.add(method, path, rt.answering(h))
	}
}

func (rt *router) add(method, path string, h http.Handler) {
	rt.routes = append(rt.routes, route{method, path})
	rt.mux.Handler(method, path, h)
}

// httpHandler returns h with the lines that the header of every answer has, unless h replaces them.
func (rt *router) httpHandler(h handler) http.Handler {
	return rt.answering(func(w http.ResponseWriter, r *http.Request) error {
		setDefaults(w.Header())
		return h(w, r)
	})
}

// answering returns h, and answers its errors.
func (rt *router) answering(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			rt.writeError(w, r, err)
		}
	})
}

func setDefaults(header http.Header) {
	header["X-Content-Type-Options"] = noSniff
	header["Cache-Control"] = noStore
}

func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rt.begin != nil {
		counted := rt.begin(w, r.URL.Path)
		defer counted.End()
		w = counted
	}
	r = requestid.Add(r)
	defer rt.recoverPanic(w, r)
	if err := rt.admit(r); err != nil {
		rt.writeError(w, r, err)
		return
	}
	if rt.identify != nil {
		known, err := rt.identify(r)
		if err != nil {
			anyone := *rt // who learns nothing about the store
			anyone.unavailable.withReason = false
			anyone.writeError(w, r, err)
			return
		}
		r = known
	}
	rt.mux.ServeHTTP(w, r)
}

// recoverPanic answers a request whose handler panics. Handlers write their answer last,
// so a panic hardly ever follows a part of one.
func (rt *router) recoverPanic(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p) // net/http closes the connection
	}
	rt.writeError(w, r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
}

// writeError writes the answer and the log line of an error.
func (rt *router) writeError(w http.ResponseWriter, r *http.Request, err error) {
	a, scheme, contentType := replyTo(err, rt.unavailable), basicAuth, jsonType
	cancelled := r.Context().Err()
	gone := cancelled != nil && errors.Is(err, cancelled)
	if gone {
		a.level = slog.LevelDebug // the client closed the connection: no fault of ours
	}
	body, _ := a.body.(api.ErrorResponse)
	metrics.Failed(w, body.Code, gone)
	if f := cmp.Or(rt.formats[r.URL.Path], rt.format); f != nil {
		a, scheme = f.apply(r, a, err), f.challenge
		if f.contentType != nil {
			contentType = f.contentType
		}
	}
	header := w.Header()
	setDefaults(header)
	header["Pragma"] = noCache
	if a.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(seconds(a.retryAfter)))
	}
	if a.status == http.StatusRequestEntityTooLarge {
		header.Set("Connection", "close") // otherwise net/http would read the body before the next request
	}
	if denied := (*challenge.Error)(nil); errors.As(err, &denied) {
		header["Www-Authenticate"] = []string{denied.Challenge}
	} else if a.status == http.StatusUnauthorized {
		header["Www-Authenticate"] = scheme
	}
	if a.status >= http.StatusInternalServerError && rt.damaged != nil {
		rt.damaged(r.Context(), err)
	}
	rt.logError(r, a, err)
	writeAs(w, contentType, a.status, a.body)
}

// logError writes one line, or lets the limit.Log count it. If there is a line because an
// account exists, the answer must not take longer, so another goroutine writes it.
func (rt *router) logError(r *http.Request, a reply, err error) {
	reason := &refusal.Reason{Code: cmp.Or(refusal.CodeOf(err), "other")}
	errors.As(err, &reason)
	message := "request refused"
	switch {
	case a.status >= http.StatusInternalServerError:
		message = "request failed"
	case reason.Login:
		message = "login refused"
	case reason.Replay:
		message, a.level = "refresh token replayed", slog.LevelWarn
	}
	if !rt.log.Enabled(r.Context(), a.level) {
		return
	}
	secret := reason.Login && a.level < slog.LevelError
	line := limit.Line{
		Level: a.level, Message: message, Attrs: rt.attrs(r, a, reason, err), Reason: reason.Code, User: reason.User, From: rt.address(r),
		Replay: reason.Replay, CountOnly: secret && reason.User == "",
	}
	switch {
	case rt.lines == nil:
		rt.log.LogAttrs(r.Context(), line.Level, line.Message, line.Attrs...)
	case secret:
		rt.lines.WriteLater(r.Context(), line)
	default:
		rt.lines.Write(r.Context(), line)
	}
}

// attrs returns the attributes of a line. Query, body and Authorization header are not
// logged: they may hold secrets. Nor is the name of a user: people type passwords into the
// field.
func (rt *router) attrs(r *http.Request, a reply, reason *refusal.Reason, err error) []slog.Attr {
	attrs := []slog.Attr{slog.String("method", short(r.Method)), slog.String("path", logPath(r.URL.Path)), slog.Int("status", a.status)}
	if c := (*clientError)(nil); errors.As(err, &c) {
		attrs = append(attrs, slog.String("client", rt.knownClient(r.Context(), c.client, outage.OfStore(err))))
	}
	if by := admin.Actor(r); by != "" {
		attrs = append(attrs, slog.String("by", by))
	}
	if from := rt.address(r); from.IsValid() {
		attrs = append(attrs, slog.String("from", from.String()))
	}
	if reason.Err != nil { // it was found in err
		attrs = append(attrs, reason.Attrs()...)
	}
	return append(attrs, slog.String("err", err.Error()))
}

// knownClient returns the id of a client that exists. Any other text may be a secret in the wrong
// place.
func (rt *router) knownClient(ctx context.Context, id string, away bool) string {
	if rt.clientExists(context.WithoutCancel(ctx), id, away) {
		return id
	}
	return "unknown"
}

// logPath returns a path for the log. No path of ours has a part as long as a secret, or a character
// such as a space, which passwords have.
func logPath(path string) string {
	parts := strings.Split(short(path), "/")
	for n, part := range parts {
		if len(part) > maxLoggedPart || strings.ContainsFunc(part, func(c rune) bool { return !strings.ContainsRune(pathCharacters, c) }) {
			parts[n] = "..."
		}
	}
	return strings.Join(parts, "/")
}

const (
	maxLoggedPart  = 30
	pathCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
)

// writeJSON writes v, or returns an error and has written nothing.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	return writeAs(w, jsonType, status, v)
}

func writeAs(w http.ResponseWriter, contentType []string, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	writeBody(w, contentType, status, b)
	return nil
}

func writeBody(w http.ResponseWriter, contentType []string, status int, body []byte) {
	w.Header()["Content-Type"] = contentType
	if status != http.StatusOK { // Write begins the answer with 200 by itself
		w.WriteHeader(status)
	}
	w.Write(body) // fails only if the client has closed the connection
}

// notBefore returns t in UTC and whole seconds, rounded up: a client that came back earlier would be
// refused again. It returns nil, which JSON shows as null, if t is not determined yet.
func notBefore(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Add(time.Second - 1).UTC().Truncate(time.Second)
	return &t
}

// seconds rounds up: a client that came back earlier would be refused again.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// short bounds what a client can write into one log attribute.
func short(s string) string { return s[:min(len(s), 100)] }
