// Package config reads what an operator sets: a YAML file, the environment and flags.
//
//	default ◀── keymill.yaml ◀── KEYMILL_… ◀── --flag      the one on the right wins
//
// A setting is one field of Config. Its key, its environment variable, its default and its
// manual come from the field's tags, so that help, documents and tests cannot forget one.
//
// Everything is strict. An unknown key, an unknown variable or a bad value is an error that
// names the file and line, the variable or the flag, because a server that ignores a
// mistyped setting is worse than one that does not start. The one exception are variables that
// Kubernetes sets for a Service named keymill, because no operator wrote them.
//
// The package also reads the secrets: the master key, the password of the store, the webhook's secret and a
// client's secret.
// Each is in a file, in a credential of systemd or in a variable. A file with a secret belongs to
// this process's user or to root, and only a group of this process may read it too.
package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
)

// A Config holds the settings of one server. The tags are the manual: the key in the file,
// the default, the default with --dev where it differs, and what the setting means.
type Config struct {
	Listen            string         `key:"listen" default:"127.0.0.1:8420" help:"public address, host:port. It speaks plain http for a proxy in front of it, or TLS if tls.cert_file and tls.key_file are set"`
	TLSCertFile       string         `key:"tls.cert_file" help:"file with the server's certificate and then its issuers, in PEM. With tls.key_file, the public address speaks TLS. A changed file is read again while the server runs"`
	TLSKeyFile        string         `key:"tls.key_file" help:"file with the private key of that certificate, in PEM without a passphrase, not readable by others"`
	Data              string         `key:"data" default:"keymill-data" dev:"keymill-dev" help:"directory of the store, the lock and the admin socket. keymill init creates it; its parent must exist; another user's directory must not be world-writable"`
	DatabaseID        string         `key:"database_id" help:"the id of the store, 32 hex digits, as keymill init prints it. The server then refuses every other store, and no store is created"`
	Issuer            string         `key:"issuer" help:"the URL that tokens name and clients use, like https://id.example.com, or https://example.com/auth behind a proxy that serves other software too: no slash at its end. Required; with --dev it follows listen"`
	Insecure          bool           `key:"insecure" default:"false" help:"allow an http issuer and http pages that are not loopback: tokens and secrets then cross the network unencrypted"`
	MasterKeyFile     string         `key:"master_key_file" help:"file with the 32-byte master key (raw, hex or base64), not readable by others. Instead of it: the systemd credential keymill-master-key, or the variable KEYMILL_MASTER_KEY"`
	Store             string         `key:"store" help:"URL of a PostgreSQL database that holds the store, so that several servers can share it: postgres://ROLE@HOST/DATABASE, without a password. Empty keeps the store in the file keymill.db in the data directory"`
	StorePasswordFile string         `key:"store.password_file" help:"file with the password of the role, not readable by others; it is read for each new connection. Instead of it: the systemd credential keymill-store-password, or the variable KEYMILL_STORE_PASSWORD"`
	NodeID            string         `key:"node.id" help:"name of this server among those that share the store, in metrics and warnings: a to z, digits, '.', '_' and '-'. No two servers have the same. By default the name of the host and a random part for each start"`
	MarkFile          string         `key:"store.mark_file" help:"file that remembers how long the store has been served, so that an older copy of the store is refused; by default keymill.mark in the data directory. On another volume it also notices that the whole volume was put back"`
	Algorithms        []string       `key:"keys.algorithms" default:"RS256,EdDSA" help:"the server keeps one ring of keys for each: RS256, EdDSA, ES256"`
	RSA               string         `key:"keys.rsa" default:"go" help:"what signs RS256: go, libcrypto (OpenSSL 3 of this machine; only in the build for glibc), or auto, which is libcrypto in that build and go in others"`
	RotateEvery       time.Duration  `key:"keys.rotate_every" default:"30d" dev:"1h" help:"how long a key signs; at least 2 x keys.propagation"`
	Propagation       time.Duration  `key:"keys.propagation" default:"1h" dev:"10s" help:"how long a key is published before it signs; at least 2 x jwks.max_age"`
	MaxAge            time.Duration  `key:"jwks.max_age" default:"5m" dev:"5s" help:"how long verifiers may cache the published keys; whole seconds, at least 1s"`
	Grace             time.Duration  `key:"refresh.grace" default:"30s" help:"how long a replaced refresh token is still accepted and gets the same new token, because the first answer may be lost; 0s to 10m. Within this time a second holder of the token is not detected"`
	Idle              time.Duration  `key:"refresh.idle" default:"14d" help:"how long a session lives without a refresh. At the simplejwt login endpoint it is at most 1d, as in djangorestframework-simplejwt, unless the client has its own time"`
	Absolute          time.Duration  `key:"refresh.absolute" default:"90d" help:"how long a session lives at most; at least refresh.idle"`
	SimpleJWTClient   string         `key:"simplejwt.client" dev:"dev-web" help:"the client of the simplejwt login endpoint at /api/token/, which answers as djangorestframework-simplejwt does; empty turns the endpoint off"`
	SimpleJWTPrefix   string         `key:"simplejwt.prefix" default:"/api" help:"the path in front of /token/ there: begins with a slash and does not end with one"`
	SimpleJWTUsername string         `key:"simplejwt.username_field" default:"username" help:"the field with the user name there, in requests and errors: USERNAME_FIELD of a Django project's own user model, such as email"`
	BrowserClient     string         `key:"session.client" dev:"dev-web" help:"the client of the browser login endpoint at /session/login, which keeps the refresh token in a cookie that scripts cannot read; empty turns the endpoint off"`
	SharedHost        bool           `key:"session.shared_host" default:"false" dev:"true" help:"allow session.client with an issuer that has a path: every page of the host, of other software too, can then use the sessions of its visitors"`
	WebhookURL        string         `key:"webhook.url" help:"URL that gets a signed event for each replay and revocation; https, or http on loopback. Delivery is retried for at most 3 days"`
	WebhookSecretFile string         `key:"webhook.secret_file" help:"file with the secret that signs the events (whsec_ and base64), not readable by others. Instead of it: the systemd credential keymill-webhook-secret, or the variable KEYMILL_WEBHOOK_SECRET"`
	TrustedProxies    []netip.Prefix `key:"http.trusted_proxies" help:"networks of proxies whose X-Forwarded-For is believed"`
	MetricsListen     string         `key:"metrics.listen" help:"address for Prometheus, host:port: serves /metrics, /healthz and /readyz over http and nothing else. Anyone who reaches it can read numbers about the server; empty turns it off"`
	AdminListen       string         `key:"admin.listen" help:"address of the admin API for clients with tokens for the audience keymill-admin, host:port. It speaks TLS with tls.cert_file and tls.key_file; without them it must be loopback. Empty turns it off; the admin socket is always there"`
	VerifyListen      string         `key:"verify.listen" help:"where proxies on this machine ask whether a request may pass (GET /verify, forward auth): a loopback address, host:port, or unix: and the absolute path of a socket, which gets mode 0660 and whose directory must exist. Empty turns it off"`
	Apply             string         `key:"apply" help:"file or directory with audiences, clients, verifiers and claims, which are applied at the start and after SIGHUP, as keymill apply does; nothing is removed. Empty applies none"`
	MaxConnections    int            `key:"http.max_connections" default:"10000" help:"how many connections the public address has at a time; 10 to 1000000. If there are more, those that are idle longest are closed"`
	LogLevel          slog.Level     `key:"log.level" default:"info" help:"debug, info, warn or error"`
	LogFormat         string         `key:"log.format" default:"text" help:"text or json, on stderr"`
	AuditLog          string         `key:"audit.log" help:"where each audit record is written as a line of JSON, besides the store: stderr, or a file, which is created with mode 0600 and whose directory must exist; empty writes none"`

	Dev      bool // serve --dev: a trial server on loopback
	TrialTLS bool // serve --dev --tls

	file         string            // that Load read, or ""
	source       map[string]string // key → where its value comes from: "keymill.yaml:3", "--listen", …
	secretsIn    map[string]string // key of the setting that can name its file → where a secret was found
	written      map[string]string // key → its value in the file, as a variable has it
	serviceLinks []string          // variables that readEnvironment ignored, sorted

	storePassword *func() (string, error) // what StorePassword returned; nil before its first call
}

