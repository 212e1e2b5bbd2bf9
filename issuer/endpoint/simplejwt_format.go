package endpoint

import (
	"errors"
	"fmt"
	"net/http"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// A detail is the error format of Django REST framework. simplejwt adds the code.
type detail struct {
	Detail string `json:"detail"`
	Code   string `json:"code,omitempty"`
}

const tokenNotValid = "token_not_valid"

// simplejwtAnswers are the answers with status 401, by the code of the refusal.
var simplejwtAnswers = map[string]detail{
	"invalid_credentials": {"No active account found with the given credentials", ""},
	"invalid_grant":       {"Token is invalid or expired", tokenNotValid},
	"token_blacklisted":   {"Token is blacklisted", tokenNotValid},
	"token_wrong_type":    {"Token has wrong type", tokenNotValid},
}

func formatSimpleJWT(r *http.Request, a reply, err error) reply {
	var fields fieldErrors
	var refused *refusal.Refusal
	if errors.As(err, &fields) {
		a.body = fields
		return a
	}
	if errors.As(err, &refused) {
		if answer, ok := simplejwtAnswers[refused.Code]; ok {
			a.status, a.body = http.StatusUnauthorized, answer
			return a
		}
	}
	a.body = detail{Detail: detailOf(r, a)}
	return a
}

// detailOf returns the text of the framework for a status, or our own if it has none.
func detailOf(r *http.Request, a reply) string {
	ours, _ := a.body.(api.ErrorResponse)
	switch a.status {
	case http.StatusMethodNotAllowed:
		return fmt.Sprintf(`Method "%s" not allowed.`, short(r.Method))
	case http.StatusUnsupportedMediaType:
		if len(r.Header["Content-Type"]) > 1 || isCoded(r.Header) {
			return ours.Description // the media type itself may be supported
		}
		return fmt.Sprintf(`Unsupported media type "%s" in request.`, short(r.Header.Get("Content-Type")))
	case http.StatusTooManyRequests:
		return throttled(seconds(a.retryAfter))
	case http.StatusServiceUnavailable:
		if a.retryAfter == 0 || ours.Description == storeMoved {
			return ours.Description
		}
		return "Service temporarily unavailable, try again later."
	case http.StatusInternalServerError:
		return "A server error occurred."
	}
	return ours.Description
}

func throttled(wait int) string {
	unit := "seconds"
	if wait == 1 {
		unit = "second"
	}
	return fmt.Sprintf("Request was throttled. Expected available in %d %s.", wait, unit)
}
