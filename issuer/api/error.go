package api

import "time"

// An ErrorResponse is the answer to a request that failed (RFC 6749, section 5.2).
type ErrorResponse struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

// A NotReadyResponse is the answer to a rotation that would come too early.
type NotReadyResponse struct {
	ErrorResponse
	At *time.Time `json:"at"` // when the spare may sign; null if that is not known
}
