package endpoint

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"keymill/issuer"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
	"keymill/keystore"
)

// A statusError is a refusal whose status its code does not tell.
type statusError struct {
	status     int
	retryAfter time.Duration
	*refusal.Refusal
}

func (e *statusError) Unwrap() error { return e.Refusal }

var (
	errNotFound    = &statusError{http.StatusNotFound, 0, refusal.New("not_found", "there is nothing at this path")}
	errMethod      = &statusError{http.StatusMethodNotAllowed, 0, refusal.New("invalid_request", "this path does not take this method")}
	errMisdirected = &statusError{http.StatusMisdirectedRequest, 0,
		refusal.New("invalid_request", "a server started with --dev answers only to its own host name")}
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
		return bodyOf(refusal.New(b.code, "%s; try again later", reason))
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

// A shape gives replies the form in which the callers of a path expect to be refused.
type shape struct {
	challenge []string // of a 401
	apply     func(r *http.Request, a reply, err error) reply
}

type errorBody struct {
	Code string `json:"error"`
	Hint string `json:"error_description,omitempty"`
}

// temporarilyUnavailable is a code of RFC 6749, section 4.1.2.1, for authorization
// endpoints. We use it for 429 and 503, since no code is registered for "try again later"
// at other endpoints: slow_down belongs to the device grant, and invalid_client would say
// that the secret was checked.
const temporarilyUnavailable = "temporarily_unavailable"

var errTooMany = errorBody{temporarilyUnavailable, "too many failed attempts, try again later"}

// statuses of refusals; all others are 400.
var statuses = map[string]int{
	"invalid_client":      http.StatusUnauthorized,
	"invalid_credentials": http.StatusUnauthorized,
	"not_found":           http.StatusNotFound,
	"already_exists":      http.StatusConflict,
	"in_use":              http.StatusConflict,
}

// explain is the table of the package doc.
func explain(err error, b busy) reply {
	var (
		status   *statusError
		refused  *refusal.Refusal
		invalid  *keystore.InvalidError
		notReady *keystore.NotReadyError
		limited  *limit.Error
		hashers  *issuer.BusyError
	)
	switch {
	case errors.As(err, &status):
		return reply{status.status, status.retryAfter, bodyOf(status.Refusal), levelOf(status.status)}
	case errors.As(err, &refused):
		return reply{statusOf(refused), 0, bodyOf(refused), slog.LevelInfo}
	case errors.As(err, &invalid):
		refused = refusal.New(invalid.Code, "%s", invalid.Hint)
		return reply{statusOf(refused), 0, bodyOf(refused), slog.LevelInfo}
	case errors.As(err, &notReady):
		body := struct {
			errorBody
			At *time.Time `json:"at"`
		}{bodyOf(refusal.New("not_ready", "%s", notReady.Error())), instant(notReady.At)}
		return reply{http.StatusConflict, 0, body, slog.LevelInfo}
	case errors.As(err, &limited):
		return reply{http.StatusTooManyRequests, limited.RetryAfter, errTooMany, slog.LevelInfo}
	case errors.As(err, &hashers):
		return reply{http.StatusTooManyRequests, max(hashers.RetryAfter, time.Second), b.body(hashers.Error()), slog.LevelWarn}
	}
	if reason, wait, ok := issuer.Unavailable(err); ok {
		return reply{http.StatusServiceUnavailable, max(wait, time.Second), b.body(reason), slog.LevelWarn}
	}
	return reply{http.StatusInternalServerError, 0,
		errorBody{"server_error", "the server failed, its log says why"}, slog.LevelError}
}

// levelOf: scanners send thousands of 404 and 405; a 503 is for the operator.
func levelOf(status int) slog.Level {
	switch status {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return slog.LevelDebug
	case http.StatusServiceUnavailable:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func statusOf(r *refusal.Refusal) int {
	if status, ok := statuses[r.Code]; ok {
		return status
	}
	return http.StatusBadRequest
}

func bodyOf(r *refusal.Refusal) errorBody { return errorBody{r.Code, r.Hint} }
