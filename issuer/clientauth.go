package issuer

import (
	"errors"
	"slices"
	"time"

	"keymill/issuer/names"
	"keymill/issuer/refusal"
	"keymill/issuer/secret"
	"keymill/storage"
)

// Credentials are what a client presented.
type Credentials struct {
	ClientID string
	Secret   refusal.Secret // empty if none was presented
	Method   string         // "client_secret_basic", "client_secret_post", "none"
}

// An authMethod reports whether the credentials are the client's. It takes the same time for a
// client without secrets, such as the empty one that stands for an unknown client.
type authMethod func(rec *clientRecord, shown Credentials, now time.Time) bool

// authMethods lists every way to authenticate; discovery reads it.
var authMethods = map[string]authMethod{
	"client_secret_basic": bySecret, // RFC 6749, section 2.3.1
	"client_secret_post":  bySecret,
}

func bySecret(rec *clientRecord, shown Credentials, now time.Time) bool {
	return secret.Match(rec.Secrets, shown.Secret, now)
}

// authenticate returns the client whose credentials were presented, or refuses with
// invalid_client, in the same way for an unknown client, a wrong secret and a disabled client. A
// secret that is presented is always verified, so a public client that presents one is refused
// (OAuth 2.1, section 3.2.2).
func (i *Issuer) authenticate(r storage.Reader, shown Credentials, now time.Time) (*clientRecord, error) {
	rec, err := i.findClient(r, shown.ClientID)
	if err != nil {
		return nil, err
	}
	known := rec != nil
	if !known {
		rec = &clientRecord{}
	}
	method, ok := authMethods[shown.Method]
	if !ok {
		method = bySecret // so that it takes the same time
	}
	proved := method(rec, shown, now) && ok
	if shown.Method == "none" && shown.Secret == "" {
		proved = rec.Public
	}
	if !proved || !known || rec.Disabled {
		return nil, refusal.New("invalid_client", "client authentication failed")
	}
	return rec, nil
}

// boundClient returns the client that the configuration binds to a login endpoint. Such a client
// does not authenticate.
func (i *Issuer) boundClient(r storage.Reader, id string) (*clientRecord, error) {
	client, err := i.findClient(r, id)
	switch {
	case err != nil:
		return nil, err
	case client == nil:
		return nil, refusal.New("unauthorized_client", "client %s does not exist", id)
	case client.Disabled:
		return nil, refusal.New("unauthorized_client", "client %s is disabled", id)
	case !slices.Contains(client.Grants, "refresh_token"):
		return nil, refusal.New("unauthorized_client", "client %s is not allowed the refresh_token grant", id)
	}
	return client, nil
}

// findClient returns nil without an error if the client does not exist. An id that no client can
// have takes the same time as one that no client has. The record is shared: the caller must not
// change it.
func (i *Issuer) findClient(r storage.Reader, id string) (*clientRecord, error) {
	key, possible := clientKey(id), names.IsClient(id)
	if !possible {
		key = clientKey("-")
	}
	raw, err := r.Get(key)
	if errors.Is(err, storage.ErrNotFound) || !possible {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return i.clients.Read(key, raw, (*clientRecord).Possible)
}
