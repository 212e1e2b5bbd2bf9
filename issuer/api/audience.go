package api

// An Audience is an API that accepts the tokens of this server: the claim aud.
type Audience struct {
	Name    string   `json:"audience"` // 1 to 200 visible ASCII characters; required in a request
	Alg     string   `json:"alg"`      // signs its tokens; cannot change; required in a request
	TTL     string   `json:"ttl"`      // lifetime of an access token, "15m0s"; the default in a request is 15m
	Scopes  []string `json:"scopes"`   // what a token may hold, sorted
	Profile string   `json:"profile"`  // of the claims: "rfc9068", which is the default, or "simplejwt"

	BuiltIn bool `json:"built_in,omitempty"` // it is the audience of the admin API, which cannot change; not in a request
}

// An AudienceChange is a request to change an Audience. Fields that are nil stay as they are.
type AudienceChange struct {
	TTL     *string   `json:"ttl"`
	Scopes  *[]string `json:"scopes"`
	Profile *string   `json:"profile"`
}
