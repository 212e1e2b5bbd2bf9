package storage

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Schema is the version of the record layout that this program reads and writes.
const Schema = 2

const metaKey = "meta"

// Meta identifies a database. The first transaction of a store writes it together with
// the keyring, and it never changes afterwards.
type Meta struct {
	DatabaseID string    `json:"database_id"` // 16 random bytes in hex
	Schema     int       `json:"schema"`
	Created    time.Time `json:"created"`
	Dev        bool      `json:"dev,omitempty"` // created by serve --dev, which is the only mode that serves it
}

// NewMeta returns the identity of a new database.
func NewMeta(now time.Time, dev bool) Meta {
	id := make([]byte, 16)
	rand.Read(id)
	return Meta{DatabaseID: hex.EncodeToString(id), Schema: Schema, Created: now.UTC(), Dev: dev}
}

// PutMeta writes m. The caller has checked that the store is empty.
func PutMeta(tx Tx, m Meta) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return tx.Put(metaKey, b)
}

// ReadMeta returns the identity of the store. It returns ErrNotFound if the store has
// none, and another error if the record is unreadable or has another schema.
func ReadMeta(r Reader) (Meta, error) {
	b, err := r.Get(metaKey)
	if err != nil {
		return Meta{}, err
	}
	// The schema comes first: only a record of this schema can be read strictly.
	var any struct {
		Schema int `json:"schema"`
	}
	switch err := json.Unmarshal(b, &any); {
	case err != nil:
		return Meta{}, Damaged(metaKey, "it is not the JSON of such a record")
	case any.Schema == Schema:
	case any.Schema == 1:
		return Meta{}, fmt.Errorf("the store has schema 1, which no release of Keymill wrote; create a new store with \"keymill init\"")
	default:
		return Meta{}, fmt.Errorf("the store has schema %d, but this program reads schema %d; use the version of Keymill that wrote it", any.Schema, Schema)
	}
	var m Meta
	return m, DecodeJSON(metaKey, b, &m)
}
