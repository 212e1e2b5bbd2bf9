package issuer

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"keymill/issuer/address"
	"keymill/issuer/loginname"
	"keymill/issuer/password"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/unblocked"
	"keymill/issuer/username"
	"keymill/storage"
)

// A LoginRequest is one attempt to log in at a login endpoint.
type LoginRequest struct {
	Client   string
	Endpoint LoginEndpoint
	Name     string         // without white space at its ends; compared after NFKC, case matters
	Password refusal.Secret // as typed: UTF-8, at most 4 KiB
	Trimmed  refusal.Secret // another form of Password, tried after it; "" for none
	Audience string         // "" if the client has one
	Scope    string         // "" for all that the client has
	From     netip.Addr
	Place    string // in the queue of hashing, which no other account can take; "" for none, see password.Hasher
}

// forms returns the passwords that the user may have meant.
func (r LoginRequest) forms() []refusal.Secret {
	if r.Trimmed == "" || r.Trimmed == r.Password {
		return []refusal.Secret{r.Password}
	}
	return []refusal.Secret{r.Password, r.Trimmed}
}

// A BusyError says that too many passwords wait to be hashed.
type BusyError = password.BusyError

// LoginQueue returns how many passwords wait to be hashed: of logins, and new ones.
func (i *Issuer) LoginQueue() int { return i.passwords.Waiting() }

// A LoginCount says how failed logins with a name are counted.
type LoginCount struct {
	Key   string // of the user with that name, or else the normalized name, so that all spellings share one count
	Known bool   // the user has logged in from the address before

	Unblocked time.Time     // when an administrator has unblocked the user last; zero if that does not matter any longer
	Ago       time.Duration // how long ago that was, at the time of decisions
}

// LoginCount returns how failed logins with a name from an address are counted. It does not fail because
// of a damaged record: Login does, after the time of a wrong password.
func (i *Issuer) LoginCount(ctx context.Context, name string, from netip.Addr) (LoginCount, error) {
	normal, _ := username.Normal(name)
	var count LoginCount
	err := i.store.View(ctx, func(r storage.Reader) error {
		count = LoginCount{Key: "?" + normal}
		id, err := loginname.IDOf(r, normal)
		if id == "" || err != nil {
			return err
		}
		rec := (*userRecord)(nil)
		count, rec, err = i.countOf(r, id)
		count.Known = rec != nil && rec.Addresses.Has(i.addressHash(id, from))
		return err
	})
	if record.Unreadable(err) {
		err = nil
	}
	return count, err
}

// LoginCountOf returns how failed logins of the user with that id are counted.
func (i *Issuer) LoginCountOf(ctx context.Context, id string) (count LoginCount, err error) {
	err = i.store.View(ctx, func(r storage.Reader) error {
		count, _, err = i.countOf(r, id)
		return err
	})
	return count, err
}

func (i *Issuer) countOf(r storage.Reader, id string) (count LoginCount, rec *userRecord, err error) {
	count.Key = loginCountKey(id, time.Time{})
	ahead := record.NewAhead(r)
	if err := ahead.Fetch(userKey(id), unblocked.Key(id)); err != nil {
		return count, nil, err
	}
	if rec, err = i.findUser(ahead, id); rec == nil || err != nil {
		return count, nil, err
	}
	count.Key = loginCountKey(id, rec.Created)
	lifted, err := unblocked.Read(ahead, id)
	if record.Unreadable(err) {
		err = nil // the failures stay counted, and the clean-up reports the record
	} else if lifted != nil {
		count.Unblocked, count.Ago = lifted.At, max(i.keys.Now().Sub(lifted.At), 0)
	}
	return count, rec, err
}

func (i *Issuer) addressHash(user string, from netip.Addr) []byte {
	return address.Hash(i.refreshSecrets.HashOfAddresses(), user, from)
}

// loginCountKey returns the Key of a LoginCount for the names of a user. Another user who gets the id of one that was
// removed has another one: no server of the store takes the addresses of the first user for addresses of the second.
func loginCountKey(id string, created time.Time) string {
	if created.IsZero() { // its record cannot be read
		return "==" + id
	}
	return "=" + strconv.FormatInt(created.Unix(), 36) + "=" + id
}

// UserOfCountKey returns the id of the user in the Key of a LoginCount, and "" for a name that no user has.
func UserOfCountKey(key string) string {
	if rest, ok := strings.CutPrefix(key, "="); ok {
		_, id, _ := strings.Cut(rest, "=")
		return id
	}
	return ""
}

// Login checks a password and begins a session. Whatever is wrong with the name or the password, it
// refuses with the same "invalid_credentials" after the same time, which is longer for a request
// with two forms of the password. If the record of the user or of the name is damaged, Login fails after
// the same time, with a Reason of the code DamagedLogin: an immediate failure would tell that the user
// exists. It also refuses with
// "unauthorized_client" if the client of the login endpoint does not exist, is disabled, has no
// audience or is not allowed the refresh_token grant, and with invalid_target and invalid_scope. A
// *BusyError means that the queue is full.
func (i *Issuer) Login(ctx context.Context, req LoginRequest) (Grant, error) {
	var began time.Time
	for range 2 {
		grant, at, err := i.tryLogin(ctx, req)
		if !errors.Is(err, errUserChanged) {
			return grant, err
		}
		// The password was changed, or another login has hashed it again. Try once more with
		// the record as it is now.
		began = at
	}
	return Grant{}, i.refuseLogin(ctx, began, errUserChanged)
}

