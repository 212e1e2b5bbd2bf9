package storage

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Schema is the version of the layout that this program writes and reads.
const Schema = 1

const metaKey = "meta"

// Meta says which database this is. Transaction zero of a store writes it, together
// with the keyring; it never changes afterwards.
type Meta struct {
	DatabaseID string    `json:"database_id"` // 16 random bytes in hex
	Schema     int       `json:"schema"`
	Created    time.Time `json:"created"`
	Dev        bool      `json:"dev,omitempty"` // made by serve --dev, and served only by it
}

// NewMeta returns the identity of a database that is about to be made.
func NewMeta(now time.Time, dev bool) Meta {
	id := make([]byte, 16)
	rand.Read(id)
	return Meta{DatabaseID: hex.EncodeToString(id), Schema: Schema, Created: now.UTC(), Dev: dev}
}

// PutMeta writes m; the caller has made sure that the store is empty.
func PutMeta(tx Tx, m Meta) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return tx.Put(metaKey, b)
}

// ReadMeta returns the store's identity, ErrNotFound if it has none, or an error
// if it is unreadable or of a schema that this program does not know.
func ReadMeta(r Reader) (Meta, error) {
	b, err := r.Get(metaKey)
	if err != nil {
		return Meta{}, err
	}
	var m Meta
	if err := json.Unmarshal(b, &m); err != nil {
		return Meta{}, fmt.Errorf("meta record is unreadable: %w", err)
	}
	if m.Schema != Schema {
		return Meta{}, fmt.Errorf("store has schema %d, this program knows %d", m.Schema, Schema)
	}
	return m, nil
}
