package main

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const maxFormBytes = 16 << 10

var errForm = errors.New("the form is malformed")

// A form has the parameters of a request for a token.
type form struct{ grantType, client, secret, audience, scope, refresh string }

// readForm refuses what RFC 6749, section 3.2, does not allow: another media type, and a parameter that is repeated.
func readForm(r *http.Request) (f form, err error) {
	if r.ContentLength < 0 || r.ContentLength > maxFormBytes || r.Header.Get("Content-Type") != formType {
		return f, errForm
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return f, err
	}
	for pair := range strings.SplitSeq(string(body), "&") {
		name, value, _ := strings.Cut(pair, "=")
		to := f.parameter(name)
		if to == nil {
			continue
		}
		if *to != "" {
			return f, errForm
		}
		if *to, err = url.QueryUnescape(value); err != nil {
			return f, err
		}
	}
	return f, nil
}

// parameter returns where a parameter is kept, or nil.
func (f *form) parameter(name string) *string {
	switch name {
	case "grant_type":
		return &f.grantType
	case "client_id":
		return &f.client
	case "client_secret":
		return &f.secret
	case "audience":
		return &f.audience
	case "scope":
		return &f.scope
	case "refresh_token":
		return &f.refresh
	}
	return nil
}
