package jwks

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"sync"
)

// maxCachedToken and maxCachedAudiences bound the tokens that a cache takes, so that the
// number of entries bounds its memory. Tokens in practice are a tenth as long. Audiences are
// counted because each needs 16 bytes besides its name: 900 empty ones need six times the
// memory of the token.
const (
	maxCachedToken     = 4 << 10
	maxCachedAudiences = 16
)

// A cache holds tokens that were verified. It holds no others, so only a client that has
// valid tokens can fill it. It holds hashes instead of the tokens themselves. A token of ES256 has a
// second valid form, see signedES256: it is an entry of its own, verified like any other. A list of
// refused tokens must not be kept this way.
//
// It has two generations. A new entry goes into the young one. When that is full it becomes
// the old one, and the entries of the former old one are dropped unless they were used in
// the meantime. So entries in use stay, without a clock and without a list.
type cache struct {
	capacity int

	mu    sync.RWMutex // guards both maps; the entries themselves never change
	young map[tokenHash]*entry
	old   map[tokenHash]*entry
}

type tokenHash [sha256.Size]byte

func hashToken(token string) tokenHash {
	var buffer [1 << 10]byte // most tokens fit, which saves an allocation
	return sha256.Sum256(append(buffer[:0], token...))
}

// An entry holds the claims of a token and the key that verified it.
type entry struct {
	claims *Claims
	key    Key
}

func newCache(capacity int) *cache {
	return &cache{capacity: capacity, young: map[tokenHash]*entry{}}
}

// get returns nil if there is no entry. It moves an old entry to the young generation.
func (c *cache) get(h tokenHash) *entry {
	c.mu.RLock()
	found := c.young[h]
	aged := found == nil
	if aged {
		found = c.old[h]
	}
	c.mu.RUnlock()
	if aged && found != nil {
		c.put(h, found)
	}
	return found
}

func (c *cache) put(h tokenHash, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young[h] == nil && len(c.young) >= max(1, c.capacity/2) {
		c.old, c.young = c.young, map[tokenHash]*entry{}
		if c.capacity == 1 {
			c.old = nil
		}
	}
	c.young[h] = e
}

// trustedBy reports whether set still has the key that verified the token. It compares the
// whole key: an issuer can publish another key with the same kid.
func (e *entry) trustedBy(set *Set) bool {
	key, found := set.Key(e.key.KID)
	return found && key.same(e.key)
}

// same reports whether two keys of sets are the same key.
func (k Key) same(other Key) bool {
	if k.KID != other.KID || k.Alg != other.Alg {
		return false
	}
	switch public := k.Public.(type) {
	case *rsa.PublicKey:
		theirs, ok := other.Public.(*rsa.PublicKey) // Equal would allocate
		return ok && public.E == theirs.E && public.N.Cmp(theirs.N) == 0
	case ed25519.PublicKey:
		return public.Equal(other.Public)
	case *ecdsa.PublicKey:
		return other.Public == k.Public || public.Equal(other.Public) // of one set it is the same pointer
	}
	return false
}
