package config

import (
	"cmp"
	"errors"
	"os"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/refusal"
	"keymill/storage/nodes"
	"keymill/storage/postgres"
)

// StorePasswordCredential is the credential of systemd with the password of a shared store.
const StorePasswordCredential = "keymill-store-password"

const storePasswordSetting = "store.password_file"

// IsShared reports whether the store is a database that several servers can share.
func (c *Config) IsShared() bool { return c.Store != "" }

// StorePlace says where the store is, for messages: the data directory, or the URL without its parameters.
func (c *Config) StorePlace() string {
	place, _, _ := strings.Cut(c.Store, "?")
	return cmp.Or(place, c.Data)
}

// CheckShared checks the settings of a store that several servers can share, and refuses them without one.
func (c *Config) CheckShared() error {
	if !c.IsShared() {
		return c.checkUnshared()
	}
	if err := postgres.CheckURL(c.Store); err != nil {
		return c.SettingError("store", "%v", err)
	}
	if c.Dev {
		return terminal.WithHint(c.SettingError("store", "--dev makes a trial store in a file of its own, and uses no shared one"), "remove the setting")
	}
	if c.NodeID != "" {
		if err := nodes.CheckID(c.NodeID); err != nil {
			return c.SettingError("node.id", "%v", err)
		}
	}
	return c.checkSharedKeys()
}

// checkUnshared refuses what has no meaning for a store in a file. A forgotten setting "store" must not make a new
// store beside the one that was meant.
func (c *Config) checkUnshared() error {
	if c.IsSet("store") {
		return terminal.WithHint(c.SettingError("store", "the value is empty"), "name a database: postgres://ROLE@HOST/DATABASE; or remove the setting to keep the store in a file")
	}
	for _, key := range []string{storePasswordSetting, "node.id"} {
		if c.IsSet(key) {
			return c.SettingError(key, "the setting is for a shared store, and store is not set")
		}
	}
	return nil
}

// The servers of a shared store learn of a change of the keys with their next poll. One that learns nothing for
// three of them signs nothing.
const sharedDelay = 3 * 5 * time.Second

// checkSharedKeys checks that every server and every cache knows a key before it signs.
func (c *Config) checkSharedKeys() error {
	if c.MaxAge <= (c.Propagation-c.Skew()-sharedDelay)/2 {
		return nil
	}
	return c.SettingError(c.firstGiven("keys.propagation", "jwks.max_age"),
		"with a shared store, three quarters of keys.propagation (%s) must be at least twice jwks.max_age (%s) and %s more",
		durationText(c.Propagation), durationText(c.MaxAge), durationText(sharedDelay))
}

// Skew returns by how much the clocks of the servers of a shared store may differ, as package keystore counts.
func (c *Config) Skew() time.Duration { return min(2*time.Minute, c.Propagation/4) }

// HasStorePassword reports whether a setting, a credential or a variable has the password of the store.
func (c *Config) HasStorePassword() bool {
	if c.storePassword != nil {
		return *c.storePassword != nil
	}
	return c.StorePasswordFile != "" || os.Getenv("KEYMILL_STORE_PASSWORD") != "" || storePasswordPlaces("").staysReadable()
}

// StorePassword finds the password of the role, and returns a function that reads it for each new connection. So a
// file with another password needs no restart. The function is nil if there is no password.
func (c *Config) StorePassword() (func() (string, error), error) {
	if c.storePassword != nil {
		return *c.storePassword, nil // a variable and a pipe can be read only once
	}
	password, err := c.findStorePassword()
	if err == nil {
		c.storePassword = &password
	}
	return password, err
}

func (c *Config) findStorePassword() (func() (string, error), error) {
	places := storePasswordPlaces(c.StorePasswordFile)
	if !c.IsShared() {
		if places.takeVariable() != "" {
			return nil, terminal.WithHint(errors.New("KEYMILL_STORE_PASSWORD is set, but store is missing"), "set store, or remove the variable")
		}
		return nil, nil
	}
	again := places.staysReadable()
	first, where, err := c.readStorePassword(places)
	if err != nil || where == "" {
		return nil, err
	}
	c.found(storePasswordSetting, where)
	return func() (string, error) {
		if !again {
			return string(first), nil
		}
		next, _, err := c.readStorePassword(places)
		return string(next), err
	}, nil
}

func (c *Config) readStorePassword(places secretPlaces) (password refusal.Secret, where string, err error) {
	raw, where, err := places.read(trustedOn(c.Data))
	if err != nil || where == "" {
		return "", where, err
	}
	password, err = oneLineSecret(places.what, where, raw)
	return password, where, err
}
