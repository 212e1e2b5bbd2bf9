package config

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
)

// MaxSocketPath is the longest path of a Unix socket: sun_path without its closing zero.
const MaxSocketPath = 107

func (c *Config) checkData() error {
	if c.Data == "" {
		return c.SettingError("data", "the value is empty; name a directory")
	}
	if path := c.Path("admin.sock"); len(path) > MaxSocketPath {
		return terminal.WithHint(c.SettingError("data", "the path of the admin socket would have %d bytes, and the system allows %d: %s", len(path), MaxSocketPath, path),
			"choose a shorter directory, or start the server in a directory nearby")
	}
	return nil
}

// CheckStore checks the settings that a store is created with and found by. Init needs no others.
func (c *Config) CheckStore() error {
	for _, check := range []func() error{c.CheckKeys, c.checkData, c.checkDatabaseID, c.CheckMark, c.CheckShared} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckInit checks what CheckStore does, and the other settings that init was given as flags.
func (c *Config) CheckInit() error {
	if err := c.CheckStore(); err != nil {
		return err
	}
	for key, check := range map[string]func() error{"listen": c.checkListen, "issuer": c.checkIssuer} {
		if c.source[key] == "--"+key {
			if err := check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkDatabaseID refuses an empty value that is written somewhere. It usually comes from a variable
// that is not set, and without the setting every store would be accepted.
func (c *Config) checkDatabaseID() error {
	if c.DatabaseID == "" && !c.IsSet("database_id") {
		return nil
	}
	id, err := hex.DecodeString(c.DatabaseID)
	if err != nil || len(id) != 16 || strings.ToLower(c.DatabaseID) != c.DatabaseID {
		return terminal.WithHint(c.SettingError("database_id", "%q is not a database id: 32 hex digits in lower case", c.DatabaseID),
			"keymill init prints the id, and the server logs it when it starts; for a first start remove the setting")
	}
	return nil
}

// CheckDatabase returns an error if database_id names another store than the one with that id.
func (c *Config) CheckDatabase(id string) error {
	if c.DatabaseID == "" || c.DatabaseID == id {
		return nil
	}
	return c.SettingError("database_id", "the store at %s has the id %s, not %s", c.StorePlace(), id, c.DatabaseID)
}

// CheckMayCreate returns an error if database_id names a store: that store exists here or somewhere else.
func (c *Config) CheckMayCreate() error {
	if c.DatabaseID == "" {
		return nil
	}
	if _, err := os.Lstat(c.Path("keymill.db")); err == nil && !c.IsShared() {
		return terminal.WithHint(fmt.Errorf("%s holds a store already, and it was not changed", c.Data),
			"start the server: keymill serve; it checks that the store has the id of database_id")
	}
	return terminal.WithHint(c.SettingError("database_id", "no store is created, because %s exists already", c.DatabaseID),
		"mount the volume with that store, or set data to its directory; to create another store, remove database_id")
}

// InitCommand returns the command that creates the store of this configuration.
func (c *Config) InitCommand() string {
	command := "keymill init"
	if c.file != "" {
		command += " --config " + terminal.ShellWord(c.file)
	}
	if c.source["data"] == "--data" {
		command += " --data " + terminal.ShellWord(c.Data)
	}
	return command
}

// NamesFile reports whether path is the configuration file, or the mark, a certificate or a file with a secret that a setting names.
func (c *Config) NamesFile(path string) bool {
	path, err := filepath.Abs(path)
	for _, named := range []string{c.file, c.MarkFile, c.MasterKeyFile, c.WebhookSecretFile, c.StorePasswordFile, c.TLSCertFile, c.TLSKeyFile} {
		if abs, absErr := filepath.Abs(named); named != "" && err == nil && absErr == nil && abs == path {
			return true
		}
	}
	return false
}
