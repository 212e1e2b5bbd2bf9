// Package accesstoken reads the access tokens that are presented to this server.
//
// This program has not made all of them. A key that was imported also signs for the program that had it
// before, and a stolen key signs for its thief. So a right signature does not say that a claim is one that
// this program writes. Only this package reads claims, and these are its rules:
//
//	claim      the token is ErrInvalid if it is         otherwise it is
//	iss        another issuer                           compared
//	aud        not one string that IsName               compared with audiences of clients
//	sub        missing or empty                         compared; the id of a user, if there is one
//	client_id  missing or empty                         compared; the id of a client
//	exp        missing or past                          the end of a record
//	iat        missing, ahead, before 1980              compared with epochs, in whole seconds
//	sid        neither missing, empty nor a session id  the key of a session
//	jti        of another type than a string            the key of a record, if it IsName
//	typ        neither at+jwt nor JWT                   compared with the type of the audience
//
// Any of them is ErrInvalid if it occurs twice or has another type than RFC 9068 says. What is only
// compared may have any length and any character.
//
// A token whose jti is missing, or is not a name, can be valid. No record can name it, so it cannot be
// revoked alone: a record without a name would be that of all such tokens. It ends with its session, its
// user, its client, the store or its key.
package accesstoken

import (
	"errors"
	"time"

	"keymill/issuer/record"
	"keymill/jwks"
	"keymill/storage"
)

// A Token is what an access token says that has a right signature.
type Token struct {
	Issuer   string
	Subject  string // a user, or the client itself; of any length
	Audience string
	Client   string // of any length, as Scope is
	Scope    string
	Type     string    // jwks.TypeAccessToken or jwks.TypeJWT: the caller compares it with that of the audience
	ID       string    // a name, see IsName; "" if the token cannot be revoked alone
	Session  record.ID // the zero ID if the token has none
	Issued   time.Time // whole seconds
	Expires  time.Time // can be in the year 9999
}

// MaxIDBytes bounds names, and so the jti of a token that can be revoked alone. Ours has 22.
const MaxIDBytes = 200

// IsName reports whether a record can be named by the claim: 1 to 200 characters of printable ASCII.
func IsName(claim string) bool { return len(claim) <= MaxIDBytes && storage.CheckKey(claim) == nil }

// HasSession reports whether the token belongs to a session.
func (t *Token) HasSession() bool { return t.Session != record.ID{} }

// read applies the rules of this package to claims that jwks.Check has accepted.
func read(c *jwks.Claims, audience string) (*Token, error) {
	t := &Token{
		Issuer: c.Issuer, Subject: c.Subject, Audience: audience, Client: c.ClientID, Scope: c.Scope, Type: c.Type,
		Issued: c.IssuedAt.Truncate(time.Second), Expires: c.Expires,
	}
	if !IsName(audience) {
		return nil, errors.New("aud is not the name of an audience")
	}
	if !storage.PossibleTime(t.Issued.UTC()) {
		return nil, errors.New("iat is missing or impossible")
	}
	if c.SessionID != "" {
		id, ok := record.ParseID(c.SessionID)
		if !ok || id == (record.ID{}) {
			return nil, errors.New("sid is not the id of a session")
		}
		t.Session = id
	}
	if IsName(c.ID) {
		t.ID = c.ID
	}
	return t, nil
}
