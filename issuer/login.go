package issuer

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"keymill/issuer/password"
	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/audit"
)

// A LoginEndpoint names the HTTP endpoint through which a user logged in.
type LoginEndpoint byte

// The login endpoints. A family keeps the one it began at.
const (
	LoginSimpleJWT LoginEndpoint = 1 + iota // POST /api/token/; idle 1 d unless the client says otherwise
	LoginBrowser                            // POST /session/login
)

func (e LoginEndpoint) String() string {
	switch e {
	case LoginSimpleJWT:
		return "simplejwt"
	case LoginBrowser:
		return "browser"
	}
	return "unknown"
}

// A LoginRequest is one attempt to log in at a door, which the configuration has bound
// to a client: the client has nothing to prove.
type LoginRequest struct {
	Client   string
	Endpoint LoginEndpoint
	Name     string         // as typed; compared after NFKC, case matters
	Password refusal.Secret // UTF-8, at most 4 KiB
	Audience string         // "" if the client has one
	Scope    string         // "" for all that the client has
	From     netip.Addr
}

// A BusyError says that too many passwords wait to be hashed.
type BusyError = password.BusyError

// Account names whom attempts on a name count against: the user's id if there is such a
// user, else the name as it is compared, so that no spelling gets a count of its own.
func (i *Issuer) Account(ctx context.Context, name string) (string, error) {
	normal, _ := normalName(name)
	account := "?" + normal
	err := i.store.View(ctx, func(r storage.Reader) error {
		id, err := idOfName(r, name)
		if id != "" {
			account = "=" + id
		}
		return err
	})
	return account, err
}

// Login checks a password and begins a family. It refuses with "invalid_credentials",
// the same and after the same time whatever was wrong; with "unauthorized_client" if the
// door's client is absent, disabled, has not the grant refresh_token or no audience; with
// invalid_target and invalid_scope. A *BusyError is a full queue.
func (i *Issuer) Login(ctx context.Context, req LoginRequest) (Grant, error) {
	var began time.Time
	for range 2 {
		grant, at, err := i.tryLogin(ctx, req)
		if !errors.Is(err, errUserGone) {
			return grant, err
		}
		// The password was changed, or hashed better by a login beside this one: once more,
		// against what is there now.
		began = at
	}
	return Grant{}, i.fail(ctx, began)
}

// tryLogin is errUserGone, and when its hashing began, if the user was not what it was any
// more when the family was to begin.
func (i *Issuer) tryLogin(ctx context.Context, req LoginRequest) (Grant, time.Time, error) {
	b := BeginRequest{Client: req.Client, Endpoint: req.Endpoint, Audience: req.Audience, Scope: req.Scope, From: req.From}
	var stored refusal.Secret
	err := i.store.View(ctx, func(r storage.Reader) error {
		// First, what is the operator's fault and nobody's secret.
		if _, err := i.prepare(r, b); err != nil {
			return err
		}
		var err error
		b.User, stored, err = i.passwordOf(r, req.Name)
		return err
	})
	if err != nil {
		return Grant{}, time.Time{}, err
	}
	if len(req.Password) > password.MaxBytes {
		stored = "" // nobody has such a password, and it takes the same time
	}
	match, weak, began, err := i.passwords.Verify(ctx, string(stored), req.Password)
	switch {
	case err != nil:
		return Grant{}, began, err
	case !match:
		return Grant{}, began, i.fail(ctx, began)
	}
	b.password = stored
	if weak {
		b.password = i.rehash(ctx, b.User, stored, req.Password)
	}
	grant, err := i.Begin(ctx, b)
	return grant, began, err
}

// passwordOf returns nothing for a user who cannot log in.
func (i *Issuer) passwordOf(r storage.Reader, name string) (id string, stored refusal.Secret, err error) {
	if id, err = idOfName(r, name); id == "" || err != nil {
		return "", "", err
	}
	rec, err := i.findUser(r, id)
	if rec == nil || rec.Disabled || err != nil {
		return "", "", err
	}
	return id, rec.Password, nil
}

// fail answers at the same instant, whatever was wrong. Who hangs up before that has been
// refused all the same: a guess that was looked at counts.
func (i *Issuer) fail(ctx context.Context, began time.Time) error {
	timer := time.NewTimer(time.Until(i.passwords.FailAt(began)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return refusal.New("invalid_credentials", "user name or password is wrong")
}

// rehash replaces a hash that is below policy, now that the password is known, and returns
// the one that is kept. Whatever fails here must not keep anybody from logging in.
func (i *Issuer) rehash(ctx context.Context, id string, old, typed refusal.Secret) refusal.Secret {
	stored, err := i.passwords.Hash(ctx, typed)
	if err != nil {
		return old
	}
	next, class := refusal.Secret(stored), password.Class(refusal.Secret(stored))
	err = i.store.Update(ctx, func(tx storage.Tx) error {
		rec, err := i.findUser(tx, id)
		if err != nil || rec == nil || rec.Password != old {
			return errors.Join(err, errUserGone)
		}
		after := *rec
		after.Password = next
		if err := errors.Join(password.Count(tx, password.Class(old), class), putJSON(tx, userKey(id), &after)); err != nil {
			return err
		}
		return i.audit(tx, "user.rehash", "system", id, map[string]string{"from": password.Scheme(string(old)), "to": password.Scheme(stored)})
	})
	if err != nil {
		return old
	}
	i.measure(ctx, class)
	return next
}

// measure lets the hasher measure a class that the store holds now. A failure must not fail a change
// that is durable: Run measures the class later, as does a login.
func (i *Issuer) measure(ctx context.Context, class string) {
	if class != "" {
		i.passwords.Know(context.WithoutCancel(ctx), class)
	}
}

// doorClient is the client that the configuration binds to a door.
func (i *Issuer) doorClient(raw []byte, id string) (*clientRecord, error) {
	if raw == nil {
		return nil, refusal.New("unauthorized_client", "there is no client %s", id)
	}
	client, err := i.clients.read(clientKey(id), raw)
	switch {
	case err != nil:
		return nil, err
	case client.Disabled:
		return nil, refusal.New("unauthorized_client", "client %s is disabled", id)
	case !slices.Contains(client.Grants, "refresh_token"):
		return nil, refusal.New("unauthorized_client", "client %s has not the grant refresh_token", id)
	}
	return client, nil
}

// AuditRefusals leaves one record of refused logins that changed nothing, by kind. Its
// caller sees to it that there is at most one a minute.
func (i *Issuer) AuditRefusals(ctx context.Context, counts map[string]int) error {
	detail := make(map[string]string, len(counts))
	for kind, n := range counts {
		detail[kind] = strconv.Itoa(n)
	}
	return i.store.Update(ctx, func(tx storage.Tx) error {
		return audit.Append(tx, i.keys.Now(), audit.Event{Action: "login.refused", By: "system", Detail: detail})
	})
}
