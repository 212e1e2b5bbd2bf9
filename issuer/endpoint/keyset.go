package endpoint

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"keymill/jwks"
	"keymill/keystore"
)

const keySetPath = "/.well-known/jwks.json"

// A KeySet serves the published keys. It is made before the Server, because keystore
// publishes when it opens.
type KeySet struct {
	maxAge      time.Duration
	handler     *jwks.Handler
	set         *jwks.Set              // the last one without fault; only Publish uses it
	unpublished atomic.Pointer[string] // which keys could not be published and why; nil if all were
}

// NewKeySet returns a KeySet whose answers may be cached for maxAge.
func NewKeySet(maxAge time.Duration) *KeySet {
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

func (k *KeySet) serve(w http.ResponseWriter, r *http.Request) error {
	k.handler.ServeHTTP(w, r)
	return nil
}

// issue returns which keys are not published and why, "" if all are.
func (k *KeySet) issue() string {
	if reason := k.unpublished.Load(); reason != nil {
		return *reason
	}
	return ""
}
