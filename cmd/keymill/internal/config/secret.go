package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/refusal"
	"keymill/issuer/webhook"
	"keymill/keystore"
)

const (
	// MasterKeyCredential is the credential of systemd with the master key.
	MasterKeyCredential = "keymill-master-key"

	rawMasterKeyBytes = 32

	masterKeySetting     = "master_key_file"
	webhookSecretSetting = "webhook.secret_file"

	trialMasterKey = "dev-master-key" // the file of the master key of a trial store, in the data directory

	makeWebhookSecret = "make one: (umask 077; set -C; echo whsec_$(head -c 32 /dev/urandom | base64) > webhook.secret)"
)

// found remembers where the secret of a setting is, for Effective.
func (c *Config) found(key, where string) {
	if c.secretsIn == nil {
		c.secretsIn = map[string]string{}
	}
	c.secretsIn[key] = where
}

// MasterKey reads the master key from the first of its places that is there.
func (c *Config) MasterKey() (keystore.MasterKey, error) {
	text, where, err := masterKeyPlaces(c.MasterKeyFile).read(trustedOn(c.Data))
	if err != nil {
		return keystore.MasterKey{}, err
	}
	if where == "" {
		return keystore.MasterKey{}, terminal.WithHint(ErrNoMasterKey, "%s", c.masterKeyHint(ErrNoMasterKey))
	}
	c.found(masterKeySetting, where)
	key, err := ParseMasterKey(where, text)
	if errors.Is(err, ErrNotAMasterKey) || IsWeakKey(err) {
		err = terminal.WithHint(err, "%s", c.masterKeyHint(err))
	}
	return key, err
}

// IsWeakKey reports whether err refuses a master key because it was not drawn at random.
func IsWeakKey(err error) bool {
	var weak *keystore.WeakKeyError
	return errors.As(err, &weak)
}

// MakeMasterKey is the command that prints a master key.
const MakeMasterKey = "head -c 32 /dev/urandom | base64"

// Errors about master keys, for errors.Is.
var (
	// ErrNoMasterKey means that no setting names a master key.
	ErrNoMasterKey = errors.New("a master key is required, and master_key_file is not set")
	// ErrNotAMasterKey means that a file or a variable holds something else.
	ErrNotAMasterKey = errors.New("does not hold a master key: 32 bytes, raw, in hex or in base64")
)

// masterKeyHint says how to make a master key, but only if there is no store yet: a new key
// opens no store that exists. A store with a weak key can get a better one.
func (c *Config) masterKeyHint(fault error) string {
	const makeOne = "make one: " + MakeMasterKey
	_, err := os.Lstat(c.Path("keymill.db"))
	switch {
	case c.IsShared():
		return fmt.Sprintf("all servers of the store %s have the same master key: set KEYMILL_MASTER_KEY_FILE to a copy of it; for a new store make one: (umask 077; set -C; %s > master.key)", c.StorePlace(), MakeMasterKey)
	case err == nil && IsTrial(c.Data) && !IsWeakKey(fault):
		return fmt.Sprintf("the store in %s is a trial store: %s", c.Data, ServeCommand(c.Data))
	case !errors.Is(err, os.ErrNotExist) && IsWeakKey(fault):
		return fmt.Sprintf("change it: (umask 077; set -C; %s > new.key); keymill doctor --data %s --new-master-key-file new.key", MakeMasterKey, terminal.ShellWord(c.Data))
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Sprintf("the store in %s needs its own master key: set KEYMILL_MASTER_KEY_FILE to the file that holds it", c.Data)
	case errors.Is(fault, ErrNotAMasterKey), IsWeakKey(fault):
		return makeOne
	}
	// "set -C" overwrites no file: it may hold the key of another store.
	return "make one: (umask 077; set -C; " + MakeMasterKey + " > master.key); then set KEYMILL_MASTER_KEY_FILE=master.key"
}

// IsTrial reports whether --dev created the store in dir: it keeps the master key beside it.
func IsTrial(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, trialMasterKey))
	return err == nil
}

// ServeCommand returns the command that serves the store in dir. A store of --dev is served only with --dev.
func ServeCommand(dir string) string {
	command := "keymill serve "
	if IsTrial(dir) {
		command += "--dev "
	}
	return command + "--data " + terminal.ShellWord(dir)
}

// ReadMasterKeyFile reads a master key from a file, under the rules for master_key_file.
func (c *Config) ReadMasterKeyFile(path string) (keystore.MasterKey, error) {
	text, err := trustedOn(c.Data).readFile("master key", path)
	if err != nil {
		return keystore.MasterKey{}, err
	}
	return ParseMasterKey(path, text)
}

// ReadSecretFile reads another secret of this server under the same rules. what names it in errors.
func (c *Config) ReadSecretFile(what, path string) ([]byte, error) {
	return trustedOn(c.Data).readFile(what, path)
}

