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

// A KeySet is the published set of keys. It exists before the Server does, because
// keystore publishes while it opens.
type KeySet struct {
	maxAge  time.Duration
	handler *jwks.Handler
	left    atomic.Pointer[string] // what could not be published and why; nil if nothing
}

// NewKeySet returns a KeySet whose answers may be cached for maxAge.
func NewKeySet(maxAge time.Duration) *KeySet {
	return &KeySet{maxAge: maxAge, handler: jwks.NewHandler(maxAge)}
}

// Publish makes keys the set that is served from now on. A key that jwks refuses is
// left out and makes the server not ready: without it, the others still verify.
func (k *KeySet) Publish(keys []keystore.PublicKey) {
	all := make([]jwks.Key, 0, len(keys))
	for _, key := range keys {
		all = append(all, jwks.Key{KID: key.KID, Alg: key.Alg, Public: key.Public})
	}
	set, err := jwks.NewSet(all...)
	if err == nil {
		k.handler.Publish(set)
		k.left.Store(nil)
		return
	}
	set, err = goodOnes(all)
	if set != nil {
		k.handler.Publish(set)
	}
	words := err.Error()
	k.left.Store(&words)
}

// goodOnes finds by trial which keys make a set. It takes a while with many keys, which
// is why it is asked only about a set that was refused.
func goodOnes(all []jwks.Key) (*jwks.Set, error) {
	var good []jwks.Key
	var set *jwks.Set
	var left error
	for _, key := range all {
		more, err := jwks.NewSet(append(good[:len(good):len(good)], key)...)
		if err != nil {
			left = errors.Join(left, fmt.Errorf("key %s is not published: %w", key.KID, err))
			continue
		}
		good, set = append(good, key), more
	}
	return set, left
}

func (k *KeySet) serve(w http.ResponseWriter, r *http.Request) error {
	k.handler.ServeHTTP(w, r)
	return nil
}

// issue says in words what is wrong with the set, "" if nothing is.
func (k *KeySet) issue() string {
	if words := k.left.Load(); words != nil {
		return *words
	}
	return ""
}
