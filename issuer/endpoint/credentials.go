package endpoint

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"keymill/issuer"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

// readCredentials returns the credentials of a client. A request with two methods of client
// authentication is refused (RFC 6749, section 2.3): they could name two clients.
func readCredentials(r *http.Request, ps parameters) (issuer.Credentials, error) {
	header := r.Header["Authorization"]
	id, secret := ps.get("client_id"), ps.get("client_secret")
	assertion := ps.get("client_assertion") != "" || ps.get("client_assertion_type") != ""
	switch {
	case len(header) > 1, len(header) == 1 && (secret != "" || assertion), secret != "" && assertion:
		return issuer.Credentials{}, refusal.New("invalid_request", "the request has more than one method of client authentication")
	case assertion:
		return issuer.Credentials{}, refusal.New("invalid_client", "client_assertion is not supported")
	case len(header) == 1:
		c, ok := parseBasic(header[0])
		if !ok {
			return issuer.Credentials{}, refusal.New("invalid_client", "client authentication failed")
		}
		if id != "" && id != c.ClientID {
			return issuer.Credentials{}, refusal.New("invalid_request", "client_id differs from the client in the Authorization header")
		}
		return c, nil
	case id == "":
		return issuer.Credentials{}, refusal.New("invalid_client", "client authentication is missing")
	case secret == "":
		return issuer.Credentials{ClientID: id, Method: "none"}, nil
	}
	return issuer.Credentials{ClientID: id, Secret: refusal.Secret(secret), Method: "client_secret_post"}, nil
}

// withClientLimit calls ask, which authenticates the client, unless too many wrong secrets
// came from the address before. A request without a secret is not limited: it cannot guess
// one, and failed requests for a public client must not block all its users behind the same
// address.
func (s *Server) withClientLimit(from netip.Addr, client issuer.Credentials, ask func() error) error {
	if client.Secret == "" {
		return s.countRefusal(ask())
	}
	if wait := s.clients.Wait(client.ClientID, from, time.Now()); wait > 0 {
		return tooManyFailures(&limit.Error{RetryAfter: wait, Limit: limit.LimitClient})
	}
	err := s.countRefusal(ask())
	switch {
	case err == nil:
		s.clients.Succeeded(client.ClientID, from)
	case refusedAs(err, "invalid_client"):
		s.clients.Failed(client.ClientID, from, time.Now())
	}
	return err
}

// countRefusal counts a failed client authentication for the audit log.
func (s *Server) countRefusal(err error) error {
	if refusedAs(err, "invalid_client") {
		s.refused.Count("invalid_client")
	}
	return err
}

// parseBasic parses an Authorization header. Both parts are form-encoded (RFC 6749, section
// 2.3.1), so that they can contain a colon. An empty secret counts as none, as an empty
// parameter does: many libraries send a public client so. A confidential client with an empty
// secret is refused as one without a secret.
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
	if secret == "" {
		return issuer.Credentials{ClientID: id, Method: "none"}, true
	}
	return issuer.Credentials{ClientID: id, Secret: refusal.Secret(secret), Method: "client_secret_basic"}, true
}
