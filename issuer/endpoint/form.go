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

// parameters are the decoded pairs of a form, in the order of the body.
type parameters []parameter

type parameter struct{ name, value string }

// get returns a value, "" if the parameter is absent or empty. Both mean the same (RFC
// 6749, section 3.2).
func (ps parameters) get(name string) string {
	for _, p := range ps {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// parseForm decodes application/x-www-form-urlencoded, and appends it to ps. http.Request.ParseForm is not used:
// it returns the valid part of a malformed body, accepts repeated parameters, and can mix
// those of the URL with those of the body.
func parseForm(ps parameters, s string) (parameters, error) {
	encoded := strings.ContainsAny(s, "%+")
	if strings.Contains(s, ";") {
		return nil, errForm
	}
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		if pair == "" {
			continue
		}
		if len(ps) == maxParameters {
			return nil, refusal.New("invalid_request", "the form has more than %d parameters", maxParameters)
		}
		name, value, _ := strings.Cut(pair, "=")
		if encoded {
			var err error
			if name, err = url.QueryUnescape(name); err != nil {
				return nil, errForm
			}
			if value, err = url.QueryUnescape(value); err != nil {
				return nil, errForm
			}
		}
		if !repeatable(name) && ps.has(name) {
			return nil, refusal.New("invalid_request", "a parameter is given more than once")
		}
		ps = append(ps, parameter{name, value})
	}
	return ps, nil
}

var errForm = refusal.New("invalid_request", "the form is not valid %s", formType)

func (ps parameters) has(name string) bool {
	for _, p := range ps {
		if p.name == name {
			return true
		}
	}
	return false
}

// repeatable reports whether a parameter may be repeated (RFC 8693, section 2.1, and RFC
// 8707, section 2).
func repeatable(name string) bool { return name == "resource" || name == "audience" }

// audience returns the value of the parameters resource and audience. A token has one
// audience, so two different values are refused.
func (ps parameters) audience() (string, error) {
	one := ""
	for _, p := range ps {
		if !repeatable(p.name) || p.value == "" || p.value == one {
			continue
		}
		if one != "" {
			return "", refusal.New("invalid_target", "a token has one audience: send one request for each audience")
		}
		one = p.value
	}
	return one, nil
}

// usualParameters are more than most forms have. A caller of readForm has room for them on its stack.
const usualParameters = 8

// readForm reads a POST body of the media type that RFC 6749 requires, and appends it to ps.
func readForm(w http.ResponseWriter, r *http.Request, ps parameters) (parameters, error) {
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
	return parseForm(ps, string(body))
}

const formType = "application/x-www-form-urlencoded"

func checkFormHeader(h http.Header) error {
	types := h["Content-Type"]
	if len(types) == 1 && types[0] == formType && h["Content-Encoding"] == nil {
		return nil // the usual case
	}
	if len(types) == 1 && !isCoded(h) {
		media, params, err := mime.ParseMediaType(types[0])
		charset := params["charset"]
		if err == nil && media == formType && (charset == "" || strings.EqualFold(charset, "utf-8")) {
			return nil
		}
	}
	return refusal.New("invalid_request", "the body must be %s", formType)
}

// checkQuery refuses parameters of the body in the URL. URLs are written to logs and browser
// histories, so a secret in one must count as leaked (OAuth 2.1, section 2.4.1).
func checkQuery(raw string) error {
	if raw == "" {
		return nil
	}
	ps, err := parseForm(nil, raw)
	if err != nil {
		return err
	}
	for _, p := range ps {
		switch p.name {
		case "client_id", "client_secret", "client_assertion", "refresh_token", "code",
			"username", "password", "refresh", "token", "grant_type", "scope", "resource", "audience":
			return refusal.New("invalid_request", "parameters must be in the request body, not in the URL")
		}
	}
	return nil
}

// readBody reads a body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	var body []byte
	var err error
	if n := r.ContentLength; n > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	} else if n >= 0 {
		body = make([]byte, n)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); err != nil && !large {
		return nil, refusal.New("invalid_request", "the body could not be read")
	}
	return body, err
}
