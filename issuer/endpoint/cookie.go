package endpoint

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"keymill/issuer/refusal"
)

// CookieName returns the name of the cookie in which the browser login endpoint keeps the
// refresh tokens of a client. With an https issuer it begins with __Host-, so that no other
// host and no page over http can set the cookie (RFC 6265bis, section 4.1.3). It returns an
// error for a client_id that cannot be part of a cookie's name.
func CookieName(client, issuerURL string) (string, error) {
	const separators = `()<>@,;:\"/[]?={} `
	for _, c := range client {
		if c <= 0x20 || c >= 0x7f || strings.ContainsRune(separators, c) {
			return "", fmt.Errorf("session.client %q has the character %q, which the name of a cookie cannot have", client, c)
		}
	}
	if client == "" {
		return "", fmt.Errorf("session.client is empty: the name of the cookie contains it")
	}
	if strings.HasPrefix(issuerURL, "https:") {
		return "__Host-keymill-" + client, nil
	}
	return "keymill-" + client, nil
}

// setCookie stores a refresh token until it expires without being used. Scripts cannot read
// the cookie, and browsers do not send it with requests of other sites.
func (s *Server) setCookie(w http.ResponseWriter, token refusal.Secret, keep time.Duration) {
	c := s.newCookie()
	c.Value, c.MaxAge = string(token), max(1, int(keep/time.Second))
	http.SetCookie(w, c)
}

func (s *Server) clearCookie(w http.ResponseWriter) {
	c := s.newCookie()
	c.MaxAge = -1 // Max-Age=0
	http.SetCookie(w, c)
}

func (s *Server) newCookie() *http.Cookie {
	return &http.Cookie{
		Name: s.cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: strings.HasPrefix(s.cookie, "__Host-"),
	}
}

// cookies returns the different values that the browser sent under the name. If there is
// more than one, another site or an attacker has set the others.
func (s *Server) cookies(r *http.Request) []refusal.Secret {
	var tokens []refusal.Secret
	for _, c := range r.CookiesNamed(s.cookie) {
		if token := refusal.Secret(c.Value); c.Value != "" && !slices.Contains(tokens, token) {
			tokens = append(tokens, token)
		}
	}
	return tokens
}
