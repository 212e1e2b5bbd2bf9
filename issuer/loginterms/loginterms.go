// Package loginterms keeps the audiences and scopes of a client as they were when a user logged in. All
// sessions that began under the same terms share one record:
//
//	terms/<hash>   client, audiences and scopes, in JSON; the hash is that of the JSON
//
// A record never changes. New terms are created only after an administrator changed the client.
package loginterms

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"keymill/issuer/names"
	"keymill/issuer/record"
	"keymill/issuer/scope"
	"keymill/storage"
)

// MaxAudiences is how many audiences a client can have.
const MaxAudiences = 16

// Terms are the audiences and scopes of a client.
type Terms struct {
	Client    string   `json:"client"`
	Audiences []string `json:"audiences"` // sorted
	Scopes    []string `json:"scopes"`    // sorted, at most 50: a family stores the positions of its own
}

func (t *Terms) possible() bool {
	return names.IsClient(t.Client) && record.PossibleList(t.Scopes, scope.Max, scope.Valid) && record.PossibleList(t.Audiences, MaxAudiences, names.IsAudience) && len(t.Audiences) > 0
}

// A Set holds the positions of some of the scopes, a bit each.
type Set uint64

// Pick returns the positions of the words of scope.
func (t *Terms) Pick(scope string) Set {
	var set Set
	for _, word := range strings.Fields(scope) {
		if n, ok := slices.BinarySearch(t.Scopes, word); ok {
			set |= 1 << n
		}
	}
	return set
}

// Names returns the scopes at the positions of set, sorted.
func (t *Terms) Names(set Set) []string {
	var list []string
	for n, word := range t.Scopes {
		if set&(1<<n) != 0 {
			list = append(list, word)
		}
	}
	return list
}

// A ID is the first half of the SHA-256 of the terms' JSON.
type ID [16]byte

// IDOf returns the id of terms that are stored as raw.
func IDOf(raw []byte) ID {
	sum := sha256.Sum256(raw)
	return ID(sum[:16])
}

// Key returns the key of the record of terms.
func Key(id ID) string { return "terms/" + record.Encoding.EncodeToString(id[:]) }

// Decode returns the terms in a record. Its key must be that of its content.
func Decode(key string, raw []byte) (*Terms, error) {
	t, err := record.Decode(key, raw, (*Terms).possible)
	if err == nil && key != Key(IDOf(raw)) {
		err = storage.Damaged(key, "it has the content of another record")
	}
	return t, err
}

// Put stores t unless it is stored already.
func Put(tx storage.Tx, t Terms) (ID, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return ID{}, err
	}
	id := IDOf(b)
	if known, err := tx.GetAll(Key(id)); err != nil || known[0] != nil {
		return id, err
	}
	return id, tx.Put(Key(id), b)
}

// A Cache keeps terms in memory. It is never stale, because an id has only one content.
type Cache struct {
	mu    sync.RWMutex
	known map[ID]*Terms // owned by mu
}

const maxTerms = 4096

// Knows reports whether Read returns the terms from memory.
func (c *Cache) Knows(id ID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.known[id] != nil
}

// Read returns the terms with that id. The caller must not change them.
func (c *Cache) Read(r storage.Reader, id ID) (*Terms, error) {
	c.mu.RLock()
	t := c.known[id]
	c.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	raw, err := r.Get(Key(id))
	if err != nil {
		return nil, record.Missing(err, Key(id), "a session needs it")
	}
	if t, err = Decode(Key(id), raw); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxTerms {
		c.known = make(map[ID]*Terms)
	}
	c.known[id] = t
	return t, nil
}
