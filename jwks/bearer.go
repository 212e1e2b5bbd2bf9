package jwks

import (
	"fmt"
	"strings"
)

// Bearer returns the token from all Authorization values of a request (RFC 6750, section
// 2.1). It is for frameworks other than net/http. Its errors are ErrNoToken, ErrCredentials
// and, for a token that is too long, ErrMalformed. They contain no part of the values,
// since a client may send its token in the place of the scheme.
func Bearer(authorization []string) (token string, err error) {
	switch len(authorization) {
	case 0:
		return "", ErrNoToken
	case 1:
	default: // another reader may use a value that is not checked here
		return "", fmt.Errorf("%w: the request has %d such headers", ErrCredentials, len(authorization))
	}
	// Schemes are not case-sensitive (RFC 9110, section 11.1).
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

// isB64Token reports whether s is a b64token of RFC 6750, section 2.1:
// 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
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