// Load reads the defaults, the file (none if it is ""), the environment and flags (key →
// text), in this order. Every value is well formed afterwards. Check decides whether they
// work together.
func Load(file string, flags map[string]string, dev bool) (*Config, error) {
	c := &Config{Dev: dev, file: file, source: map[string]string{}, written: map[string]string{}}
	if err := c.setDefaults(); err != nil {
		return nil, err
	}
	byKey := map[string]Setting{}
	for _, s := range Settings() {
		byKey[s.Key] = s
	}
	if file != "" {
		entries, err := readFile(file)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if err := c.assign(byKey[e.key], e.value, fmt.Sprintf("%s:%d", file, e.line)); err != nil {
				return nil, err
			}
			c.written[e.key] = byKey[e.key].text(c)
		}
	}
	if err := c.readEnvironment(os.Environ()); err != nil {
		return nil, err
	}
	for key, text := range flags {
		s := byKey[key]
		if err := c.assign(s, s.textValue(c, text), "--"+key); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Config) setDefaults() error {
	for _, s := range Settings() {
		text := s.Default
		if c.Dev && s.DevDefault != "" {
			text = s.DevDefault
		}
		if text == "" {
			continue
		}
		if err := s.set(c, s.textValue(c, text)); err != nil {
			return fmt.Errorf("default of %s: %w", s.Key, err)
		}
	}
	return nil
}

