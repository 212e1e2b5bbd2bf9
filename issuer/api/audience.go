package api

import "time"

// An Audience is an API that accepts the tokens of this server: the claim aud.
type Audience struct {
	Name    string   `json:"audience"` // 1 to 200 visible ASCII characters; required in a request
	Alg     string   `json:"alg"`      // signs its tokens; cannot change; required in a request
	TTL     string   `json:"ttl"`      // lifetime of an access token, "15m0s"; the default in a request is 15m
	Scopes  []string `json:"scopes"`   // what a token may hold, sorted
	Profile string   `json:"profile"`  // what verifies the tokens: "rfc9068", which is the default, "simplejwt" or "spring"
	Type    string   `json:"type"`     // typ in the header of the tokens: "at+jwt" or "JWT"; the default is that of the profile: JWT for spring, else at+jwt

	Claims   Claims   `json:"claims,omitempty"`    // in each of its tokens: texts, numbers, true, false, null and lists of these
	ClaimMap ClaimMap `json:"claim_map,omitempty"` // name in its tokens → name of a user's claim: users have only these claims; empty for all as they are

	FormerTypeUntil *time.Time `json:"former_type_until,omitempty"` // after a change of the type: until then tokens of the former type are accepted as well; not in a request

	Warnings []string `json:"warnings,omitempty"` // what its verifiers have to do after a change; only in the answer to it

	BuiltIn bool `json:"built_in,omitempty"` // it is the audience of the admin API, which cannot change; not in a request
}

// An AudienceChange is a request to change an Audience. Fields that are nil stay as they are.
type AudienceChange struct {
	TTL     *string   `json:"ttl"`
	Scopes  *[]string `json:"scopes"`
	Profile *string   `json:"profile"` // what verifies the tokens: "rfc9068", "simplejwt" or "spring"; changes the type as well if its software does not accept it
	Type    *string   `json:"type"`    // typ in the header of the tokens: "at+jwt" or "JWT"

	Claims   *Claims   `json:"claims"`    // replaces all
	ClaimMap *ClaimMap `json:"claim_map"` // replaces all; empty for no mapping
}
