package accesstoken

import (
	"errors"

	"keymill/issuer/record"
	"keymill/storage"
)

// DeniedKey is the key of the record of an access token that was revoked before it expired.
func DeniedKey(jti string) string { return "denied/" + jti }

// IsDenied reports whether an access token was revoked alone. One without a name never was.
func IsDenied(r storage.Reader, jti string) (bool, error) {
	if jti == "" {
		return false, nil
	}
	raw, err := r.Get(DeniedKey(jti))
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, record.CheckPresent(DeniedKey(jti), raw)
}
