package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"keymill/cmd/keymill/internal/terminal"
)

// secretPlaces are the three places where one secret can be. The first one that is there counts. No
// secret is an argument, because every user of the machine sees arguments.
type secretPlaces struct {
	what       string // in errors: "master key"
	file       string // its path, from a setting or a flag; "" if there is none
	credential string // its name in $CREDENTIALS_DIRECTORY, see systemd.exec(5)
	variable   string
}

func masterKeyPlaces(file string) secretPlaces {
	return secretPlaces{"master key", file, MasterKeyCredential, "KEYMILL_MASTER_KEY"}
}

func webhookSecretPlaces(file string) secretPlaces {
	return secretPlaces{"webhook secret", file, "keymill-webhook-secret", "KEYMILL_WEBHOOK_SECRET"}
}

func clientSecretPlaces(file string) secretPlaces {
	return secretPlaces{"client secret", file, "keymill-client-secret", "KEYMILL_CLIENT_SECRET"}
}

func storePasswordPlaces(file string) secretPlaces {
	return secretPlaces{"password of the store", file, StorePasswordCredential, "KEYMILL_STORE_PASSWORD"}
}

// secretVariables lists the variables that hold secrets.
func secretVariables() []string {
	return []string{masterKeyPlaces("").variable, webhookSecretPlaces("").variable, clientSecretPlaces("").variable, storePasswordPlaces("").variable}
}

// read returns the secret as it is written, and where it was found: "" if it is in no place.
func (p secretPlaces) read(t trusted) (raw []byte, where string, err error) {
	variable := p.takeVariable()
	if p.file != "" {
		raw, err = t.readFile(p.what, p.file)
		return raw, p.file, err
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		path := filepath.Join(dir, p.credential)
		raw, err = readCredential(p.what, path)
		if !errors.Is(err, fs.ErrNotExist) {
			return raw, path, err
		}
	}
	if variable == "" {
		return nil, "", nil
	}
	return []byte(variable), p.variable, nil
}

// staysReadable reports whether read can be called again: it then reads a file, or says what is wrong with it.
func (p secretPlaces) staysReadable() bool {
	if p.file != "" {
		info, err := os.Stat(p.file)
		return err != nil || info.Mode().Type()&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	_, err := os.Stat(filepath.Join(dir, p.credential))
	return dir != "" && err == nil
}

// takeVariable removes the variable, so that child processes and crash reports do not get it. The
// kernel still shows the first environment to the same user in /proc, until serve makes the process
// undumpable.
func (p secretPlaces) takeVariable() string {
	value := os.Getenv(p.variable)
	os.Unsetenv(p.variable)
	return value
}

// maxSecretBytes bounds how much is read where one secret should be.
const maxSecretBytes = 4096

// readSecret reads a secret that is not longer than maxSecretBytes.
func readSecret(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxSecretBytes+1))
	if err == nil && len(raw) > maxSecretBytes {
		return nil, fmt.Errorf("too long for a secret (over %d bytes)", maxSecretBytes)
	}
	return raw, err
}

// secretText returns raw as UTF-8 without a byte order mark and without the newline at its end, which
// editors and shells add. Only one newline is removed.
func secretText(raw []byte) ([]byte, error) {
	text, err := terminal.DecodeText(raw)
	return trimNewline(text), err
}

// trimNewline removes one "\n", "\r\n" or "\r". A shell that reads a file of Windows leaves the last.
func trimNewline(text []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
}
