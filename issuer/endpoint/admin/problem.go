package admin

import (
	"net/http"

	"keymill/issuer/api"
)

// ProblemType is the media type of every error.
const ProblemType = "application/problem+json"

// Problem returns an error of package endpoint as this API answers it (RFC 9457).
func Problem(status int, body any) any {
	switch body := body.(type) {
	case api.ErrorResponse:
		return problemOf(status, body)
	case api.NotReadyResponse:
		return api.NotReadyProblem{Problem: problemOf(status, body.ErrorResponse), At: body.At}
	}
	return body
}

func problemOf(status int, e api.ErrorResponse) api.Problem {
	// RFC 9457, section 4.2.1: about:blank says no more than the status, whose text is the title.
	return api.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Description, Code: e.Code}
}
