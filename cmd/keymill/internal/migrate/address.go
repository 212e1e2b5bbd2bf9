package migrate

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// storeName is the name of the store in a data directory.
const storeName = "keymill.db"

// An address names a store: a data directory, or a database.
type address struct {
	dir string // an absolute path; "" for a database
	url string // "" for a data directory
}

// parseAddress reads the value of a flag.
func parseAddress(flag, text string) (address, error) {
	scheme, _, found := strings.Cut(text, "://")
	switch {
	case text == "":
		return address{}, terminal.Usage("%s is missing or empty; name a data directory, or postgres://ROLE@HOST/DATABASE", flag)
	case found && (scheme == "postgres" || scheme == "postgresql"):
		return address{url: text}, nil
	case found:
		return address{}, terminal.Usage("%s %s: stores are in data directories and in databases postgres://ROLE@HOST/DATABASE", flag, terminal.WithoutUser(text))
	}
	path, err := filepath.Abs(text)
	if err != nil {
		return address{}, err
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() || err != nil && filepath.Base(path) == storeName {
		if filepath.Base(path) != storeName {
			return address{}, terminal.WithHint(errors.New(path+" is not a data directory"), "name the directory that holds keymill.db")
		}
		path = filepath.Dir(path)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // so that both addresses of one store are equal
	}
	return address{dir: path}, nil
}

// String returns the address as the records of a migration have it. It has no password: package postgres refuses a URL
// with one before anything is written.
func (a address) String() string { return a.dir + a.url }

// store says what an operator removes to remove the store.
func (a address) store() string {
	if a.url != "" {
		return "its schema keymill"
	}
	return "its file " + storeName
}

// passwordOf returns where the passwords of databases come from: a file, or the places of the settings.
func passwordOf(c *config.Config, file string) func(url string) (func() (string, error), error) {
	return func(url string) (func() (string, error), error) {
		of := *c // with the password that was found for the other database
		of.Store, of.StorePasswordFile = url, cmp.Or(file, c.StorePasswordFile)
		password, err := of.StorePassword()
		*c = of
		return password, err
	}
}
