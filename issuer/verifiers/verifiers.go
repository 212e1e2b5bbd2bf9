// Package verifiers remembers which key set each verifier was served last, so that an operator knows
// before a rotation who does not have the spare yet, and after a revocation who may still hold a dead key.
//
//	GET /.well-known/jwks.json, written whole
//	  │
//	  ├─ ServedPinned ─▶ pinned    named, at most 200 ──Run, once a minute──▶ store
//	  └─ Served ───────▶ observed  address and program, at most 1,000, in memory only
//
// The two kinds are never mixed. A pinned verifier sends a credential that keymill verifier add has
// printed; a rotation by hand waits for it. Any client can be an observed one, so observations only inform.
//
// # Credentials
//
// A credential is NAME.TAG. The tag is base32 of the first 10 bytes of
//
//	HMAC-SHA256(secret, "keymill verifier v1" ‖ database id ‖ NAME)
//
// in lower case. The secret is random and sealed in the store, so a change of the master key keeps the
// credentials. Tags are computed at the start and at Add: a request costs a look into a map.
//
// # Which verifiers a rotation waits for
//
// A pinned verifier came lately if its last visit is at most twice max-age ago, or twice its usual
// interval. A rotation by hand waits for those that came lately and were not served the spare. The time since
// the last visit is served time: a verifier cannot come while no server runs. What the
// usual interval is, and how soon old habits are forgotten, is told at the type habit.
//
// # Records
//
//	verifier/secret/001   the secret of the tags, sealed (keystore.Vault)
//	verifier/name/<name>  a pinned verifier: when it was added, and by whom
//	served/<name>         when it came last, by both clocks, the kids of the set that it was served, and its intervals
//	behind                the spare of each algorithm of which Run has warned
//
// Memory is the authority while the server runs, and a fetch never waits for the store. A record
// served/<name> is written when the set that was served has other kids than the one before, when its time
// is out of date by a quarter of the time in which the verifier is waited for, or by 12 hours, and at the
// end of the process. While the server runs it is written at most once a minute. A crash loses at most
// that: a rotation then waits for a verifier that has the spare already, or ends its wait by a quarter earlier.
//
// On a shared store each server writes what it served within p and reads what the others wrote, so that a rotation waits for
// a verifier only if no server has served it the spare. The record with the later time is kept. A removal on one server is
// known to the others after p.
//
// Other times are decision times (keystore.Rings.Now). A record that is damaged counts as missing and is not
// written again; a verifier without a record served/<name> was never served.
package verifiers

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"keymill/issuer/outbox"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
)

// MaxPinned is the limit for pinned verifiers.
const MaxPinned = 200

// Config is what a Registry needs.
type Config struct {
	URL     string // of the key set
	Store   storage.Store
	Keys    *keystore.Rings
	MaxAge  time.Duration  // of the key set
	Outbox  *outbox.Outbox // nil if there is no webhook
	Log     *slog.Logger   // nil discards
	Damaged func(error)    // gets the error of each damaged record; may be nil
}

// A Registry has the pinned and the observed verifiers. It is safe for concurrent use.
type Registry struct {
	cfg Config

	// changing is held by each change of the store, until memory has it too. So what Run writes is
	// never of a verifier that was removed in the meantime. It is taken before mu.
	changing sync.Mutex
	tags     *tagger           // nil until the first Add; changing owns it
	warned   map[string]string // alg → kid of the spare that Run has warned of; changing owns it
	noBehind bool              // the record behind is damaged; changing owns it

	// mu is held while memory is read or changed. No call of the store or of a lock of keystore is made
	// while it is held, because CheckServed is called in a transaction of keystore.
	mu       sync.Mutex
	pinned   map[string]*pinned // by name
	observed observations
	set      *jwks.Set // that was served last
	kids     *kidList  // of set
}

// A kidList has the kids of one set, sorted. It is shared by the verifiers that were served the set, and
// never changed.
type kidList []string

func (l *kidList) has(kid string) bool {
	if l == nil {
		return false
	}
	_, found := slices.BinarySearch(*l, kid)
	return found
}

func (l *kidList) hasAny(kids []string) bool { return slices.ContainsFunc(kids, l.has) }

// missing returns those of kids that are not in the list.
func (l *kidList) missing(kids []string) []string {
	out := []string{}
	for _, kid := range kids {
		if !l.has(kid) {
			out = append(out, kid)
		}
	}
	return out
}

// all returns a copy, which is not nil.
func (l *kidList) all() []string {
	if l == nil {
		return []string{}
	}
	return append([]string{}, *l...)
}

// Open reads the records of the store.
func Open(ctx context.Context, cfg Config) (*Registry, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Damaged == nil {
		cfg.Damaged = func(error) {}
	}
	r := &Registry{cfg: cfg}
	return r, r.load(ctx)
}

// ServedPinned notes an answer with the set, or a 304 for it, that the pinned verifier with that credential got
// completely. It returns false, and notes nothing, if the credential is of none. Like Served and ServedAgain, it does not
// read the store.
func (r *Registry) ServedPinned(credential string, set *jwks.Set) bool {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.holder(credential)
	if p == nil {
		return false
	}
	p.served(now, r.kidsOf(set))
	return true
}

// holder returns the pinned verifier with that credential, or nil. mu is held.
func (r *Registry) holder(credential string) *pinned {
	name, tag, ok := splitCredential(credential)
	if !ok {
		return nil
	}
	p := r.pinned[name]
	if p == nil || !p.tag.equal(tag) {
		return nil
	}
	return p
}

// A Fetch is an answer with the key set that an observed verifier got completely, or a 304.
type Fetch struct {
	Address netip.Addr // of the caller
	Through netip.Addr // of the proxy that it came through; invalid for none
	Agent   string     // User-Agent
	Set     *jwks.Set
}

// Served notes an answer to an observed verifier.
func (r *Registry) Served(f Fetch) *Visitor {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.observed.note(now, f, r.kidsOf(f.Set))
}

// ServedAgain notes an answer to a caller that has the address, the proxy and the program of an earlier Served. It
// returns false, and notes nothing, if so many others have come since that the visitor is forgotten.
func (r *Registry) ServedAgain(v *Visitor, set *jwks.Set) bool {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.gone {
		return false
	}
	r.observed.again(v, now, r.kidsOf(set))
	return true
}

func (r *Registry) now() (now moment) {
	now.at, now.up = r.cfg.Keys.Times()
	return now
}

// kidsOf returns the kids of a set. mu is held.
func (r *Registry) kidsOf(set *jwks.Set) *kidList {
	if set == r.set && r.kids != nil {
		return r.kids
	}
	list := kidList{}
	for _, k := range set.Keys() {
		list = append(list, k.KID)
	}
	r.set, r.kids = set, &list
	return r.kids
}