func (c *Config) assign(s Setting, v value, where string) error {
	c.source[s.Key] = where
	if err := s.set(c, v); err != nil {
		return c.SettingError(s.Key, "%v", err)
	}
	return nil
}

// otherVariables lists the variables of this program that are not settings.
func otherVariables() []string {
	return append(secretVariables(), "KEYMILL_CONFIG", "KEYMILL_SERVER", "KEYMILL_CLIENT_ID", "KEYMILL_CLIENT_SECRET_FILE", "KEYMILL_ADMIN_TOKEN_FILE")
}

func (c *Config) readEnvironment(environ []string) error {
	byName := map[string]Setting{}
	var names []string
	for _, s := range Settings() {
		byName[s.Variable()] = s
		names = append(names, s.Variable())
	}
	slices.Sort(environ) // so that the same mistakes give the same error each time
	for _, e := range environ {
		name, text, _ := strings.Cut(e, "=")
		s, known := byName[name]
		switch {
		case known:
			if err := c.assign(s, s.textValue(c, text), name); err != nil {
				return err
			}
		case strings.HasPrefix(name, byteOrderMark+"KEYMILL_"):
			return fmt.Errorf("the name of the variable %s begins with a byte order mark; save the file that sets it as UTF-8 without one",
				strings.TrimPrefix(name, byteOrderMark))
		case !strings.HasPrefix(name, "KEYMILL_"), slices.Contains(otherVariables(), name):
		case isServiceLink(name, text):
			c.serviceLinks = append(c.serviceLinks, name)
		default:
			return unknownVariable(name, names)
		}
	}
	return nil
}

const byteOrderMark = "\ufeff"

func unknownVariable(name string, names []string) error {
	err := fmt.Errorf("unknown variable %s in the environment", name)
	near := terminal.Nearest(name, names)
	if name == "KEYMILL_PORT" {
		near = "KEYMILL_LISTEN" // what it means is far from how it is written
	}
	if near != "" {
		return terminal.WithHint(err, "did you mean %s?", near)
	}
	return terminal.WithHint(err, `run "keymill serve --help" to list the variables`)
}

// SettingError returns an error about the value of a setting. It names the place where the value
// was written.
func (c *Config) SettingError(key, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	where := c.source[key]
	switch {
	case where == "":
		return fmt.Errorf("%s: %s", key, text)
	case strings.HasPrefix(where, "--"), strings.HasPrefix(where, "KEYMILL_"):
		return fmt.Errorf("%s: %s", where, text)
	}
	return fmt.Errorf("%s: %s: %s", where, key, text)
}

// IsSet reports whether the setting was given, so that its value is not the default.
func (c *Config) IsSet(key string) bool { return c.source[key] != "" }

// InFile reports whether the value of the setting is that of the file.
func (c *Config) InFile(key string) bool {
	return c.file != "" && strings.HasPrefix(c.source[key], c.file+":")
}

// Written returns the value that the file has for a setting, also if a variable or a flag replaces it.
func (c *Config) Written(key string) (text string, found bool) {
	text, found = c.written[key]
	return text, found
}

// File returns the path of the file that Load read, or "".
func (c *Config) File() string { return c.file }

// ServiceLinks returns the names of the variables that Load ignored because Kubernetes sets
// them for its Services. Package serve logs them.
func (c *Config) ServiceLinks() []string { return c.serviceLinks }

// MarkPath returns the path of the mark of the store.
func (c *Config) MarkPath() string { return cmp.Or(c.MarkFile, c.Path("keymill.mark")) }

// RevokedPath returns the path of the file that lists revoked keys. It is beside the mark.
func (c *Config) RevokedPath() string {
	return filepath.Join(filepath.Dir(c.MarkPath()), "keymill.revoked")
}

// Path returns the path of a file in the data directory.
func (c *Config) Path(name string) string { return filepath.Join(c.Data, name) }
