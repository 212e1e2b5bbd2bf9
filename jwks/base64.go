package jwks

import (
	"encoding/base64"
	"errors"
	"strings"
)

// canonical refuses unused bits that are not zero. They would give a second encoding.
var canonical = base64.RawURLEncoding.Strict()

// decodeSegment decodes unpadded base64url (RFC 7515, section 2), into buffer if that is large
// enough. It accepts only the canonical encoding: a revoked token in a second encoding would
// not be found in a list of revoked tokens.
func decodeSegment(s string, buffer []byte) ([]byte, error) {
	// Go's decoder skips line breaks even in strict mode.
	if strings.IndexByte(s, '\n') >= 0 || strings.IndexByte(s, '\r') >= 0 {
		return nil, errors.New("not base64url")
	}
	if n := canonical.DecodedLen(len(s)); n > len(buffer) {
		buffer = make([]byte, n)
	}
	n, err := canonical.Decode(buffer, []byte(s))
	if err != nil {
		return nil, notBase64(s)
	}
	return buffer[:n:n], nil
}

// notBase64 returns the error for a text that could not be decoded.
func notBase64(s string) error {
	for i := range len(s) {
		if !isBase64URL(s[i]) {
			return errors.New("not base64url")
		}
	}
	return errors.New("not canonical base64url")
}

func isBase64URL(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
