package endpoint

import (
	"errors"
	"fmt"
	"net/http"

	"keymill/issuer/refusal"
)

// A detail is how Django REST framework refuses. The code is simplejwt's addition.
type detail struct {
	Detail string `json:"detail"`
	Code   string `json:"code,omitempty"`
}

const tokenNotValid = "token_not_valid"

// simplejwtAnswers are the 401s, by the code of the refusal.
var simplejwtAnswers = map[string]detail{
	"invalid_credentials": {"No active account found with the given credentials", ""},
	"invalid_grant":       {"Token is invalid or expired", tokenNotValid},
	"token_blacklisted":   {"Token is blacklisted", tokenNotValid},
	"token_wrong_type":    {"Token has wrong type", tokenNotValid},
}

var simplejwtShape = &shape{challenge: []string{`Bearer realm="api"`}, apply: shapeSimpleJWT}

func shapeSimpleJWT(r *http.Request, a reply, err error) reply {
	var fields fieldErrors
	var refused *refusal.Refusal
	if errors.As(err, &fields) {
		a.body = fields
		return a
	}
	if errors.As(err, &refused) {
		if said, ok := simplejwtAnswers[refused.Code]; ok {
			a.status, a.body = http.StatusUnauthorized, said
			return a
		}
	}
	a.body = detail{Detail: detailOf(r, a, refused)}
	return a
}

// detailOf says the rest in the framework's words.
func detailOf(r *http.Request, a reply, refused *refusal.Refusal) string {
	switch a.status {
	case http.StatusMethodNotAllowed:
		return fmt.Sprintf(`Method "%s" not allowed.`, short(r.Method))
	case http.StatusUnsupportedMediaType:
		if len(r.Header["Content-Type"]) > 1 || r.Header.Get("Content-Encoding") != "" {
			return refused.Hint // the type itself may be a good one
		}
		return fmt.Sprintf(`Unsupported media type "%s" in request.`, short(r.Header.Get("Content-Type")))
	case http.StatusTooManyRequests:
		return throttled(seconds(a.retryAfter))
	case http.StatusServiceUnavailable:
		return "Service temporarily unavailable, try again later."
	case http.StatusInternalServerError:
		return "A server error occurred."
	}
	return refused.Hint
}

func throttled(wait int) string {
	unit := "seconds"
	if wait == 1 {
		unit = "second"
	}
	return fmt.Sprintf("Request was throttled. Expected available in %d %s.", wait, unit)
}
