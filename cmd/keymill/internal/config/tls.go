package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// maxTLSBytes is far more than a private key and a chain of certificates have.
const maxTLSBytes = 256 << 10

// UsesTLS reports whether the public listener speaks TLS.
func (c *Config) UsesTLS() bool { return c.TLSCertFile != "" && c.TLSKeyFile != "" }

func (c *Config) checkTLS() error {
	switch {
	case c.TrialTLS && !c.Dev:
		return terminal.WithHint(terminal.Usage("--tls is for trial servers and needs --dev"), "set tls.cert_file and tls.key_file to serve TLS with a certificate of your own")
	case c.TrialTLS && c.Issuer != "" && !strings.HasPrefix(c.Issuer, "https://"):
		return c.SettingError("issuer", "the server speaks TLS, and %q is not an https URL", c.Issuer)
	case c.TLSCertFile == "" && c.TLSKeyFile == "":
		return nil
	case c.TLSCertFile == "":
		return terminal.WithHint(c.SettingError("tls.key_file", "tls.cert_file is missing"), "set both, or neither to serve plain http behind a proxy")
	case c.TLSKeyFile == "":
		return terminal.WithHint(c.SettingError("tls.cert_file", "tls.key_file is missing"), "set both, or neither to serve plain http behind a proxy")
	case c.Dev:
		return terminal.WithHint(c.SettingError("tls.cert_file", "a trial server speaks plain http on loopback"), "remove tls.cert_file and tls.key_file, or start without --dev; for TLS with a certificate of a trial CA: --dev --tls")
	case !strings.HasPrefix(c.Issuer, "https://"):
		return terminal.WithHint(c.SettingError("issuer", "the server speaks TLS, and %q is not an https URL", c.Issuer),
			"set issuer to the https URL that clients use, or remove tls.cert_file and tls.key_file")
	}
	return nil
}

// ReadTLSCert reads the file with the certificates. They are public, so any user may own and read it, unless it holds
// a private key too.
func (c *Config) ReadTLSCert() ([]byte, error) {
	raw, err := readTLSFile(c.TLSCertFile, namedfile.ToShare, func(path string, info fs.FileInfo, raw []byte) error {
		if !bytes.Contains(raw, []byte("PRIVATE KEY-----")) { // of any kind, also a damaged one
			return nil
		}
		err := c.secretRule(path)(path, info)
		if err == nil {
			return nil
		}
		return terminal.WithHint(fmt.Errorf("the file holds a private key, and %w", err),
			"leave only certificates in it, or %s; other users may have read the key, so replace it", terminal.HintOf(err))
	})
	return raw, c.tlsError("tls.cert_file", err)
}

// ReadTLSKey reads the file with the private key, under the rules for secrets.
func (c *Config) ReadTLSKey() ([]byte, error) {
	raw, err := readTLSFile(c.TLSKeyFile, namedfile.ToRead, func(path string, info fs.FileInfo, _ []byte) error {
		return c.secretRule(path)(path, info)
	})
	if err != nil {
		clear(raw)
		return nil, c.tlsError("tls.key_file", err)
	}
	return raw, nil
}

// secretRule returns the check of who may read a file with a private key.
func (c *Config) secretRule(path string) func(string, fs.FileInfo) error {
	if isCredential(path) {
		return checkOthers // as readCredential
	}
	return trustedOn(c.Data).check
}

// isCredential reports whether the file is a credential that systemd gave to this process.
func isCredential(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return dir != "" && filepath.Dir(filepath.Clean(path)) == filepath.Clean(dir)
}

// tlsError names the setting, and keeps the hint.
func (c *Config) tlsError(key string, err error) error {
	if err == nil {
		return nil
	}
	named := c.SettingError(key, "%s", terminal.Plain(err))
	if hint := terminal.HintOf(err); hint != "" {
		return terminal.WithHint(named, "%s", hint)
	}
	return named
}

// readTLSFile reads a regular file. The server reads it again and again, so it cannot be a FIFO or a device.
func readTLSFile(path string, use namedfile.Use, check func(string, fs.FileInfo, []byte) error) ([]byte, error) {
	f, err := namedfile.Open(path)
	if err != nil {
		return nil, namedfile.Denied(namedfile.Need{Path: path, Use: use}, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, terminal.WithHint(fmt.Errorf("%s is not a regular file", path), "the server reads it again while it runs; name a file")
	}
	raw, err := io.ReadAll(namedfile.Bounded(f, path, maxTLSBytes))
	if err == nil && len(raw) == 0 {
		err = errors.New(path + " is empty")
	}
	if err == nil {
		err = check(path, info, raw)
	}
	return raw, err
}