// tryLogin returns errUserChanged and the time hashing began if the user record changed in between.
func (i *Issuer) tryLogin(ctx context.Context, req LoginRequest) (Grant, time.Time, error) {
	b := SessionRequest{Client: req.Client, Endpoint: req.Endpoint, Audience: req.Audience, Scope: req.Scope, From: req.From}
	var stored refusal.Secret
	var why error
	normal, _ := username.Normal(req.Name)
	err := i.store.View(ctx, func(r storage.Reader) error {
		// Faults of the configuration come first. They do not depend on the user and are not
		// secret.
		ahead := record.NewAhead(r)
		if err := ahead.Fetch(append(keysOf(req.Client, req.Audience), loginname.Key(normal))...); err != nil {
			return err
		}
		if _, err := i.prepare(ahead, b); err != nil {
			return err
		}
		var err error
		b.User, stored, why, err = i.passwordOf(ahead, normal)
		if record.Unreadable(err) {
			why, err = &refusal.Reason{Code: DamagedLogin, Err: err}, nil // no password matches the hash ""
		}
		return err
	})
	if err != nil {
		return Grant{}, time.Time{}, err
	}
	match, weak, began, err := i.passwords.Verify(ctx, req.Place, string(stored), req.forms()...)
	switch {
	case err != nil:
		return Grant{}, began, err
	case match == "":
		return Grant{}, began, i.refuseLogin(ctx, began, why)
	}
	b.password = stored
	if weak {
		b.password = i.rehash(ctx, b.User, stored, match)
	}
	grant, err := i.StartSession(ctx, b)
	return grant, began, err
}

// DamagedLogin is the code of the Reason for a login whose user cannot be read. It counts as a failed one.
const DamagedLogin = "damaged"

// Why a login is refused, for the log. Clients never see it.
var (
	errUnknownUser   = refusal.Because("unknown_user", "no user has the name")
	errDisabled      = refusal.Because("disabled", "the user is disabled")
	errNoPassword    = refusal.Because("no_password", "the user has no password")
	errWrongPassword = refusal.Because("wrong_password", "the password is wrong")
)

// passwordOf returns the id of the user with a normal name, the stored hash, and why a password that is tried does not
// match it. The hash is "" for a user who cannot log in.
func (i *Issuer) passwordOf(r storage.Reader, normal string) (id string, stored refusal.Secret, why, err error) {
	if id, err = loginname.IDOf(r, normal); id == "" || err != nil {
		return "", "", errUnknownUser, err
	}
	rec, err := i.namedUser(r, normal, id)
	switch {
	case err != nil:
		return "", "", nil, err
	case rec.Disabled:
		return id, "", errDisabled, nil
	case rec.Password == "":
		return id, "", errNoPassword, nil
	}
	return id, rec.Password, errWrongPassword, nil
}

// refuseLogin refuses a login at a fixed time after hashing began. A request whose client
// disconnects earlier is refused as well, so that its guess is counted. why is for the log.
func (i *Issuer) refuseLogin(ctx context.Context, began time.Time, why error) error {
	timer := time.NewTimer(time.Until(i.passwords.FailAt(began)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if record.Unreadable(why) {
		return why
	}
	refused := refusal.New("invalid_credentials", "the user name or the password is wrong")
	refused.Cause = why
	return refused
}

// rehash replaces a weak hash now that the password is known, and returns the hash that is stored
// afterwards. A failure must not keep the user from logging in.
func (i *Issuer) rehash(ctx context.Context, id string, old, typed refusal.Secret) refusal.Secret {
	stored, err := i.passwords.Hash(ctx, typed)
	if err != nil {
		return old
	}
	next, class := refusal.Secret(stored), password.Class(refusal.Secret(stored))
	err = i.store.Update(ctx, func(tx storage.Tx) error {
		rec, err := i.findUser(tx, id)
		if err != nil || rec == nil || rec.Password != old {
			return errors.Join(err, errUserChanged)
		}
		after := *rec
		after.Password = next
		if err := errors.Join(password.Count(tx, password.Class(old), class), record.PutJSON(tx, userKey(id), &after)); err != nil {
			return err
		}
		return i.decision(tx, "system").audit("user.rehash", id, map[string]string{"from": password.Scheme(string(old)), "to": password.Scheme(stored)})
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
		i.passwords.AddClass(context.WithoutCancel(ctx), class)
	}
}

// AuditRefusals writes one audit record with the number of refused logins of each kind, because
// refused logins write no record of their own. Call it at most once a minute. Each of the servers that share a store
// writes its own, with its name.
func (i *Issuer) AuditRefusals(ctx context.Context, counts map[string]int) error {
	detail := make(map[string]string, len(counts))
	for kind, n := range counts {
		detail[kind] = strconv.Itoa(n)
	}
	if i.node != "" {
		detail["node"] = i.node
	}
	return i.store.Update(ctx, func(tx storage.Tx) error {
		return i.decision(tx, "system").audit("login.refused", "", detail)
	})
}
