package issuer

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"keymill/issuer/epoch"
	"keymill/issuer/loginterms"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/issuer/scope"
	"keymill/storage"
	"keymill/storage/audit"
)

// errUserChanged means that the user was removed, disabled or given another password between the
// check of the password and the transaction.
var errUserChanged = refusal.Because("user_changed", "the user has changed")

// A SessionRequest asks for a session of a user whose identity has been established.
type SessionRequest struct {
	User     string // id
	Client   string // id; the caller has checked that it may act for the user
	Endpoint LoginEndpoint
	Audience string // of the first token; "" if the client has one. The session covers all of the client's
	Scope    string // "" for all that the client has
	From     netip.Addr

	password refusal.Secret // if not "", the stored hash that the user must still have
}

// StartSession starts a session, which is a family of refresh tokens (RFC 9700, section 4.14), and
// returns its first tokens. It refuses as Login does, and with "invalid_grant" a user who does not
// exist or is disabled.
func (i *Issuer) StartSession(ctx context.Context, req SessionRequest) (Grant, error) {
	var v eviction
	for {
		e, err := i.tryStartSession(ctx, req, v)
		switch {
		case err == nil:
			return i.sign(ctx, e)
		case !errors.Is(err, errTooManySessions):
			return Grant{}, err
		}
		// The user already has the maximum number of sessions. The session to end is chosen in a
		// View, which does not delay other transactions. The next attempt checks that nothing has
		// changed.
		if v, err = i.findEviction(ctx, req); err != nil {
			return Grant{}, err
		}
	}
}

func (i *Issuer) tryStartSession(ctx context.Context, req SessionRequest, v eviction) (entitlement, error) {
	at, unavailable := i.times(), i.unavailableAlgs()
	id := record.NewID(at.now)
	var e entitlement
	var secret byte
	err := record.Update(ctx, i.store, i.damaged, func(tx storage.Tx, setAside func(error)) error {
		w := record.NewWriter(tx)
		if err := fetchSession(w, req, v); err != nil {
			return err
		}
		p, err := i.prepare(w, req)
		if err != nil {
			return err
		}
		if err := unavailable[p.entitlement.record.Alg]; err != nil {
			return err
		}
		f, err := i.newFamily(w, req, p, id, at)
		if err != nil {
			return err
		}
		if err := i.addSession(decision{tx: w, now: at.now, by: "system"}, f, v, setAside); err != nil {
			return err
		}
		e = p.entitlement
		e.subject, e.user, e.family = f.rec.user, f.user, id.String()
		secret = f.rec.secret
		e.refreshFor = f.rec.expires(i.lifetimes(p.client, req.Endpoint)).Sub(at.now)
		_, err = i.auditOften(i.decision(tx, "user:"+f.rec.user), f.tally(),
			audit.Event{Action: "session.login", Target: id.String(), Detail: f.loginDetail(req.From)})
		return err
	})
	if err == nil {
		e.refresh, err = i.refreshSecrets.Encode(ctx, refreshtoken.Token{Secret: secret, Family: id})
	}
	return e, err
}

func (f *family) loginDetail(from netip.Addr) map[string]string {
	d := f.detail(from)
	d["login_endpoint"] = f.rec.endpoint.String()
	return d
}

// A preparedLogin is what the client and the request allow, before the user is known.
type preparedLogin struct {
	client      *clientRecord
	terms       loginterms.Terms
	scopes      loginterms.Set
	entitlement entitlement // of the first access token
}

func (i *Issuer) prepare(r storage.Reader, req SessionRequest) (preparedLogin, error) {
	client, err := i.boundClient(r, req.Client)
	if err != nil {
		return preparedLogin{}, err
	}
	if len(client.Audiences) == 0 {
		return preparedLogin{}, refusal.New("unauthorized_client", "client %s has no audience", req.Client)
	}
	name, audience, err := i.chooseAudience(r, req.Audience, client.Audiences)
	if err != nil {
		return preparedLogin{}, err
	}
	granted, err := scope.Choose(req.Scope, client.Scopes, audience.Scopes)
	if err != nil {
		return preparedLogin{}, err
	}
	p := preparedLogin{
		client: client, terms: loginterms.Terms{Client: req.Client, Audiences: client.Audiences, Scopes: client.Scopes},
		entitlement: entitlement{client: req.Client, audience: name, record: audience, scope: granted},
	}
	if p.scopes = p.terms.Pick(granted); req.Scope == "" {
		p.scopes = p.terms.Pick(strings.Join(client.Scopes, " ")) // also those of the other audiences
	}
	return p, nil
}

// newFamily writes the record of a family, its entry in the index of the clean-up, and the time and
// the address of the login. The address is part of a record that is written anyway.
func (i *Issuer) newFamily(tx storage.Tx, req SessionRequest, p preparedLogin, id familyID, at times) (*family, error) {
	user, err := i.findUser(tx, req.User)
	switch {
	case err != nil:
		return nil, err
	case req.password != "" && (user == nil || user.Disabled || user.Password != req.password):
		return nil, errUserChanged
	case user == nil || user.Disabled:
		return nil, refusal.New("invalid_grant", "the user does not exist or is disabled")
	}
	store, err := epoch.Read(tx)
	if err != nil {
		return nil, err
	}
	terms, err := loginterms.Put(tx, p.terms)
	if err != nil {
		return nil, err
	}
	rec := &familyRecord{
		endpoint: req.Endpoint, secret: i.refreshSecrets.Newest(at.now), terms: terms, scopes: p.scopes, user: req.User,
		epochs:  epochs{store, user.Epoch, p.client.Epoch},
		created: at.now, lastUsed: at.now, rotatedAtServed: at.served,
	}
	rec.address = i.refreshSecrets.Fingerprint(rec.secret, req.From)
	f := &family{id: id, rec: rec, terms: &p.terms, user: user, client: p.client, current: rec.epochs}
	rec.due = rec.expires(i.lifetimes(p.client, req.Endpoint))
	seen := *user
	seen.LastLogin = at.now.UTC().Truncate(time.Second)
	if req.From.IsValid() {
		seen.Addresses = user.Addresses.With(i.addressHash(req.User, req.From))
	}
	return f, errors.Join(putFamily(tx, f), record.PutJSON(tx, userKey(req.User), &seen))
}
