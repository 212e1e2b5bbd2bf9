package forwardauth

import (
	"net/url"
	"strings"

	"keymill/issuer/adminscope"
	"keymill/issuer/refusal"
	"keymill/jwks"
)

// A question is what a proxy asks about a token.
type question struct {
	audience string
	scopes   []string // all are needed
}

const (
	maxQueryBytes = 8 << 10
	maxScopes     = 50
)

// readQuestion reads the query. Every part of it must be understood: a parameter that is ignored could be the scope
// that was mistyped.
func readQuestion(query string) (*question, error) {
	if len(query) > maxQueryBytes {
		return nil, refusal.New("invalid_request", "the query has more than %d bytes", maxQueryBytes)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, refusal.New("invalid_request", "the query is malformed: write it as audience=orders&scope=read, with other characters percent-encoded")
	}
	q := &question{}
	for name, list := range values {
		switch name {
		case "audience":
			if len(list) > 1 {
				return nil, refusal.New("invalid_request", "parameter audience is given %d times: one question is about one audience", len(list))
			}
			q.audience = list[0]
		case "scope":
			if q.scopes, err = readScopes(list); err != nil {
				return nil, err
			}
		case "access_token":
			return nil, refusal.New("invalid_request", "a token in the query is not read: send it in the header Authorization: Bearer")
		default:
			return nil, refusal.New("invalid_request", "parameter '%.100s' is unknown; the query has audience and scope", refusal.Quoted(name))
		}
	}
	switch q.audience {
	case "":
		return nil, refusal.New("invalid_request", "parameter audience is missing: /verify?audience=NAME")
	case adminscope.Audience:
		return nil, refusal.New("invalid_request", "audience %s is that of the admin API, which checks its tokens itself", adminscope.Audience)
	}
	return q, nil
}

// readScopes returns all scopes of all parameters scope, each of which has one or more, separated by a space.
func readScopes(list []string) (scopes []string, err error) {
	for _, text := range list {
		for s := range strings.SplitSeq(text, " ") {
			if !jwks.IsScope(s) {
				return nil, refusal.New("invalid_request", "parameter scope has '%.100s', which is not a scope: write scopes with one space between them", refusal.Quoted(s))
			}
			scopes = append(scopes, s)
		}
	}
	if len(scopes) > maxScopes {
		return nil, refusal.New("invalid_request", "parameter scope has %d scopes: at most %d are allowed", len(scopes), maxScopes)
	}
	return scopes, nil
}
