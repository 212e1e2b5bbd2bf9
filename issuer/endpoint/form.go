package endpoint

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"keymill/issuer/refusal"
)

const (
	maxFormBytes  = 16 << 10
	maxParameters = 64
)

// parameters are the decoded pairs of a form, in order.
type parameters []parameter

type parameter struct{ name, value string }

// get returns a value, "" if the parameter is absent or empty: the two mean the
// same (RFC 6749, section 3.2).
func (ps parameters) get(name string) string {
	for _, p := range ps {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// parseForm decodes application/x-www-form-urlencoded, all of it or nothing.
// http.Request.ParseForm is not used because it returns what was valid of a broken
// body, accepts repetitions, and may read the URL's query into the same map.
func parseForm(s string) (parameters, error) {
	ps := make(parameters, 0, 8)
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		if pair == "" {
			continue
		}
		if len(ps) == maxParameters {
			return nil, refusal.New("invalid_request", "more than %d parameters", maxParameters)
		}
		if strings.Contains(pair, ";") {
			return nil, errForm
		}
		name, value, _ := strings.Cut(pair, "=")
		var err error
		if name, err = url.QueryUnescape(name); err != nil {
			return nil, errForm
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return nil, errForm
		}
		if !repeatable(name) && ps.has(name) {
			return nil, refusal.New("invalid_request", "a parameter is given twice")
		}
		ps = append(ps, parameter{name, value})
	}
	return ps, nil
}

var errForm = refusal.New("invalid_request", "the form is not well encoded")

func (ps parameters) has(name string) bool {
	for _, p := range ps {
		if p.name == name {
			return true
		}
	}
	return false
}

// repeatable: RFC 8693, section 2.1 and RFC 8707, section 2 let these be repeated.
func repeatable(name string) bool { return name == "resource" || name == "audience" }

// audience returns the one audience that resource and audience name together. A token
// has one, so two different values cannot be met.
func (ps parameters) audience() (string, error) {
	one := ""
	for _, p := range ps {
		if !repeatable(p.name) || p.value == "" || p.value == one {
			continue
		}
		if one != "" {
			return "", refusal.New("invalid_target", "a token has one audience: ask for each with a request of its own")
		}
		one = p.value
	}
	return one, nil
}

// readForm reads a POST body of the one media type that RFC 6749 knows.
func readForm(w http.ResponseWriter, r *http.Request) (parameters, error) {
	if err := checkFormHeader(r.Header); err != nil {
		return nil, err
	}
	if err := checkQuery(r.URL.RawQuery); err != nil {
		return nil, err
	}
	body, err := readBody(w, r, maxFormBytes)
	if err != nil {
		return nil, err
	}
	return parseForm(string(body))
}

const formType = "application/x-www-form-urlencoded"

func checkFormHeader(h http.Header) error {
	types := h["Content-Type"]
	if len(types) == 1 && types[0] == formType && h["Content-Encoding"] == nil {
		return nil // what nearly everybody sends
	}
	if len(types) == 1 && h.Get("Content-Encoding") == "" {
		media, params, err := mime.ParseMediaType(types[0])
		charset := params["charset"]
		if err == nil && media == formType && (charset == "" || strings.EqualFold(charset, "utf-8")) {
			return nil
		}
	}
	return refusal.New("invalid_request", "the body must be %s", formType)
}

// checkQuery refuses what belongs into the body: URLs end up in logs and histories, so
// a secret in one is lost already (OAuth 2.1, section 2.4.1).
func checkQuery(raw string) error {
	if raw == "" {
		return nil
	}
	ps, err := parseForm(raw)
	if err != nil {
		return err
	}
	for _, p := range ps {
		switch p.name {
		case "client_id", "client_secret", "client_assertion", "refresh_token", "code",
			"username", "password", "refresh", "token", "grant_type", "scope", "resource", "audience":
			return refusal.New("invalid_request", "parameters belong into the body, never into the URL")
		}
	}
	return nil
}

// readBody reads all of a bounded body.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	var body []byte
	var err error
	if n := r.ContentLength; n > limit {
		err = &http.MaxBytesError{Limit: limit}
		w.Header().Set("Connection", "close") // rather than read what nobody wants
	} else if n >= 0 {
		body = make([]byte, n)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return nil, &statusError{http.StatusRequestEntityTooLarge, 0,
			refusal.New("invalid_request", "the body is larger than %d bytes", limit)}
	} else if err != nil {
		return nil, refusal.New("invalid_request", "the body could not be read")
	}
	return body, nil
}
