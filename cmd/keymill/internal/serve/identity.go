package serve

import (
	"context"
	"encoding/json"
	"errors"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
	"keymill/storage/audit"
)

// issuerKey is the key of the record of the issuer with which the store was last served. A store
// that was never served has none.
const issuerKey = "issuer"

type issuerRecord struct {
	URL string `json:"url"`
}

func readIssuer(r storage.Reader) (string, error) {
	b, err := r.Get(issuerKey)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return decodeIssuer(issuerKey, b)
}

func decodeIssuer(key string, b []byte) (string, error) {
	var record issuerRecord
	return record.URL, storage.DecodeJSON(key, b, &record)
}

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a
// record under key.
func CheckRecord(key string, value []byte) error {
	_, err := decodeIssuer(key, value)
	return err
}

// identify checks that this is the store that the configuration means, before the master key is
// used.
func (s *server) identify(ctx context.Context) error {
	meta, err := Identify(ctx, s.file, s.config)
	if schema := new(storage.SchemaError); errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrDamaged) || errors.As(err, &schema) {
		return nil // openKeys has the master key, and says whether the store is empty, damaged or of another schema
	}
	s.database = meta.DatabaseID
	return err
}

// Identify returns the identity of the store below the tags, and an error if the configuration means
// another store. It returns storage.ErrNotFound if the store has no identity.
func Identify(ctx context.Context, file storage.Store, c *config.Config) (meta storage.Meta, err error) {
	err = file.View(ctx, func(r storage.Reader) (err error) {
		meta, err = storage.ReadMeta(r)
		return err
	})
	if err != nil {
		return meta, err
	}
	if err := c.CheckDatabase(meta.DatabaseID); err != nil {
		return meta, terminal.WithHint(err, "the directory or the mounted volume is the wrong one; or, if this is the right store, correct database_id")
	}
	return meta, nil
}

// checkIssuer checks the issuer before anything is written to the store.
func (s *server) checkIssuer(ctx context.Context, store storage.Store) error {
	if s.acceptNewIssuer {
		return nil
	}
	return CheckIssuer(ctx, store, s.config)
}

// CheckIssuer returns an error if the configuration has another issuer than the one with which the
// store was last served. A configuration without an issuer fits every store.
func CheckIssuer(ctx context.Context, store storage.Store, c *config.Config) error {
	var last string
	if err := store.View(ctx, func(r storage.Reader) (err error) {
		last, err = readIssuer(r)
		return err
	}); err != nil {
		return err
	}
	if c.Dev || c.Issuer == "" || last == "" || last == c.Issuer {
		return nil
	}
	return terminal.WithHint(c.SettingError("issuer", "the store was last served with the issuer %s, and now it is %s", last, c.Issuer),
		"services that expect the old issuer refuse the new tokens; set issuer back, or start once with --accept-new-issuer")
}

// rememberIssuer stores the issuer, at the end of a start that has succeeded. The issuer of a trial
// server follows its port, so it is not stored.
func (s *server) rememberIssuer(ctx context.Context) error {
	if s.config.Dev {
		return nil
	}
	return s.store.Update(ctx, func(tx storage.Tx) error {
		last, err := readIssuer(tx)
		if err != nil || last == s.config.Issuer {
			return err
		}
		b, err := json.Marshal(issuerRecord{s.config.Issuer})
		if err != nil {
			return err
		}
		if err := tx.Put(issuerKey, b); err != nil || last == "" {
			return err
		}
		return audit.Append(tx, s.rings.Now(), audit.Event{
			Action: "issuer.change", By: "system", Target: s.config.Issuer, Detail: map[string]string{"from": last},
		})
	})
}
