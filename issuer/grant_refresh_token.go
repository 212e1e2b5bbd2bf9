package issuer

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
)

// A presentation is a refresh token whose seal holds, and what it is presented with.
type presentation struct {
	token    refreshToken
	client   Credentials
	bound    bool // at a door: the configuration vouches for the client
	audience string
	scope    string
	from     netip.Addr
	maker    [4]byte // fingerprint of from
	now      time.Time
	served   time.Duration    // when it arrived, on the clock that knows no downtime
	silent   map[string]error // see silent
}

// An outcome is what a transaction decided: an entitlement, or a refusal that left
// something behind.
type outcome struct {
	entitled  entitlement
	refused   *refusal.Refusal
	next      refreshToken // what the client gets
	rotated   bool         // its generation was made just now
	elsewhere bool         // it was made for another address
}

// refresh serves the grant refresh_token (RFC 6749, section 6).
func refresh(i *Issuer, ctx context.Context, req TokenRequest) (entitlement, error) {
	if req.Refresh == "" {
		return entitlement{}, refusal.New("invalid_request", "refresh_token is missing")
	}
	return i.present(ctx, req.Refresh, presentation{
		client: req.Client, audience: req.Audience, scope: req.Scope, from: req.From,
	})
}

// present decides about a refresh token, in this order: seal, client, record, same client,
// alive, generation, user and client, audience and scope. The seal needs no store.
func (i *Issuer) present(ctx context.Context, token refusal.Secret, p presentation) (entitlement, error) {
	var err error
	if p.token, err = i.refreshSecrets.open(token); err != nil {
		return entitlement{}, notGood(err)
	}
	p.silent = i.silent()
	p.now, p.served, p.maker = i.keys.Now(), i.keys.ServedTime(), i.refreshSecrets.fingerprint(p.from)
	var out outcome
	err = i.store.Update(ctx, func(tx storage.Tx) error {
		var err error
		out, err = i.decideRefresh(tx, p)
		return err
	})
	if err != nil {
		return entitlement{}, err
	}
	// From here the successor is durable and the old token is spent. A crash before the
	// answer leaves the client with the old one; the grace lets it try again.
	if out.refused != nil {
		return entitlement{}, out.refused
	}
	if out.rotated {
		i.graces.forget(p.token.family, p.token.generation)
	} else {
		i.graces.add(p.token.family, out.next.generation, out.elsewhere)
	}
	out.entitled.refresh = i.refreshSecrets.seal(out.next)
	return out.entitled, nil
}

// silent tells which rings cannot sign now, and why: nil if all can. A rotation must not be
// made whose token could then not be signed, since a client that has to wait for longer than
// its grace would come back too late. It is asked before the transaction, where asking the
// rings could wait for an operator who waits for the transaction.
func (i *Issuer) silent() map[string]error { // alg → why
	var silent map[string]error
	for _, alg := range keystore.SupportedAlgorithms() {
		if err := i.keys.Ready(alg); err != nil {
			if silent == nil {
				silent = make(map[string]error)
			}
			silent[alg] = err
		}
	}
	return silent
}

// notGood is the one answer to a token that is no good, whatever the reason. The reason is
// for the log.
func notGood(cause error) *refusal.Refusal {
	r := refusal.New("invalid_grant", "the refresh token is not good, or not any more")
	r.Cause = cause
	return r
}

