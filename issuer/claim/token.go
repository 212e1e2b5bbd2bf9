package claim

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"keymill/issuer/object"
)

// A Token has the claims of an access token that the server sets (RFC 9068, section 2.2). Custom
// claims follow them and cannot have one of their names.
type Token struct {
	Issuer   string // iss
	Subject  string // sub
	Audience string // aud
	Client   string // client_id
	Expires  int64  // exp
	Issued   int64  // iat
	ID       string // jti
	Scope    string // scope; left out if empty, as are all that follow
	Session  string // sid
	Type     string // token_type; this and the next: simplejwt only
	User     string // user_id, which is a number if Django's primary key is one
}

// A Layer is what one record adds to the claims of a token.
type Layer struct {
	Of     string          // "audience", "client" or "user"
	Claims json.RawMessage // one object that Check or CheckFlat has returned; nil if there are none
}

// A LeftOut is a claim of a layer that is not in the token, because a layer before has one of that name.
type LeftOut struct{ Of, Name string }

// Payload returns the claims and then those of the layers, as one JSON object. No name occurs twice, in any case:
// the first layer that has it wins.
func (t *Token) Payload(layers ...Layer) ([]byte, []LeftOut) {
	payload := t.own()
	layers = slices.DeleteFunc(layers, func(l Layer) bool { return len(l.Claims) == 0 })
	if len(layers) == 0 {
		return payload, nil
	}
	if len(layers) == 1 {
		return withClaims(payload, layers[0].Claims), nil
	}
	merged, left := merge(layers)
	return withClaims(payload, merged), left
}

// own returns the claims that the server sets.
func (t *Token) own() []byte {
	o := object.New(payloadRoom).Text("iss", t.Issuer).Text("sub", t.Subject).Text("aud", t.Audience).Text("client_id", t.Client).
		Number("exp", t.Expires).Number("iat", t.Issued).Text("jti", t.ID).
		TextIf("scope", t.Scope).TextIf("sid", t.Session).TextIf("token_type", t.Type)
	if t.User == "" {
		return o.End()
	}
	if id, ok := djangoKey(t.User); ok {
		return o.Number("user_id", id).End()
	}
	return o.Text("user_id", t.User).End()
}

// payloadRoom is enough for the claims of most tokens.
const payloadRoom = 384

// merge returns the claims of the layers as one object.
func merge(layers []Layer) (merged json.RawMessage, left []LeftOut) {
	all, seen := map[string]json.RawMessage{}, map[string]bool{}
	for _, l := range layers {
		var own map[string]json.RawMessage
		if json.Unmarshal(l.Claims, &own) != nil {
			continue // cannot happen: it was checked before it was stored
		}
		for _, name := range slices.Sorted(maps.Keys(own)) {
			folded := strings.ToLower(name)
			if seen[folded] {
				left = append(left, LeftOut{l.Of, name})
				continue
			}
			seen[folded], all[name] = true, own[name]
		}
	}
	merged, err := json.Marshal(all)
	if err != nil {
		return nil, left // cannot happen either
	}
	return merged, left
}

// withClaims appends custom claims. They were checked when they were stored. A name that
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

// djangoKey returns an id as a number, if Django's primary key is one: simplejwt writes it so.
func djangoKey(id string) (number int64, ok bool) {
	n, err := strconv.ParseUint(id, 10, 64)
	if err != nil || n > maxSafeInteger || strconv.FormatUint(n, 10) != id {
		return 0, false
	}
	return int64(n), true
}

// NewTokenID returns 128 random bits.
func NewTokenID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
