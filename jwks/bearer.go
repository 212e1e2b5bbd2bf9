package jwks

import (
	"fmt"
	"strings"
)

// Bearer reads the token out of all values that a request has for Authorization (RFC 6750,
// section 2.1), for frameworks other than net/http. Its errors are ErrNoToken,
// ErrCredentials and, for one that is too long to be looked at, ErrMalformed. They hold
// nothing of the values: a client may have put its token where the scheme belongs.
func Bearer(authorization []string) (token string, err error) {
	switch len(authorization) {
	case 0:
		return "", ErrNoToken
	case 1:
	default: // what another reader takes may not be what was checked here
		return "", fmt.Errorf("%w: there are %d", ErrCredentials, len(authorization))
	}
	// Schemes know no case (RFC 9110, section 11.1).
	scheme, rest, _ := strings.Cut(authorization[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", fmt.Errorf("%w: another scheme", ErrNoToken)
	}
	if len(rest) > maxTokenBytes {
		return "", tooLong(len(rest))
	}
	token = strings.TrimLeft(rest, " ")
	if !isB64Token(token) {
		return "", fmt.Errorf("%w: what follows the scheme is not one token", ErrCredentials)
	}
	return token, nil
}

// isB64Token: 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
func isB64Token(s string) bool {
	s = strings.TrimRight(s, "=")
	for _, c := range []byte(s) {
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alphanumeric && strings.IndexByte("-._~+/", c) < 0 {
			return false
		}
	}
	return s != ""
}
