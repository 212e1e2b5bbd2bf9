package issuer

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/issuer/scope"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
)

// A refreshAttempt is a refresh token with a correct MAC and the parameters of its request.
type refreshAttempt struct {
	token       refreshtoken.Token
	client      Credentials
	bound       bool // the configuration binds the client to the login endpoint
	audience    string
	scope       string
	from        netip.Addr
	at          times            // when it arrived
	unavailable map[string]error // see unavailableAlgs
	loginFrom   *string          // see loginAddress; nil until it is looked up, which only a replay needs
}

// An outcome is what a transaction decided: an entitlement, or a refusal whose transaction wrote
// something.
type outcome struct {
	entitled entitlement
	refused  error
	next     refreshtoken.Token // that the client gets
	rotated  bool               // this transaction made its generation
	noted    bool               // this transaction noted that it goes elsewhere
	replaced time.Time          // with errTokenReused: the last rotation of the session, a decision time; zero if the token is newer
}

// refresh serves the grant refresh_token (RFC 6749, section 6).
func refresh(i *Issuer, ctx context.Context, req TokenRequest) (Grant, error) {
	if req.Refresh == "" {
		return Grant{}, refusal.New("invalid_request", "refresh_token is missing")
	}
	e, err := i.tryRefresh(ctx, req.Refresh, refreshAttempt{
		client: req.Client, audience: req.Audience, scope: req.Scope, from: req.From,
	})
	if err != nil {
		return Grant{}, err
	}
	return i.sign(ctx, e)
}

// tryRefresh decides about a refresh token. It checks, in this order: the MAC, which needs no
// store; the client; that the session exists and belongs to the client; that it is live; the
// generation; the audience and the scope.
func (i *Issuer) tryRefresh(ctx context.Context, token refusal.Secret, p refreshAttempt) (entitlement, error) {
	var err error
	if p.token, err = i.decode(ctx, token); err != nil {
		return entitlement{}, err
	}
	began, behind := time.Now(), i.keys.Current()
	p.unavailable = i.unavailableAlgs()
	p.at = i.times()
	var out outcome
	decide := func(tx storage.Tx) (err error) {
		out, err = i.decideRefresh(tx, p)
		return err
	}
	err = i.store.Update(ctx, decide)
	if errors.Is(err, errTokenReused) { // nothing is written yet
		if err := cmp.Or(behind, i.tooLate(began, out.replaced)); err != nil {
			return entitlement{}, err
		}
		ctx = context.WithoutCancel(ctx) // a thief who hangs up must not escape
		p.loginFrom = new(i.loginAddress(ctx, p.token.Family))
		err = i.store.Update(ctx, decide)
	}
	if err != nil {
		return entitlement{}, i.aboutSession(ctx, p.token.Family, err)
	}
	// From here the successor is durable and the old token is spent. If a crash loses the answer,
	// the client still has the old token and can try again within the grace.
	if out.refused != nil {
		return entitlement{}, out.refused
	}
	switch {
	case out.rotated:
		i.retries.Forget(p.token.Family, p.token.Generation)
	case !out.noted:
		i.retries.Add(p.token.Family, out.next.Generation)
	}
	out.entitled.graced = !out.rotated
	out.entitled.refresh, err = i.refreshSecrets.Encode(ctx, out.next)
	return out.entitled, err
}

// decode reads a refresh token, or refuses it.
func (i *Issuer) decode(ctx context.Context, token refusal.Secret) (refreshtoken.Token, error) {
	t, err := i.refreshSecrets.Decode(ctx, token)
	if refreshtoken.IsInvalid(err) {
		err = errInvalidToken(err)
	}
	return t, err
}

// unavailableAlgs returns the algorithms whose rings cannot sign now, and why; nil if all can. A
// rotation must not be written if its access token cannot be signed afterwards: the client might
// have to wait for longer than the grace, and its next try would end the session. Call it before
// the transaction: inside, it could deadlock with an operator's change that holds the lock and
// waits for the store.
func (i *Issuer) unavailableAlgs() map[string]error { // alg → why
	var list map[string]error
	for _, alg := range keystore.SupportedAlgorithms() {
		if err := i.keys.Ready(alg); err != nil {
			if list == nil {
				list = make(map[string]error)
			}
			list[alg] = err
		}
	}
	return list
}

// errInvalidToken is the answer to every refused refresh token. The client does not learn the
// cause; it is for the log.
func errInvalidToken(cause error) *refusal.Refusal {
	r := refusal.New("invalid_grant", "the refresh token is invalid, expired or revoked")
	r.Cause = cause
	return r
}

// errInvalidAccessToken is the same for an access token.
func errInvalidAccessToken(cause error) *refusal.Refusal {
	r := refusal.New("invalid_grant", "the access token is invalid, expired or for another audience")
	r.Cause = cause
	return r
}

