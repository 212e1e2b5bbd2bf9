package config

import (
	"net"
	"path/filepath"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

const (
	socketPrefix  = "unix:" // before the path of a socket
	maxSocketPath = 107     // bytes, see unix(7)
)

// VerifySocket returns the path of the socket that verify.listen names, "" if it names none.
func (c *Config) VerifySocket() string {
	path, found := strings.CutPrefix(c.VerifyListen, socketPrefix)
	if !found {
		return ""
	}
	return filepath.Clean(path)
}

// checkVerifyListen refuses an address that another machine could ask: the listener needs no credential, and what it tells
// about a token is for the proxy alone.
func (c *Config) checkVerifyListen() error {
	const key, example = "verify.listen", "127.0.0.1:8423"
	address := c.VerifyListen
	switch {
	case address == "":
		return nil
	case strings.HasPrefix(address, socketPrefix):
		return c.checkVerifySocket()
	case strings.HasPrefix(address, "/"):
		return terminal.WithHint(c.SettingError(key, "%q is not an address like %s", address, example), "for a Unix socket write %s: %s%s", key, socketPrefix, address)
	}
	port, err := c.checkAddress(key, address, example)
	if err != nil {
		return err
	}
	if host, _, _ := net.SplitHostPort(address); !jwks.IsLoopback(host) {
		return terminal.WithHint(c.SettingError(key, "%q is not loopback, and only proxies on this machine may ask", address),
			"listen on loopback, as %s: %s, or on a Unix socket, as %s: %s/run/keymill-verify/sock", key, example, key, socketPrefix)
	}
	others := map[string]string{"listen": c.Listen, "metrics.listen": c.MetricsListen, "admin.listen": c.AdminListen}
	if err := c.checkOwnPort(key, address, port, others); err != nil {
		return terminal.WithHint(err, "what answers proxies has a port of its own, so that no proxy passes it on: %s: %s", key, example)
	}
	return nil
}

func (c *Config) checkVerifySocket() error {
	const key, example = "verify.listen", "unix:/run/keymill-verify/sock"
	path := c.VerifySocket()
	switch data, err := filepath.Abs(c.Data); {
	case !filepath.IsAbs(path) || path == "/":
		return c.SettingError(key, "%q is not an absolute path of a socket, such as %s", c.VerifyListen, example)
	case len(path) > maxSocketPath:
		return c.SettingError(key, "the path of the socket has %d bytes, and a socket has at most %d: %q", len(path), maxSocketPath, path)
	case err == nil && filepath.Dir(path) == data:
		return terminal.WithHint(c.SettingError(key, "%q is in the data directory, which no proxy can read", path), "choose another directory: %s: %s", key, example)
	}
	return nil
}
