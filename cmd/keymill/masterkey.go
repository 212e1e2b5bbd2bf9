package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/keystore"
)

const (
	masterKeyVariable   = "KEYMILL_MASTER_KEY"
	masterKeyCredential = "keymill-master-key" // in $CREDENTIALS_DIRECTORY, see systemd.exec(5)

	// maxSecretFileBytes bounds what is read of a file that should hold one secret.
	maxSecretFileBytes = 4096
)

// readMasterKey finds the master key: the configured file, else the systemd credential,
// else the environment. It is never an argument, as every user sees those.
func readMasterKey(c *config) (keystore.MasterKey, error) {
	// Children and crash reports have no use for it. The kernel still shows the first
	// environment to the same user in /proc, until serve makes the process undumpable.
	variable := os.Getenv(masterKeyVariable)
	os.Unsetenv(masterKeyVariable)

	if c.MasterKeyFile != "" {
		return masterKeyFile(c.MasterKeyFile)
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		path := filepath.Join(dir, masterKeyCredential)
		text, err := readSecretFile("master key", path, 0)
		if err == nil {
			return parseMasterKey(path, text)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return keystore.MasterKey{}, err
		}
	}
	if variable != "" {
		return parseMasterKey(masterKeyVariable, []byte(variable))
	}
	return keystore.MasterKey{}, terminal.WithHint(errors.New("a master key is required, and master_key_file is not set"),
		"make one: head -c 32 /dev/urandom | base64 > master.key; chmod 600 master.key; then set KEYMILL_MASTER_KEY_FILE=master.key")
}

// masterKeyFile reads a key from a file that only its owner may read.
func masterKeyFile(path string) (keystore.MasterKey, error) {
	text, err := readSecretFile("master key", path, 0o077)
	if err != nil {
		return keystore.MasterKey{}, err
	}
	return parseMasterKey(path, text)
}

// parseMasterKey never repeats what it was given.
func parseMasterKey(where string, text []byte) (keystore.MasterKey, error) {
	defer clear(text)
	key, err := keystore.ParseMasterKey(text)
	if err != nil {
		return key, terminal.WithHint(fmt.Errorf("%s holds no master key of 32 bytes, raw, in hex or in base64", where),
			"make one: head -c 32 /dev/urandom | base64")
	}
	return key, nil
}

// readSecretFile reads a small file, and refuses one whose mode has any of the bits.
func readSecretFile(what, path string, forbidden os.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, terminal.WithHint(fmt.Errorf("%s may be read by others (mode %04o)", path, mode), "chmod 600 %s", path)
	}
	return io.ReadAll(io.LimitReader(f, maxSecretFileBytes))
}
