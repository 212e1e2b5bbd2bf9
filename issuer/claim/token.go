package claim

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strconv"
)

// A Token has the claims of an access token that the server sets (RFC 9068, section 2.2). The custom
// claims of a user follow them and cannot have one of their names.
type Token struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Client   string `json:"client_id"`
	Expires  int64  `json:"exp"`
	Issued   int64  `json:"iat"`
	ID       string `json:"jti"`
	Scope    string `json:"scope,omitempty"`
	Session  string `json:"sid,omitempty"`
	Type     string `json:"token_type,omitempty"` // this and the next: simplejwt only
	User     any    `json:"user_id,omitempty"`    // a number if the id is one, else a string
}

// Payload returns the claims and then own, the custom claims of a user, as JSON.
func (t *Token) Payload(own json.RawMessage) ([]byte, error) {
	payload, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return withClaims(payload, own), nil
}

// withClaims appends the custom claims of a user. They were checked when they were stored. A name that
// a newer version reserves is left out.
func withClaims(payload []byte, claims json.RawMessage) []byte {
	if len(claims) == 0 {
		return payload
	}
	var own map[string]json.RawMessage
	if json.Unmarshal(claims, &own) != nil {
		return payload // cannot happen: it was checked before it was stored
	}
	for name := range own {
		if IsReserved(name) {
			delete(own, name)
		}
	}
	more, err := json.Marshal(own)
	if err != nil || len(own) == 0 {
		return payload
	}
	return append(append(payload[:len(payload)-1], ','), more[1:]...)
}

// maxSafeInteger is 2^53 − 1. Some JSON readers change larger numbers.
const maxSafeInteger = 1<<53 - 1

// DjangoUserID returns an id as the claim user_id of simplejwt: a number, if Django's primary key is one.
func DjangoUserID(id string) any {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil || n > maxSafeInteger || strconv.FormatUint(n, 10) != id {
		return id
	}
	return n
}

// NewTokenID returns 128 random bits.
func NewTokenID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
