package issuer

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"keymill/issuer/refusal"
	"keymill/storage"
)

// errUserGone: between the check of the password and the transaction the user was removed,
// disabled or given another password.
var errUserGone = errors.New("the user is not what it was")

// A BeginRequest asks for a family of a user whose identity has been established.
type BeginRequest struct {
	User     string // id
	Client   string // whom the configuration, or a grant, vouches for
	Endpoint LoginEndpoint
	Audience string // of the first token; "" if the client has one. The family is good for all of the client's
	Scope    string // "" for all that the client has
	From     netip.Addr

	password refusal.Secret // if not "", the hash that the user must still have
}

// Begin starts a family (RFC 9700, section 4.14) and returns its first tokens. It refuses as
// Login does, and with "invalid_grant" for a user that is not there or disabled.
func (i *Issuer) Begin(ctx context.Context, req BeginRequest) (Grant, error) {
	var room room
	for {
		e, err := i.tryBegin(ctx, req, room)
		switch {
		case err == nil:
			return i.sign(ctx, e)
		case !errors.Is(err, errNoRoom):
			return Grant{}, err
		}
		// The user has as many sessions as allowed. Which of them goes is found out without
		// holding up the others, and checked again by the next try.
		if room, err = i.makeRoom(ctx, req); err != nil {
			return Grant{}, err
		}
	}
}

func (i *Issuer) tryBegin(ctx context.Context, req BeginRequest, room room) (entitlement, error) {
	now, served, silent := i.keys.Now(), i.keys.ServedTime(), i.silent()
	id := newFamilyID(now)
	var e entitlement
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		p, err := i.prepare(tx, req)
		if err != nil {
			return err
		}
		if err := silent[p.entitlement.terms.Alg]; err != nil {
			return err
		}
		f, err := i.newFamily(tx, req, p, id, now, served)
		if err != nil {
			return err
		}
		if err := i.enrol(tx, f, room, now); err != nil {
			return err
		}
		e = p.entitlement
		e.subject, e.user, e.family = f.rec.user, f.user, id.String()
		e.refresh = i.refreshSecrets.seal(refreshToken{f.rec.secret, id, 0})
		e.refreshFor = f.rec.expires(i.lifetimes(p.client, req.Endpoint)).Sub(now)
		return i.audit(tx, "session.login", "user:"+f.rec.user, id.String(), f.loginDetail(req.From))
	})
	return e, err
}

func (f *family) loginDetail(from netip.Addr) map[string]string {
	d := f.detail(from)
	d["login_endpoint"] = f.rec.endpoint.String()
	return d
}

// prepared is what client and request allow, before anybody knows who the user is.
type prepared struct {
	client      *clientRecord
	terms       terms
	scopes      scopeSet
	entitlement entitlement // of the first access token
}

func (i *Issuer) prepare(r storage.Reader, req BeginRequest) (prepared, error) {
	raw, err := getClient(r, req.Client)
	if err != nil {
		return prepared{}, err
	}
	client, err := i.doorClient(raw, req.Client)
	if err != nil {
		return prepared{}, err
	}
	if len(client.Audiences) == 0 {
		return prepared{}, refusal.New("unauthorized_client", "client %s has no audience", req.Client)
	}
	name, audience, err := i.chooseAudience(r, req.Audience, client.Audiences)
	if err != nil {
		return prepared{}, err
	}
	scope, err := chooseScopes(req.Scope, client.Scopes, audience.Scopes)
	if err != nil {
		return prepared{}, err
	}
	p := prepared{
		client: client, terms: terms{Client: req.Client, Audiences: client.Audiences, Scopes: client.Scopes},
		entitlement: entitlement{client: req.Client, audience: name, terms: audience, scope: scope},
	}
	if p.scopes = p.terms.pick(scope); req.Scope == "" {
		p.scopes = p.terms.pick(strings.Join(client.Scopes, " ")) // those of its other audiences too
	}
	return p, nil
}

// newFamily writes the record of a family, and when to look at it next.
func (i *Issuer) newFamily(tx storage.Tx, req BeginRequest, p prepared, id familyID, now time.Time, served time.Duration) (*family, error) {
	user, err := i.findUser(tx, req.User)
	switch {
	case err != nil:
		return nil, err
	case req.password != "" && (user == nil || user.Disabled || user.Password != req.password):
		return nil, errUserGone
	case user == nil || user.Disabled:
		return nil, refusal.New("invalid_grant", "there is no such user, or it is disabled")
	}
	store, err := readStoreEpoch(tx)
	if err != nil {
		return nil, err
	}
	terms, err := putTerms(tx, p.terms)
	if err != nil {
		return nil, err
	}
	rec := &familyRecord{
		endpoint: req.Endpoint, secret: i.refreshSecrets.newest, terms: terms, scopes: p.scopes, user: req.User,
		epochs: epochs{store, user.Epoch, p.client.Epoch},
		born:   now, used: now, made: served, maker: i.refreshSecrets.fingerprint(req.From),
	}
	f := &family{id: id, rec: rec, terms: &p.terms, user: user, client: p.client, current: rec.epochs}
	look := dueKey(rec.expires(i.lifetimes(p.client, req.Endpoint)), dueFamily, id.String())
	return f, errors.Join(tx.Put(familyKey(id), rec.encode()), tx.Put(look, dueMark))
}
