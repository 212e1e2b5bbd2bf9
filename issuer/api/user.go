package api

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"keymill/issuer/refusal"
)

// A User is a person.
type User struct {
	ID              string     `json:"user_id"` // the claim sub: 1 to 64 bytes
	Name            string     `json:"username"`
	Disabled        bool       `json:"disabled"`
	Claims          Claims     `json:"claims"`
	Scheme          string     `json:"password_scheme"` // "argon2id", "pbkdf2_sha256", …, "none"
	Created         time.Time  `json:"created"`
	PasswordChanged *time.Time `json:"password_changed"` // null if there is no password
	LastLogin       *time.Time `json:"last_login"`       // null if the user has not logged in yet
}

// A UserDetails is a User with what the running server knows about failed logins. It counts them in
// memory, so a restart forgets them.
type UserDetails struct {
	User
	RecentFailures int            `json:"recent_failures"` // wrong passwords in the last 15 minutes
	BlockedUntil   *time.Time     `json:"blocked_until"`   // the latest of Blocked; null if there is none
	DrawnUntil     *time.Time     `json:"drawn_until"`     // until when one login from all new addresses is checked every 36 s; null if all are
	Blocked        []BlockedLogin `json:"blocked"`
}

// A BlockedLogin is an address from which the logins of a user are refused.
type BlockedLogin struct {
	From  string    `json:"from"` // an IPv4 address or an IPv6 /64
	Until time.Time `json:"until"`
}

// Claims are custom claims of a user, a client or an audience, name → value. The server refuses the names of claims that
// it sets itself. No name occurs twice in one object, at any depth: a verifier and this server
// could otherwise read two different values.
type Claims map[string]json.RawMessage

// UnmarshalJSON implements json.Unmarshaler. It fails if an object names a member twice.
func (c *Claims) UnmarshalJSON(raw []byte) error {
	if err := distinctMembers(raw); err != nil {
		return err
	}
	var plain map[string]json.RawMessage
	err := json.Unmarshal(raw, &plain)
	*c = plain
	return err
}

// A ClaimMap says which claims of a user are in the tokens of an audience: name in the token → name of the user's claim.
type ClaimMap map[string]string

// UnmarshalJSON implements json.Unmarshaler. It fails if the object names a member twice.
func (m *ClaimMap) UnmarshalJSON(raw []byte) error {
	if err := distinctMembers(raw); err != nil {
		return err
	}
	var plain map[string]string
	err := json.Unmarshal(raw, &plain)
	*m = plain
	return err
}

// A NewUser is a request to add a user.
type NewUser struct {
	ID       string         `json:"user_id"`  // "" for one that the server chooses
	Name     string         `json:"username"` // required
	Password refusal.Secret `json:"password"` // "" for a user who cannot log in with one
	Disabled bool           `json:"disabled"`
	Claims   Claims         `json:"claims"`
}

// An ImportedUser is a user of another system, who keeps the password.
type ImportedUser struct {
	ID       string         `json:"user_id"`  // "" for one that the server chooses
	Name     string         `json:"username"` // required
	Hash     refusal.Secret `json:"hash"`     // of the password, as the other system wrote it: a PHC string or Django's form; "" for none
	Disabled bool           `json:"disabled"`
	Claims   Claims         `json:"claims"`

	// WithoutPassword imports the user with no password if the hash would be refused.
	WithoutPassword bool `json:"without_password,omitempty"`
}

// A UserChange is a request to change a User. Fields that are nil stay as they are.
type UserChange struct {
	Name     *string `json:"username"` // sessions go on, and the old name is free again
	Disabled *bool   `json:"disabled"` // true ends every session of the user
	Claims   *Claims `json:"claims"`   // replaces all
}

// A SetPasswordRequest gives a user a new password and ends every session of the user.
type SetPasswordRequest struct {
	Password refusal.Secret `json:"password"` // required
}

// An ImportUsersRequest imports users of another system. Each user succeeds or fails on its own.
type ImportUsersRequest struct {
	Users  []RawUser `json:"users"`   // required, 1 to 50
	DryRun bool      `json:"dry_run"` // only check
}

// A RawUser is the JSON of one ImportedUser. It can have the hash of a password, so no verb of fmt
// and no logger prints it.
type RawUser json.RawMessage

// MarshalJSON implements json.Marshaler.
func (u RawUser) MarshalJSON() ([]byte, error) { return u, nil }

// UnmarshalJSON implements json.Unmarshaler. It keeps a copy of raw.
func (u *RawUser) UnmarshalJSON(raw []byte) error {
	*u = slices.Clone(raw)
	return nil
}

// Format implements fmt.Formatter.
func (u RawUser) Format(f fmt.State, verb rune) { refusal.Secret(u).Format(f, verb) }

// LogValue implements slog.LogValuer.
func (u RawUser) LogValue() slog.Value { return refusal.Secret(u).LogValue() }

// An ImportResults has the result for each user, in the order of the request.
type ImportResults struct {
	Results []ImportResult `json:"results"`
}

// An ImportResult is the result for one user.
type ImportResult struct {
	ID   string `json:"user_id"`
	Name string `json:"username"`
	// Scheme is the User's if the user was added, or would be.
	Scheme string `json:"password_scheme,omitempty"`
	// Code is "" if the user was added, "already_exists" if the same user exists, "conflict"
	// if another user has the id or the name, and the code of a refusal otherwise.
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"` // the refusal in words
}