func (i *Issuer) decideRefresh(tx storage.Tx, p refreshAttempt) (outcome, error) {
	r := record.NewAhead(tx)
	if err := i.fetchFamilies(r, []familyID{p.token.Family}, keysOf(p.client.ClientID, p.audience)...); err != nil {
		return outcome{}, err
	}
	client, err := i.refreshClient(r, p)
	if err != nil {
		return outcome{}, err
	}
	f, err := i.family(r, p.token.Family)
	if err != nil {
		return outcome{}, err
	}
	if f == nil || f.terms.Client != p.client.ClientID {
		return outcome{}, errInvalidToken(errNoSession) // a session of another client stays as it is
	}
	f.client = client
	limits := i.lifetimes(client, f.rec.endpoint)
	if state := f.state(p.at.now, limits); state != stateLive {
		return outcome{}, f.errEnded(state)
	}
	d := decision{tx, p.at.now, "client:" + f.terms.Client, p.from}
	token := f.rec.classify(p.token.Generation, p.at.served-f.rec.rotatedAtServed, limits.Grace)
	if e := endingOf(token); e != notEnded {
		return i.endReplayed(d, f, e, p)
	}
	// A refusal from here on writes nothing.
	e, err := i.entitleFamily(r, f, p)
	if err != nil {
		return outcome{}, err
	}
	if err := p.unavailable[e.record.Alg]; err != nil {
		return outcome{}, err
	}
	elsewhere := token != tokenCurrent && !i.sameAddress(f, p.from)
	switch {
	case token == tokenCurrent:
		err = i.rotate(d, f)
	case elsewhere:
		err = f.noteElsewhere(tx)
	}
	if err != nil {
		return outcome{}, err
	}
	e.refreshFor = f.rec.expires(limits).Sub(p.at.now)
	return outcome{
		entitled: e, next: refreshtoken.Token{Secret: f.rec.secret, Family: f.id, Generation: f.rec.generation},
		rotated: token == tokenCurrent, noted: elsewhere,
	}, nil
}

// refreshClient returns the client of the attempt: the bound one, or the one that authenticates.
func (i *Issuer) refreshClient(r storage.Reader, p refreshAttempt) (*clientRecord, error) {
	if p.bound {
		return i.boundClient(r, p.client.ClientID)
	}
	client, err := i.authenticate(r, p.client, p.at.now)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(client.Grants, "refresh_token") {
		return nil, refusal.New("unauthorized_client", "client is not allowed the refresh_token grant")
	}
	return client, nil
}

// rotate makes the next generation. A crash before the commit leaves the old one current. A crash
// after it leaves a successor that the old one can fetch within the grace.
func (i *Issuer) rotate(d decision, f *family) error {
	rec := f.rec
	shared := rec.endGeneration(i.retries.Get(f.id, rec.generation))
	rec.generation++
	// The grace begins now and not when the request arrived: while the request waited for its
	// transaction, another request with the same token may have waited behind it.
	rec.lastUsed, rec.rotatedAtServed = d.now, i.keys.ServedTime()
	rec.secret = i.refreshSecrets.Newest(d.now)
	rec.address = i.refreshSecrets.Fingerprint(rec.secret, d.from)
	if err := d.tx.Put(familyKey(f.id), rec.encode()); err != nil {
		return err
	}
	if !shared {
		return nil // an ordinary rotation leaves no audit record
	}
	return i.auditOnce(d, f.tally(), audit.Event{Action: "session.shared", Target: f.id.String(), Detail: f.detail(d.from)})
}

func endingOf(s tokenState) ending {
	switch s {
	case tokenLate:
		return endedLateRetry
	case tokenReplayed:
		return endedReplay
	case tokenRolledBack:
		return endedRolledBack
	}
	return notEnded
}

// entitleFamily returns the token that the user of the session may have now: within what the
// login agreed on, and within what client and audience still allow.
func (i *Issuer) entitleFamily(r storage.Reader, f *family, p refreshAttempt) (entitlement, error) {
	allowed := record.Intersect(f.terms.Audiences, f.client.Audiences)
	if len(allowed) == 0 {
		return entitlement{}, errInvalidToken(errRightsReduced)
	}
	name, rec, err := i.chooseAudience(r, p.audience, allowed)
	if err != nil {
		return entitlement{}, err
	}
	granted := f.granted()
	if len(record.Intersect(granted, f.client.Scopes)) < len(granted) {
		return entitlement{}, errInvalidToken(errRightsReduced) // the client has lost a scope since the login
	}
	scope, err := scope.Choose(p.scope, granted, rec.Scopes)
	if err != nil {
		return entitlement{}, err
	}
	return entitlement{
		subject: f.rec.user, client: f.terms.Client, audience: name, record: rec, scope: scope,
		family: f.id.String(), user: f.user,
	}, nil
}
