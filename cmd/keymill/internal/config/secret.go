package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/refusal"
	"keymill/issuer/webhook"
	"keymill/keystore"
)

const (
	masterKeyVariable   = "KEYMILL_MASTER_KEY"
	masterKeyCredential = "keymill-master-key" // in $CREDENTIALS_DIRECTORY, see systemd.exec(5)

	// MaxSecretFileBytes bounds how much is read of a file that should hold one secret.
	MaxSecretFileBytes = 4096

	rawMasterKeyBytes = 32

	makeWebhookSecret = "make one: (umask 077; echo whsec_$(head -c 32 /dev/urandom | base64) > webhook.secret)"
)

// MasterKey reads the master key from the configured file, else from the systemd
// credential, else from the environment. It is never an argument, because every user of
// the machine sees arguments.
func (c *Config) MasterKey() (keystore.MasterKey, error) {
	// The variable is removed so that child processes and crash reports do not get it. The
	// kernel still shows the first environment to the same user in /proc, until serve makes
	// the process undumpable.
	variable := os.Getenv(masterKeyVariable)
	os.Unsetenv(masterKeyVariable)

	if c.MasterKeyFile != "" {
		return ReadMasterKeyFile(c.MasterKeyFile)
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

// ReadMasterKeyFile reads a master key from a file that only its owner may read.
func ReadMasterKeyFile(path string) (keystore.MasterKey, error) {
	text, err := readSecretFile("master key", path, 0o077)
	if err != nil {
		return keystore.MasterKey{}, err
	}
	return parseMasterKey(path, text)
}

// parseMasterKey never puts the text into its error.
func parseMasterKey(where string, text []byte) (keystore.MasterKey, error) {
	defer clear(text)
	// The random bytes of a raw key may begin like a byte order mark. A key in text is never that short.
	if len(text) != rawMasterKeyBytes {
		var err error
		if text, err = terminal.DecodeText(text); err != nil {
			return keystore.MasterKey{}, fmt.Errorf("%s: %w", where, err)
		}
		defer clear(text)
	}
	key, err := keystore.ParseMasterKey(text)
	if err != nil {
		return key, terminal.WithHint(fmt.Errorf("%s does not hold a master key: 32 bytes, raw, in hex or in base64", where),
			"make one: head -c 32 /dev/urandom | base64")
	}
	return key, nil
}

// WebhookSecret reads the secret that signs the webhook's requests. It is "" if no webhook
// is configured.
func (c *Config) WebhookSecret() (refusal.Secret, error) {
	if c.WebhookURL == "" {
		return "", nil
	}
	text, err := readSecretFile("webhook secret", c.WebhookSecretFile, 0o077)
	if err != nil {
		return "", err
	}
	if text, err = terminal.DecodeText(text); err != nil {
		return "", fmt.Errorf("%s: %w", c.WebhookSecretFile, err)
	}
	secret := refusal.Secret(strings.TrimRight(string(text), "\r\n"))
	if err := webhook.CheckSecret(secret); err != nil {
		return "", terminal.WithHint(fmt.Errorf("%s: %w", c.WebhookSecretFile, err), makeWebhookSecret)
	}
	return secret, nil
}

// readSecretFile reads a small file, and refuses one whose mode has any of the forbidden
// bits.
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
		return nil, terminal.WithHint(fmt.Errorf("%s may be read by others (mode %04o)", path, mode), "chmod 600 %s", terminal.ShellWord(path))
	}
	return io.ReadAll(io.LimitReader(f, MaxSecretFileBytes))
}
