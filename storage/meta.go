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

// A SchemaError means that the record meta names another schema than this program reads. The record is not
// bound to anything below the master key, so a writer of the store can have changed it.
type SchemaError struct {
	Schema   int
	Database string // the database id as the record has it; "" if it has none
}

// Error says which version of the program the store needs.
func (e *SchemaError) Error() string {
	if e.Schema == 1 {
		return "the store has schema 1, which no release of Keymill wrote; create a new store with \"keymill init\""
	}
	return fmt.Sprintf("the store has schema %d, but this program reads schema %d; use the version of Keymill that wrote it", e.Schema, Schema)
}

// ReadMeta returns the identity of the store. It returns ErrNotFound if the store has
// none, a *SchemaError if it has another schema, and a *DamageError if the record is unreadable.
func ReadMeta(r Reader) (Meta, error) {
	b, err := r.Get(metaKey)
	if err != nil {
		return Meta{}, err
	}
	// The schema comes first: only a record of this schema can be read strictly.
	var any struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(b, &any); err != nil {
		return Meta{}, Damaged(metaKey, "it is not the JSON of such a record")
	}
	if any.Schema != Schema {
		var id struct {
			Database string `json:"database_id"`
		}
		json.Unmarshal(b, &id) // another schema may have no such member
		return Meta{}, &SchemaError{any.Schema, id.Database}
	}
	var m Meta
	return m, DecodeJSON(metaKey, b, &m)
}
