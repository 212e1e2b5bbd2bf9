package keystore

import (
	"errors"
	"strings"
	"testing"

	"keymill/keystore/internal/keyring"
	"keymill/storage"
)

// changesOfMeta change one member of the record meta, or its form. schema says that the schema is among them.
var changesOfMeta = []struct {
	name, old, with string
	schema          bool
}{
	{"schema, one before", `"schema":2`, `"schema":1`, true},
	{"schema, one later", `"schema":2`, `"schema":3`, true},
	{"schema 0", `"schema":2`, `"schema":0`, true},
	{"negative schema", `"schema":2`, `"schema":-2`, true},
	{"huge schema", `"schema":2`, `"schema":9223372036854775807`, true},
	{"no schema", `"schema":2,`, ``, true},
	{"another name of the schema", `"schema"`, `"sbhema"`, true},
	{"empty schema", `"schema":2`, `"schema":null`, true},
	{"the later schema last", `"schema":2`, `"schema":2,"schema":3`, true},
	{"the later schema, and a member", `"schema":2`, `"schema":3,"layout":{"x":[1]}`, true},
	{"schema too large", `"schema":2`, `"schema":9223372036854775808`, false},
	{"schema as text", `"schema":2`, `"schema":"2"`, false},
	{"schema with a fraction", `"schema":2`, `"schema":2.0`, false},
	{"the later schema first", `"schema":2`, `"schema":3,"schema":2`, false},
	{"schema in another case", `"schema":2`, `"Schema":2`, false},
	{"another database id", `"database_id":"`, `"database_id":"0`, false},
	{"no database id", `"database_id"`, `"database"`, false},
	{"empty database id", `"database_id":"`, `"database_id":"","x":"`, false},
	{"two database ids", `"database_id"`, `"database_id":"x","database_id"`, false},
	{"database id of another type", `"database_id":"`, `"database_id":1,"x":"`, false},
	{"earlier", `"created":"20`, `"created":"19`, false},
	{"an impossible time", `"created":"2`, `"created":"x`, false},
	{"no time", `"created"`, `"made"`, false},
	{"a store for trials", `}`, `,"dev":true}`, false},
	{"not for trials", `}`, `,"dev":false}`, false},
	{"for trials, as text", `}`, `,"dev":"true"}`, false},
	{"an unknown member", `}`, `,"later":1}`, false},
	{"a space", `{`, `{ `, false},
	{"a line behind", `}`, "}\n", false},
	{"cut", `"}`, ``, false},
	{"a list", `{`, `[{`, false},
}

// TestAChangeOfMetaIsNamed as damage of meta, whichever member it is and also for the schema: the keyring was
// sealed for one schema and over the hash of meta. The database id is part of what it was sealed for, so with
// another one it does not open at all.
//
// I23.
func TestAChangeOfMetaIsNamed(t *testing.T) {
	r, s := newRings(t)
	whole := string(rawGet(t, s, keyring.MetaRecord))
	other, _ := NewMasterKey()
	for _, tt := range changesOfMeta {
		changed := strings.Replace(whole, tt.old, tt.with, 1)
		if changed == whole {
			t.Fatalf("%s: meta is %s", tt.name, whole)
		}
		rawPut(t, s, keyring.MetaRecord, []byte(changed))
		for what, open := range map[string]func(master MasterKey) error{
			"a server": func(master MasterKey) error {
				cfg := r.cfg
				cfg.Master = master
				_, err := Open(t.Context(), readOnlyStore{s}, cfg)
				return err
			},
			"a reader": func(master MasterKey) error { _, err := Unlock(t.Context(), readOnlyStore{s}, master); return err },
		} {
			err := open(r.cfg.Master)
			if err == nil || !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), "record meta ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, %s: %v", tt.name, what, err)
			}
			if tt.schema && !strings.Contains(err.Error(), "and the store was written with schema 2") {
				t.Errorf("%s, %s: %v", tt.name, what, err)
			}
			// Without the master key no one can say more than the record.
			schema := new(storage.SchemaError)
			if err := open(other); err == nil || tt.schema != errors.As(err, &schema) {
				t.Errorf("%s, %s with another master key: %v", tt.name, what, err)
			}
		}
	}
	rawPut(t, s, keyring.MetaRecord, []byte(whole))
	if _, err := Open(t.Context(), s, r.cfg); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// TestAnotherSchemaIsNoDamage if the keyring does not show the opposite: it is missing, cut off, of another layout, or
// sealed for another schema.
func TestAnotherSchemaIsNoDamage(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, r *Rings, s storage.Store){
		"no keyring": func(t *testing.T, _ *Rings, s storage.Store) {
			if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(keyring.Record) }); err != nil {
				t.Fatal(err)
			}
		},
		"a cut keyring": func(t *testing.T, _ *Rings, s storage.Store) {
			rawPut(t, s, keyring.Record, rawGet(t, s, keyring.Record)[:16])
		},
		"an empty keyring": func(t *testing.T, _ *Rings, s storage.Store) { rawPut(t, s, keyring.Record, nil) },
		"another version of the seal": func(t *testing.T, _ *Rings, s storage.Store) {
			b := rawGet(t, s, keyring.Record)
			b[keyring.MasterIDBytes]++
			rawPut(t, s, keyring.Record, b)
		},
		"another data that it is sealed for": func(t *testing.T, r *Rings, s storage.Store) {
			record, err := keyring.Keyring{Schema: 3}.Seal(r.cfg.Master, r.database+" 3")
			if err != nil {
				t.Fatal(err)
			}
			rawPut(t, s, keyring.Record, record)
		},
	} {
		r, s := newRings(t)
		change(t, r, s)
		rawPut(t, s, keyring.MetaRecord, []byte(strings.Replace(string(rawGet(t, s, keyring.MetaRecord)), `"schema":2`, `"schema":3`, 1)))
		_, err := Open(t.Context(), readOnlyStore{s}, r.cfg)
		if other := new(storage.SchemaError); !errors.As(err, &other) || other.Schema != 3 || errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
