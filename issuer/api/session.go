package api

import (
	"time"

	"keymill/issuer/refusal"
)

// A Session is one login of one user through one client, with all refresh tokens that descend from
// it: the family of RFC 9700, section 4.14.
type Session struct {
	ID          string     `json:"session_id"` // the claim sid: 26 characters
	User        string     `json:"user_id"`
	Client      string     `json:"client_id"`
	Endpoint    string     `json:"login_endpoint"` // "simplejwt" or "browser"
	State       string     `json:"state"`          // "live", "expired" or "revoked"
	Reason      string     `json:"reason"`         // why it ended, in words; "" while it is live
	Created     time.Time  `json:"created"`
	LastUsed    time.Time  `json:"last_used"`
	Expires     time.Time  `json:"expires"`      // when it ends if it is not used again
	AbsoluteEnd time.Time  `json:"absolute_end"` // when it ends in any case
	Ended       *time.Time `json:"ended"`        // null while it is live, and if an epoch ended it together with others
	Generation  uint32     `json:"generation"`   // how often its refresh token was replaced
	Graced      int        `json:"graced"`       // how often a replaced token was answered within its grace
	Shared      bool       `json:"shared"`       // five generations in a row were answered within the grace, each to two addresses
	Audiences   []string   `json:"audiences"`
	Scope       string     `json:"scope"`
}

// A SessionPage is a part of a list of sessions, newest first.
type SessionPage struct {
	Sessions []Session `json:"sessions"`
	More     bool      `json:"more"` // there can be older ones
	Next     string    `json:"next"` // the parameter after of the next page; "" if there is none
}

// A RevokeSessionsRequest ends every session of a client, or of the store. Exactly one of the
// two is given: an empty body must not log every user out.
type RevokeSessionsRequest struct {
	Client string `json:"client"`
	All    bool   `json:"all"`
}

// A RefreshSecret is a secret that refresh tokens are made with.
type RefreshSecret struct {
	Number int       `json:"number"`    // of the secret; every refresh token has one
	Used   time.Time `json:"used_from"` // when servers begin to make tokens with it; all servers of the store know it then
}

// An ExplainRequest asks what the server would answer to a refresh token now.
type ExplainRequest struct {
	Token refusal.Secret `json:"token"` // required
}

// An Explanation says what the server would answer to a refresh token now.
type Explanation struct {
	Accepted bool `json:"good"` // a refresh with the token would succeed
	// State is "malformed", "forged", "gone", "revoked", "expired", "rolled_back", "replay",
	// "late_retry", "refused", "grace" or "current". The last two are accepted.
	State      string   `json:"verdict"`
	Why        string   `json:"why"`        // in words
	Generation *uint32  `json:"generation"` // of the token; null if this server did not make it
	Session    *Session `json:"session"`    // null if there is no record
}
