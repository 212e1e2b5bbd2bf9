package issuer

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sync"

	"keymill/issuer/record"
	"keymill/storage"
)

// loginTerms are the audiences and scopes of a client when a user logged in. All families that
// began under the same terms share one record, stored under its hash. It never changes. New terms
// are created only after an administrator changed the client.
type loginTerms struct {
	Client    string   `json:"client"`
	Audiences []string `json:"audiences"` // sorted
	Scopes    []string `json:"scopes"`    // sorted, at most 50: a family stores the positions of its own
}

// A scopeSet holds the positions of some of the scopes, a bit each.
type scopeSet uint64

// pick returns the positions of the words of scope.
func (t *loginTerms) pick(scope string) scopeSet {
	var set scopeSet
	for _, word := range words(scope) {
		if n, ok := slices.BinarySearch(t.Scopes, word); ok {
			set |= 1 << n
		}
	}
	return set
}

// names returns the scopes at the positions of set, sorted.
func (t *loginTerms) names(set scopeSet) []string {
	var list []string
	for n, word := range t.Scopes {
		if set&(1<<n) != 0 {
			list = append(list, word)
		}
	}
	return list
}

// A termsID is the first half of the SHA-256 of the terms' JSON.
type termsID [16]byte

func termsIDOf(raw []byte) termsID {
	sum := sha256.Sum256(raw)
	return termsID(sum[:16])
}

func termsKey(id termsID) string { return "terms/" + record.Encoding.EncodeToString(id[:]) }

// putTerms stores t unless it is stored already.
func putTerms(tx storage.Tx, t loginTerms) (termsID, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return termsID{}, err
	}
	id := termsIDOf(b)
	if known, err := tx.GetAll(termsKey(id)); err != nil || known[0] != nil {
		return id, err
	}
	return id, tx.Put(termsKey(id), b)
}

// A termsCache keeps terms in memory. It is never stale, because an id has only one content.
type termsCache struct {
	mu    sync.RWMutex
	known map[termsID]*loginTerms // owned by mu
}

const maxTerms = 4096

// read returns the terms with that id. The caller must not change them.
func (c *termsCache) read(r storage.Reader, id termsID) (*loginTerms, error) {
	c.mu.RLock()
	t := c.known[id]
	c.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	raw, err := r.Get(termsKey(id))
	if err != nil {
		return nil, record.Missing(err, termsKey(id), "a session needs it")
	}
	if t, err = decodeTerms(termsKey(id), raw); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxTerms {
		c.known = make(map[termsID]*loginTerms)
	}
	c.known[id] = t
	return t, nil
}
