// Package keyset serves the published keys, and tells who was served which set.
//
//	keystore ──Publish──▶ KeySet ──Handler──▶ GET /.well-known/jwks.json
//	                                  │
//	                                  └────▶ Watch.Served, for each set that a caller has now
//
// A caller can name itself with the credential of a pinned verifier, in a header or in a parameter of the
// URL. The credential changes no byte of the answer: every caller gets the same set, ETag and Cache-Control,
// and nothing of it is logged, counted or quoted in an error. So there is no Vary either. A shared cache
// that keeps one copy for all callers is right to do so. It hides the header of the callers that it answers by
// itself; the parameter makes a URL, and an entry of the cache, for each verifier.
package keyset

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"keymill/jwks"
	"keymill/keystore"
)

// Path is where the key set is served.
const Path = "/.well-known/jwks.json"

// A KeySet serves the published keys. It is made before the endpoints, because keystore
// publishes when it opens.
type KeySet struct {
	maxAge      time.Duration
	handler     *jwks.Handler
	set         *jwks.Set              // the last one without fault; only Publish uses it
	unpublished atomic.Pointer[string] // which keys could not be published and why; nil if all were
}

// New returns a KeySet whose answers may be cached for maxAge.
func New(maxAge time.Duration) *KeySet {
	return &KeySet{maxAge: maxAge, handler: jwks.NewHandler(maxAge)}
}

// Publish replaces the set that is served. A key that jwks refuses is left out, so that the
// tokens of other keys still verify, and makes the server not ready.
func (k *KeySet) Publish(keys []keystore.PublicKey) {
	all := make([]jwks.Key, 0, len(keys))
	for _, key := range keys {
		all = append(all, jwks.Key{KID: key.KID, Alg: key.Alg, Public: key.Public})
	}
	set, err := k.set.Replace(all...)
	if err == nil {
		k.set = set
		k.handler.Publish(set)
		k.unpublished.Store(nil)
		return
	}
	set, err = validKeys(k.set, all)
	if set != nil {
		k.handler.Publish(set)
	}
	reason := err.Error()
	k.unpublished.Store(&reason)
}

// validKeys adds one key after the other to find those that make a set. This is slow with
// many keys, so it is called only for a set that was refused. The keys of known were checked before.
func validKeys(known *jwks.Set, all []jwks.Key) (*jwks.Set, error) {
	var valid []jwks.Key
	var set *jwks.Set
	var unpublished error
	for _, key := range all {
		more, err := known.Replace(append(valid[:len(valid):len(valid)], key)...)
		if err != nil {
			unpublished = errors.Join(unpublished, fmt.Errorf("key %s is not published: %w", key.KID, err))
			continue
		}
		valid, set, known = append(valid, key), more, more
	}
	return set, unpublished
}

// MaxAge returns how long the answers may be cached.
func (k *KeySet) MaxAge() time.Duration { return k.maxAge }

// Issue returns which keys are not published and why, "" if all are.
func (k *KeySet) Issue() string {
	if reason := k.unpublished.Load(); reason != nil {
		return *reason
	}
	return ""
}
