package endpoint

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"keymill/issuer"
	"keymill/issuer/refusal"
)

// readCredentials returns what a client showed, in one way only: two ways in one
// request could name two clients (RFC 6749, section 2.3).
func readCredentials(r *http.Request, ps parameters) (issuer.Credentials, error) {
	header := r.Header["Authorization"]
	id, secret := ps.get("client_id"), ps.get("client_secret")
	assertion := ps.get("client_assertion") != "" || ps.get("client_assertion_type") != ""
	switch {
	case len(header) > 1, len(header) == 1 && (secret != "" || assertion), secret != "" && assertion:
		return issuer.Credentials{}, refusal.New("invalid_request", "a client authenticates in one way at a time")
	case assertion:
		return issuer.Credentials{}, refusal.New("invalid_client", "client_assertion is not a method of this server")
	case len(header) == 1:
		c, ok := parseBasic(header[0])
		if !ok {
			return issuer.Credentials{}, refusal.New("invalid_client", "client authentication failed")
		}
		if id != "" && id != c.ClientID {
			return issuer.Credentials{}, refusal.New("invalid_request", "client_id differs from the one in the Authorization header")
		}
		return c, nil
	case id == "":
		return issuer.Credentials{}, refusal.New("invalid_client", "client authentication is missing")
	case secret == "":
		return issuer.Credentials{ClientID: id, Method: "none"}, nil
	}
	return issuer.Credentials{ClientID: id, Secret: refusal.Secret(secret), Method: "client_secret_post"}, nil
}

// guarded asks the issuer something as a client, unless too many wrong secrets came from
// there before. Who shows none guesses nothing: a neighbour's guesses at a public client,
// which has none, must not log out everybody behind the same address.
func (s *Server) guarded(r *http.Request, client issuer.Credentials, ask func() error) error {
	if client.Secret == "" {
		return s.counted(ask())
	}
	from := network(s.address(r))
	if wait := s.failures.wait(client.ClientID, from, time.Now()); wait > 0 {
		return tooManyFailures(wait)
	}
	err := s.counted(ask())
	switch {
	case err == nil:
		s.failures.succeeded(client.ClientID, from)
	case refusedAs(err, "invalid_client"):
		s.failures.failed(client.ClientID, from, time.Now())
	}
	return err
}

// counted counts for the audit log.
func (s *Server) counted(err error) error {
	if refusedAs(err, "invalid_client") {
		s.refused.count("invalid_client")
	}
	return err
}

// tooManyFailures borrows its code from RFC 6749, section 4.1.2.1: the registry has
// none for this, slow_down belongs to the device grant, and invalid_client would say
// that the secret was looked at. Clients know this one from the 503 as "later".
func tooManyFailures(wait time.Duration) error {
	return &statusError{http.StatusTooManyRequests, wait,
		refusal.New(tooMany, "too many failed attempts, try again later")}
}

const tooMany = "temporarily_unavailable"

// parseBasic reads an Authorization header. Both halves were form-encoded before they
// were joined (RFC 6749, section 2.3.1), so a colon in either is no problem.
func parseBasic(header string) (issuer.Credentials, bool) {
	scheme, encoded, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return issuer.Credentials{}, false
	}
	pair, err := base64.StdEncoding.Strict().DecodeString(strings.Trim(encoded, " "))
	if err != nil {
		return issuer.Credentials{}, false
	}
	id, secret, ok := strings.Cut(string(pair), ":")
	if !ok || id == "" {
		return issuer.Credentials{}, false
	}
	if id, err = url.QueryUnescape(id); err != nil {
		return issuer.Credentials{}, false
	}
	if secret, err = url.QueryUnescape(secret); err != nil {
		return issuer.Credentials{}, false
	}
	return issuer.Credentials{ClientID: id, Secret: refusal.Secret(secret), Method: "client_secret_basic"}, true
}
