package api

import "time"

// An ActivityMinute is what the token endpoint and the login endpoints did in one minute.
type ActivityMinute struct {
	Begin    time.Time `json:"begin"`
	Tokens   uint64    `json:"tokens"`   // access tokens that were issued
	Refusals uint64    `json:"refusals"` // requests for a token that were refused, without those that a limit answered
	Reuses   uint64    `json:"reuses"`   // of the refusals, those of a refresh token that was used again: replays and late retries
}
