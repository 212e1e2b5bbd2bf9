package issuer

import (
	"errors"
	"time"

	"keymill/issuer/refusal"
	"keymill/storage"
)

// Credentials are what a client showed.
type Credentials struct {
	ClientID string
	Secret   refusal.Secret // empty if none was shown
	Method   string         // "client_secret_basic", "client_secret_post", "none"
}

// proves tells whether what was shown is the client's. It takes the same time for a
// client without secrets, such as the empty one that stands for an unknown client.
type proves func(rec *clientRecord, shown Credentials, now time.Time) bool

// authMethods lists every way to authenticate; discovery reads it.
var authMethods = map[string]proves{
	"client_secret_basic": bySecret, // RFC 6749, section 2.3.1
	"client_secret_post":  bySecret,
}

func bySecret(rec *clientRecord, shown Credentials, now time.Time) bool {
	return matchSecret(rec.Secrets, shown.Secret, now)
}

// authenticate returns the client that shown proves, or invalid_client, the same for
// unknown, wrong and disabled. A secret that is shown is always verified, so a public
// client that shows one is refused (OAuth 2.1, section 3.2.2).
func (i *Issuer) authenticate(raw []byte, shown Credentials, now time.Time) (*clientRecord, error) {
	rec, known := &clientRecord{}, raw != nil
	if known {
		var err error
		if rec, err = i.clients.read(clientKey(shown.ClientID), raw); err != nil {
			return nil, err
		}
	}
	prove, ok := authMethods[shown.Method]
	if !ok {
		prove = bySecret // for the time that it takes
	}
	proved := prove(rec, shown, now) && ok
	if shown.Method == "none" && shown.Secret == "" {
		proved = rec.Public
	}
	if !proved || !known || rec.Disabled {
		return nil, refusal.New("invalid_client", "client authentication failed")
	}
	return rec, nil
}

// getClient returns the bytes of a client's record, nil if there is none. An id that
// cannot exist is looked for like one that does not, so that it takes the same time.
func getClient(r storage.Reader, id string) ([]byte, error) {
	key, possible := clientKey(id), validID(id)
	if !possible {
		key = clientKey("-")
	}
	raw, err := r.Get(key)
	if errors.Is(err, storage.ErrNotFound) || !possible {
		return nil, nil
	}
	return raw, err
}