// ReadMasterKeyCredential reads a master key from a credential of systemd, or from the file that
// systemd makes one of.
func ReadMasterKeyCredential(path string) (keystore.MasterKey, error) {
	text, err := readCredential("master key", path)
	if err != nil {
		return keystore.MasterKey{}, err
	}
	return ParseMasterKey(path, text)
}

// ParseMasterKey parses a master key that was read from where. It never puts the text into its error.
// With an error for which IsWeakKey is true it returns the key as well.
func ParseMasterKey(where string, raw []byte) (keystore.MasterKey, error) {
	defer clear(raw)
	text := raw
	if len(text) != rawMasterKeyBytes {
		text = trimNewline(text)
	}
	// The random bytes of a raw key may begin like a byte order mark. A key in text is never that short.
	if len(text) != rawMasterKeyBytes {
		var err error
		if text, err = secretText(raw); err != nil {
			return keystore.MasterKey{}, fmt.Errorf("%s: %w", where, err)
		}
		defer clear(text)
	}
	key, err := keystore.ParseMasterKey(text)
	switch {
	case IsWeakKey(err):
		return key, fmt.Errorf("%s: %w", where, err) // with the key, see keystore.ParseMasterKey
	case err != nil:
		return key, fmt.Errorf("%s %w", where, ErrNotAMasterKey)
	}
	return key, nil
}

// WebhookSecret reads the secret that signs the webhook's requests from the first of its places
// that is there. It is "" if no webhook is configured.
func (c *Config) WebhookSecret() (refusal.Secret, error) {
	places := webhookSecretPlaces(c.WebhookSecretFile)
	if c.WebhookURL == "" {
		if places.takeVariable() != "" {
			return "", terminal.WithHint(fmt.Errorf("%s is set, but webhook.url is missing", places.variable), "set webhook.url, or remove the variable")
		}
		return "", nil
	}
	raw, where, err := places.read(trustedOn(c.Data))
	if err != nil {
		return "", err
	}
	if where == "" {
		return "", terminal.WithHint(c.SettingError("webhook.url", "webhook.secret_file is missing; it holds the secret that signs the requests"),
			makeWebhookSecret)
	}
	c.found(webhookSecretSetting, where)
	text, err := secretText(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", where, err)
	}
	secret := refusal.Secret(text)
	if err := webhook.CheckSecret(secret); err != nil {
		return "", terminal.WithHint(fmt.Errorf("%s: %w", where, err), makeWebhookSecret)
	}
	return secret, nil
}

// WebhookSecretAgain reads the secret once more, while the server runs. One that came from a variable or a
// pipe can be read only once, so before, which was read first, stays.
func (c *Config) WebhookSecretAgain(before refusal.Secret) (refusal.Secret, error) {
	places := webhookSecretPlaces(c.WebhookSecretFile)
	if c.WebhookURL == "" || !places.staysReadable() {
		c.found(webhookSecretSetting, cmp.Or(places.file, places.variable))
		return before, nil
	}
	return c.WebhookSecret()
}

// ClientSecret reads the secret of the client that asks for a token: from stdin unless it is nil, or
// else from the first of its places that is there. It is "" if there is none.
func ClientSecret(file string, stdin io.Reader) (refusal.Secret, error) {
	return clientSecretPlaces(file).text(stdin)
}

// AdminToken reads an access token for the admin API, from stdin unless it is nil, or else from the file.
func AdminToken(file string, stdin io.Reader) (refusal.Secret, error) {
	return secretPlaces{what: "access token", file: file}.text(stdin)
}

// SecretFile reads the secret in a file that another file names, which is one line of text. what is the name of the
// file in errors. The owner does not matter: the file may be in a directory of the user who runs sudo.
func SecretFile(what, path string) (refusal.Secret, error) {
	raw, err := readChecked(what, path, func(path string, info fs.FileInfo) error {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s: %s is not a regular file", what, path)
		}
		return checkOthers(path, info)
	})
	if err != nil {
		return "", err
	}
	text, err := secretText(raw)
	return refusal.Secret(text), err
}

// text reads a secret that is one line of text. It is "" if there is none.
func (p secretPlaces) text(stdin io.Reader) (refusal.Secret, error) {
	raw, where, err := []byte(nil), "standard input", error(nil)
	if stdin != nil {
		raw, err = readSecret(stdin)
	} else {
		raw, where, err = p.read(trustedOn(""))
	}
	if err != nil || where == "" {
		return "", err
	}
	return oneLineSecret(p.what, where, raw)
}

// oneLineSecret returns a secret that was read from where and is one line of text.
func oneLineSecret(what, where string, raw []byte) (refusal.Secret, error) {
	text, err := secretText(raw)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", where, err)
	case len(text) == 0:
		return "", fmt.Errorf("%s is empty: no %s", where, what)
	}
	return refusal.Secret(text), nil
}