func (i *Issuer) decideRefresh(tx storage.Tx, p presentation) (outcome, error) {
	client, err := i.presenter(tx, p)
	if err != nil {
		return outcome{}, err
	}
	f, err := i.family(tx, p.token.family)
	if err != nil {
		return outcome{}, err
	}
	if f == nil || f.terms.Client != p.client.ClientID {
		return outcome{}, notGood(errNoFamily) // untouched, if it is somebody else's
	}
	f.client = client
	limits := i.lifetimes(client, f.rec.endpoint)
	if f.fate(p.now, limits) != alive {
		return outcome{}, notGood(errEnded)
	}
	v := f.rec.judge(p.token.generation, p.served-f.rec.made, limits.Grace)
	if e := endingOf(v); e != living {
		return outcome{refused: notGood(errSpent)}, i.end(tx, f, e, p.now, f.actor(), p.from)
	}
	// A refusal from here on advances nothing.
	e, err := i.entitleFamily(tx, f, p)
	if err != nil {
		return outcome{}, err
	}
	if err := p.silent[e.terms.Alg]; err != nil {
		return outcome{}, err
	}
	if v == rotates {
		if err := i.rotate(tx, f, p); err != nil {
			return outcome{}, err
		}
	}
	e.refreshFor = f.rec.expires(limits).Sub(p.now)
	return outcome{
		entitled: e, next: refreshToken{f.rec.secret, f.id, f.rec.g},
		rotated: v == rotates, elsewhere: f.rec.maker != p.maker,
	}, nil
}

// presenter is the client that shows the token, once it has proved who it is.
func (i *Issuer) presenter(r storage.Reader, p presentation) (*clientRecord, error) {
	raw, err := getClient(r, p.client.ClientID)
	if err != nil {
		return nil, err
	}
	var client *clientRecord
	if p.bound {
		client, err = i.doorClient(raw, p.client.ClientID)
	} else {
		client, err = i.authenticate(raw, p.client, p.now)
	}
	if err != nil {
		return nil, err
	}
	if !slices.Contains(client.Grants, "refresh_token") {
		return nil, refusal.New("unauthorized_client", "this client may not use the grant refresh_token")
	}
	return client, nil
}

// rotate makes the next generation. A crash before the commit leaves the old one current,
// a crash after it leaves a successor that the old one can fetch within the grace.
func (i *Issuer) rotate(tx storage.Tx, f *family, p presentation) error {
	rec := f.rec
	shared := rec.fold(i.graces.get(f.id, rec.g))
	rec.g++
	// Its grace begins now and not when the request came: while that waited for its turn,
	// another one with the same token may have waited behind it.
	rec.used, rec.made = p.now, i.keys.ServedTime()
	rec.secret, rec.maker = i.refreshSecrets.newest, p.maker
	if err := tx.Put(familyKey(f.id), rec.encode()); err != nil {
		return err
	}
	if !shared {
		return nil // a rotation that is like all others leaves no audit record
	}
	return audit.Append(tx, p.now, audit.Event{
		Action: "session.shared", By: f.actor(), Target: f.id.String(), Detail: f.detail(p.from),
	})
}

func endingOf(v verdict) ending {
	switch v {
	case lateRetry:
		return endedLateRetry
	case replayed:
		return endedReplay
	case rolledBack:
		return endedRolledBack
	}
	return living
}

// entitleFamily says which token the family's user may have now. What the login agreed on
// is the bound, and what client and audience still allow.
func (i *Issuer) entitleFamily(r storage.Reader, f *family, p presentation) (entitlement, error) {
	left := both(f.terms.Audiences, f.client.Audiences)
	if len(left) == 0 {
		return entitlement{}, notGood(errNarrowed)
	}
	name, audience, err := i.chooseAudience(r, p.audience, left)
	if err != nil {
		return entitlement{}, err
	}
	granted := f.granted()
	if len(both(granted, f.client.Scopes)) < len(granted) {
		return entitlement{}, notGood(errNarrowed) // a scope was taken from the client since
	}
	scope, err := chooseScopes(p.scope, granted, audience.Scopes)
	if err != nil {
		return entitlement{}, err
	}
	return entitlement{
		subject: f.rec.user, client: f.terms.Client, audience: name, terms: audience, scope: scope,
		family: f.id.String(), user: f.user,
	}, nil
}

// both returns what two sorted lists have in common, sorted.
func both(a, b []string) []string {
	var out []string
	for _, s := range a {
		if _, ok := slices.BinarySearch(b, s); ok {
			out = append(out, s)
		}
	}
	return out
}

// words splits a scope; of none there are none.
func words(scope string) []string { return strings.Fields(scope) }
