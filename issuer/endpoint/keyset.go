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
	var list []jwks.Key
	var left error
	for _, key := range keys {
		more := append(list[:len(list):len(list)], jwks.Key{KID: key.KID, Alg: key.Alg, Public: key.Public})
		if _, err := jwks.NewSet(more...); err != nil {
			left = errors.Join(left, fmt.Errorf("key %s is not published: %w", key.KID, err))
			continue
		}
		list = more
	}
	set, err := jwks.NewSet(list...)
	if err != nil {
		left = errors.Join(left, err)
	} else {
		k.handler.Publish(set)
	}
	if left == nil {
		k.left.Store(nil)
		return
	}
	words := left.Error()
	k.left.Store(&words)
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
