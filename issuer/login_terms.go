package issuer

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"keymill/storage"
)

// terms are what a client could agree to when its users logged in. All families of that
// time share them, so they are kept once, under a hash of themselves, and never change.
// Only administrators bring new ones about.
type loginTerms struct {
	Client    string   `json:"client"`
	Audiences []string `json:"audiences"` // sorted
	Scopes    []string `json:"scopes"`    // sorted, at most 50: a family names its own by place
}

// A scopeSet holds the places of some of the scopes.
type scopeSet uint64

// pick returns the places of scope's words.
func (t *loginTerms) pick(scope string) scopeSet {
	var set scopeSet
	for _, word := range words(scope) {
		if n, ok := slices.BinarySearch(t.Scopes, word); ok {
			set |= 1 << n
		}
	}
	return set
}

// names returns the scopes at the places of set, sorted.
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

func termsKey(id termsID) string { return "terms/" + familyText.EncodeToString(id[:]) }

// putTerms writes t unless it is there already.
func putTerms(tx storage.Tx, t loginTerms) (termsID, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return termsID{}, err
	}
	sum := sha256.Sum256(b)
	id := termsID(sum[:16])
	if known, err := tx.GetAll(termsKey(id)); err != nil || known[0] != nil {
		return id, err
	}
	return id, tx.Put(termsKey(id), b)
}

// termsCache remembers terms, which is safe for ever: an id has one content.
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
		return nil, fmt.Errorf("read %s: %w", termsKey(id), err)
	}
	if t, err = decode[loginTerms](termsKey(id), raw); err != nil {
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
