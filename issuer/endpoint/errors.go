package endpoint

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint/admin"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/outage"
	"keymill/issuer/refusal"
	"keymill/keystore"
)

// A statusError is a refusal with a status of its own.
type statusError struct {
	status int
	*refusal.Refusal
}

func (e *statusError) Unwrap() error { return e.Refusal }

func newStatusError(status int, code, description string) *statusError {
	return &statusError{status, refusal.New(code, "%s", description)}
}

var (
	errNotFound    = newStatusError(http.StatusNotFound, "not_found", "this path does not exist")
	errMethod      = newStatusError(http.StatusMethodNotAllowed, "invalid_request", "this path does not accept this method")
	errHeaders     = newStatusError(http.StatusRequestHeaderFieldsTooLarge, "invalid_request", "the request has too many headers")
	errMisdirected = newStatusError(http.StatusMisdirectedRequest, "invalid_request",
		"a trial server answers only requests for its own host name")
)

// A clientError adds the client_id of the request, for the log.
type clientError struct {
	client string
	error
}

func (e *clientError) Unwrap() error { return e.error }

// refusedAs reports whether err is a refusal with that code.
func refusedAs(err error, code string) bool {
	refused, ok := errors.AsType[*refusal.Refusal](err)
	return ok && refused.Code == code
}

// temporarilyUnavailable is a code of RFC 6749, section 4.1.2.1, for authorization
// endpoints. We use it for 429 and 503, since no code is registered for "try again later"
// at other endpoints: slow_down belongs to the device grant, and invalid_client would say
// that the secret was checked.
const temporarilyUnavailable = "temporarily_unavailable"

// serverError is a code of the same section, for what a retry does not change.
const serverError = "server_error"

// unavailable says how a router answers when the server cannot do what was asked.
type unavailable struct {
	code       string
	withReason bool // the answer says why: for administrators only
}

// body is for a request that can succeed later.
func (u unavailable) body(reason string) api.ErrorResponse {
	if u.withReason {
		return bodyOf(refusal.New(u.code, "%s; try again later", reason))
	}
	return api.ErrorResponse{Code: u.code, Description: "the server is temporarily unavailable, try again later"}
}

// untilRepaired is for a request that fails until the operator has repaired something. Only administrators learn
// what: the name of a record would tell which accounts exist.
func (u unavailable) untilRepaired(reason string) api.ErrorResponse {
	if u.withReason {
		return bodyOf(refusal.New(u.code, "%s", reason))
	}
	return api.ErrorResponse{Code: serverError, Description: "the server cannot do this until its operator has repaired it, see the server's log"}
}

// storeMoved tells clients why this server changes nothing. Where the store is now is for administrators only.
const storeMoved = "the store of this server has moved, so this server changes nothing; its operator sends clients to the new servers"

// moved is for a change of a store that was moved. A client that asks again has an answer as soon as the operator has sent
// its address to the new place. An administrator who asks this server again has not.
func (u unavailable) moved(reason string, wait time.Duration) reply {
	if u.withReason {
		return reply{http.StatusServiceUnavailable, 0, u.untilRepaired(reason), slog.LevelWarn}
	}
	body := api.ErrorResponse{Code: u.code, Description: storeMoved}
	return reply{http.StatusServiceUnavailable, wait, body, slog.LevelWarn}
}

// A reply is the answer to an error, and the level of its log line.
type reply struct {
	status     int
	retryAfter time.Duration
	body       any // an api.ErrorResponse, or what an errorFormat makes of it
	level      slog.Level
}

// An errorFormat gives the errors of a path the format that its clients expect.
type errorFormat struct {
	challenge   []string // WWW-Authenticate of a 401
	contentType []string // nil for JSON
	apply       func(r *http.Request, a reply, err error) reply
}

// problemFormat is that of the admin API.
var problemFormat = errorFormat{contentType: []string{admin.ProblemType}, apply: func(_ *http.Request, a reply, _ error) reply {
	a.body = admin.Problem(a.status, a.body)
	return a
}}

func bodyOf(r *refusal.Refusal) api.ErrorResponse {
	return api.ErrorResponse{Code: r.Code, Description: r.Description}
}

// replyTo implements the table in the package documentation.
func replyTo(err error, u unavailable) reply {
	var (
		status   *statusError
		refused  *refusal.Refusal
		invalid  *keystore.InvalidError
		notReady *keystore.NotReadyError
		large    *http.MaxBytesError
		limited  *limit.Error
		hashers  *issuer.BusyError
	)
	switch {
	case errors.As(err, &status):
		return reply{status.status, 0, bodyOf(status.Refusal), levelOf(status.status)}
	case errors.As(err, &refused):
		return reply{statusOf(refused), 0, bodyOf(refused), slog.LevelInfo}
	case errors.As(err, &invalid):
		refused = refusal.New(invalid.Code, "%s", invalid.Description)
		return reply{statusOf(refused), 0, bodyOf(refused), slog.LevelInfo}
	case errors.As(err, &notReady):
		body := api.NotReadyResponse{ErrorResponse: bodyOf(refusal.New("not_ready", "%s", notReady.Error())), At: notBefore(notReady.At)}
		return reply{http.StatusConflict, 0, body, slog.LevelInfo}
	case errors.As(err, &large):
		refused = refusal.New("invalid_request", "the body is larger than %d bytes", large.Limit)
		return reply{http.StatusRequestEntityTooLarge, 0, bodyOf(refused), slog.LevelInfo}
	case errors.As(err, &limited):
		body := api.ErrorResponse{Code: temporarilyUnavailable, Description: "too many failed attempts, try again later"}
		return reply{http.StatusTooManyRequests, limited.RetryAfter, body, slog.LevelInfo}
	case errors.As(err, &hashers):
		return reply{http.StatusTooManyRequests, max(hashers.RetryAfter, time.Second), u.body(hashers.Error()), slog.LevelWarn}
	}
	switch reason, wait, ok := outage.Of(err); {
	case ok && outage.HasMoved(err):
		return u.moved(reason, wait)
	case ok && wait > 0:
		return reply{http.StatusServiceUnavailable, wait, u.body(reason), slog.LevelWarn}
	case ok:
		return reply{http.StatusServiceUnavailable, 0, u.untilRepaired(reason), slog.LevelWarn}
	}
	return reply{http.StatusInternalServerError, 0, api.ErrorResponse{Code: serverError, Description: "internal error, see the server's log"}, slog.LevelError}
}

// levelOf keeps the thousands of 404 and 405 of scanners out of the log. A 503 is a
// problem that the operator has to solve.
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
	switch r.Code {
	case "invalid_client", "invalid_credentials", "invalid_token", "no_token":
		return http.StatusUnauthorized
	case "not_found":
		return http.StatusNotFound
	case "precondition_failed":
		return http.StatusPreconditionFailed
	case "socket_only", "insufficient_scope", "origin_refused":
		return http.StatusForbidden
	case "wrong_host":
		return http.StatusMisdirectedRequest
	case "already_exists", "built_in", "in_use", "no_reserve", "not_served":
		return http.StatusConflict
	}
	return http.StatusBadRequest
}
