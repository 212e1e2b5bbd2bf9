package api

import "keymill/issuer/refusal"

// An AudienceState is all that a PUT makes of an audience. What is absent becomes the default.
type AudienceState struct {
	Alg     string   `json:"alg"`     // required; cannot change
	TTL     string   `json:"ttl"`     // lifetime of an access token; the default is 15m
	Scopes  []string `json:"scopes"`  // what a token may hold
	Profile string   `json:"profile"` // what verifies the tokens: "rfc9068", which is the default, "simplejwt" or "spring"
	Type    string   `json:"type"`    // typ in the header of the tokens: "at+jwt" or "JWT"; the default is that of the profile

	Claims   Claims   `json:"claims"`    // in each of its tokens
	ClaimMap ClaimMap `json:"claim_map"` // name in its tokens → name of a user's claim
}

// A ClientState is all that a PUT makes of a client. What is absent becomes empty or false. The secrets stay as
// they are unless secret_sha256 is given.
type ClientState struct {
	Public     bool     `json:"public"` // cannot change
	Disabled   bool     `json:"disabled"`
	Grants     []string `json:"grants"`
	Audiences  []string `json:"audiences"`
	Scopes     []string `json:"scopes"`
	Origins    []string `json:"origins"`
	Introspect []string `json:"introspect"`
	Grace      string   `json:"grace"`
	Idle       string   `json:"idle"`
	Absolute   string   `json:"absolute"`
	Claims     Claims   `json:"claims"`

	// SecretSHA256 is the SHA-256 of a secret that the caller has made of at least 32 random bytes, as 64
	// hexadecimal digits. The secret replaces all others at once. A new confidential client without it gets
	// a secret of the server in the answer.
	SecretSHA256 string `json:"secret_sha256"`
}

// A UserState is all that a PUT makes of a user. What is absent becomes empty or false.
type UserState struct {
	Name     string         `json:"username"` // required
	Disabled bool           `json:"disabled"`
	Claims   Claims         `json:"claims"`
	Password refusal.Secret `json:"password"` // only of a new user; an existing user keeps the password
}
