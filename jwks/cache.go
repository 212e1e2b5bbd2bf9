package jwks

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"sync"
)

// maxRemembered and maxAudiences bound the tokens that a cache takes, so that its entries
// bound its memory. Those of services are a tenth of it. Audiences are counted because
// each costs 16 bytes more than its name: 900 empty ones cost a token six times over.
const (
	maxRemembered = 4 << 10
	maxAudiences  = 16
)

// A cache remembers tokens that were found good: those only, so nobody who cannot sign
// can fill it. Tokens themselves are not in it, only their hashes.
//
// It has two generations. What is new goes to the young one; when that is full, it
// becomes the old one, and what nobody has asked for since it was young is forgotten.
// So it needs no clock and no list, and what is in use stays.
type cache struct {
	most int

	mu    sync.RWMutex // guards what follows; what the maps hold is never changed
	young map[tokenHash]*remembered
	old   map[tokenHash]*remembered
}

type tokenHash [sha256.Size]byte

func hashToken(token string) tokenHash {
	var room [1 << 10]byte // which spares most tokens an allocation
	return sha256.Sum256(append(room[:0], token...))
}

// A remembered token is its claims, and the key that verified it.
type remembered struct {
	claims *Claims
	key    Key
}

func newCache(most int) *cache {
	return &cache{most: most, young: map[tokenHash]*remembered{}}
}

// get returns nil for what is not remembered.
func (c *cache) get(h tokenHash) *remembered {
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

func (c *cache) put(h tokenHash, r *remembered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young[h] == nil && len(c.young) >= max(1, c.most/2) {
		c.old, c.young = c.young, map[tokenHash]*remembered{}
		if c.most == 1 {
			c.old = nil
		}
	}
	c.young[h] = r
}

// trustedBy reports whether set still holds the very key that verified r. The kid alone
// would not do: a key can be replaced under its name.
func (r *remembered) trustedBy(set *Set) bool {
	key, found := set.Key(r.key.KID)
	return found && key.same(r.key)
}

// same reports whether two keys of sets are one.
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
	}
	return false
}
