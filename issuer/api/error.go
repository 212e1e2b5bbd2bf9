package api

import "time"

// A Problem is the answer to a request that failed (RFC 9457), of the type application/problem+json.
type Problem struct {
	Type   string `json:"type"`             // always about:blank
	Title  string `json:"title"`            // the status in words
	Status int    `json:"status"`           // that of the answer
	Detail string `json:"detail,omitempty"` // what is wrong with this request, in words
	Code   string `json:"code"`             // what is wrong, for programs
}

// A NotReadyProblem is the answer to a rotation that would come too early.
type NotReadyProblem struct {
	Problem
	At *time.Time `json:"at"` // when the spare may sign; null if that is not known
}

// An ErrorResponse is an error of the public API (RFC 6749, section 5.2).
type ErrorResponse struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// A NotReadyResponse is an ErrorResponse to a rotation that would come too early.
type NotReadyResponse struct {
	ErrorResponse
	At *time.Time `json:"at"` // when the spare may sign; null if that is not known
}
