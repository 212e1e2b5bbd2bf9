package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/issuer"
)

// config is everything that serve can be told. The tags are its manual: the key in the
// file, the default, the default with --dev where it differs, and what the setting means.
// A flag goes before the environment, the environment before the file, the file before
// the default. Lists are written with commas in the environment.
type config struct {
	Listen         string         `key:"listen" default:"127.0.0.1:8420" help:"public address, host:port. A proxy in front of it speaks TLS"`
	Data           string         `key:"data" default:"keymill-data" dev:"keymill-dev" help:"directory of the store, the lock and the admin socket; made if absent"`
	Issuer         string         `key:"issuer" help:"the URL that tokens name and clients use, like https://id.example.com: no path, no slash at its end. Required; with --dev it follows listen"`
	Insecure       bool           `key:"insecure" default:"false" help:"allow an http issuer that is not loopback: tokens and secrets then cross the network in the clear"`
	MasterKeyFile  string         `key:"master_key_file" help:"file with the 32-byte master key (raw, hex or base64), readable by its owner only. Instead of it: the systemd credential keymill-master-key, or the variable KEYMILL_MASTER_KEY"`
	Algorithms     []string       `key:"keys.algorithms" default:"RS256,EdDSA" help:"one ring of keys is kept for each: RS256, EdDSA"`
	RotateEvery    time.Duration  `key:"keys.rotate_every" default:"30d" dev:"1h" help:"how long a key signs; at least 2 x keys.propagation"`
	Propagation    time.Duration  `key:"keys.propagation" default:"1h" dev:"10s" help:"how long a key is published before it signs; at least 2 x jwks.max_age"`
	MaxAge         time.Duration  `key:"jwks.max_age" default:"5m" dev:"5s" help:"how long verifiers may cache the published keys; whole seconds, at least 1s"`
	Grace          time.Duration  `key:"refresh.grace" default:"30s" help:"how long a spent refresh token may come again and gets the same successor, as after a lost answer; within it two holders look like one. 0s to 10m"`
	Idle           time.Duration  `key:"refresh.idle" default:"14d" help:"how long a session lives without a refresh; at the simplejwt endpoints 1d, as there, unless the client says otherwise"`
	Absolute       time.Duration  `key:"refresh.absolute" default:"90d" help:"how long a session lives at most; at least refresh.idle"`
	DjangoClient   string         `key:"simplejwt.client" dev:"dev-web" help:"the client through which people log in at /api/token/, as front ends of djangorestframework-simplejwt do; empty turns these endpoints off"`
	DjangoPrefix   string         `key:"simplejwt.prefix" default:"/api" help:"what stands before /token/ there: begins with a slash and does not end with one"`
	SessionClient  string         `key:"session.client" dev:"dev-web" help:"the client through which pages log people in at /session/login, with the refresh token in a cookie that scripts cannot read; empty turns these endpoints off"`
	WebhookURL     string         `key:"webhook.url" help:"where replays and revocations are posted to, signed, until they are taken (3 days at most); https, or http on loopback"`
	WebhookSecret  string         `key:"webhook.secret_file" help:"file with the secret that signs them (whsec_ and base64), readable by its owner only"`
	TrustedProxies []netip.Prefix `key:"http.trusted_proxies" help:"networks whose X-Forwarded-For is believed"`
	LogLevel       slog.Level     `key:"log.level" default:"info" help:"debug, info, warn or error"`
	LogFormat      string         `key:"log.format" default:"text" help:"text or json, on stderr"`

	dev    bool              // serve --dev
	origin map[string]string // key → where its value comes from: "keymill.yaml:3", "--listen", …
}

// loadConfig reads the defaults, the file (none if ""), the environment and flags
// (key → text), in this order. Each value is well formed then; check says whether they
// make a server together.
func loadConfig(file string, flags map[string]string, dev bool) (*config, error) {
	c := &config{dev: dev, origin: map[string]string{}}
	byKey := map[string]setting{}
	for _, s := range settings() {
		byKey[s.key] = s
		text := s.def
		if dev && s.dev != "" {
			text = s.dev
		}
		if text == "" {
			continue
		}
		if err := s.set(c, s.textValue(c, text)); err != nil {
			return nil, fmt.Errorf("default of %s: %w", s.key, err)
		}
	}
	if file != "" {
		entries, err := readConfigFile(file)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if err := c.assign(byKey[e.key], e.value, fmt.Sprintf("%s:%d", file, e.line)); err != nil {
				return nil, err
			}
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

func (c *config) assign(s setting, v value, where string) error {
	c.origin[s.key] = where
	if err := s.set(c, v); err != nil {
		return c.wrong(s.key, "%v", err)
	}
	return nil
}

// readEnvironment takes every KEYMILL_… variable. One that is not known is an error, as a
// setting that is silently ignored is worse than a server that does not start.
func (c *config) readEnvironment(environ []string) error {
	byName := map[string]setting{}
	var names []string
	for _, s := range settings() {
		byName[s.env()] = s
		names = append(names, s.env())
	}
	slices.Sort(environ) // the same complaint each time
	for _, e := range environ {
		name, text, _ := strings.Cut(e, "=")
		s, known := byName[name]
		switch {
		case known:
			if err := c.assign(s, s.textValue(c, text), name); err != nil {
				return err
			}
		case !strings.HasPrefix(name, "KEYMILL_"), elsewhere(name):
		default:
			err := fmt.Errorf("unknown variable %s in the environment", name)
			if near := nearest(name, names); near != "" {
				return hint(err, "did you mean %s?", near)
			}
			return hint(err, `"keymill serve --help" lists them`)
		}
	}
	return nil
}

// elsewhere tells the variables of this program that are no settings.
func elsewhere(name string) bool {
	switch name {
	case "KEYMILL_CONFIG", "KEYMILL_MASTER_KEY", "KEYMILL_CLIENT_SECRET":
		return true
	}
	// The tests' own tables of counts.
	return name == "KEYMILL_TIER" || strings.HasPrefix(name, "KEYMILL_COUNT_")
}

// wrong blames a setting, where its value was written.
func (c *config) wrong(key, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	where := c.origin[key]
	switch {
	case where == "":
		return fmt.Errorf("%s: %s", key, text)
	case strings.HasPrefix(where, "--"), strings.HasPrefix(where, "KEYMILL_"):
		return fmt.Errorf("%s: %s", where, text)
	}
	return fmt.Errorf("%s: %s: %s", where, key, text)
}

// check refuses what cannot work, before anything is opened or made.
func (c *config) check() error {
	for _, check := range []func() error{c.checkListen, c.checkIssuer, c.checkKeys, c.checkRefresh, c.checkDoors, c.checkWebhook, c.checkData} {
		if err := check(); err != nil {
			return err
		}
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return c.wrong("log.format", "%q is neither text nor json", c.LogFormat)
	}
	return nil
}

func (c *config) checkListen() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return c.wrong("listen", "%q is not an address like 127.0.0.1:8420", c.Listen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return c.wrong("listen", "%q is not a port", port)
	}
	if c.dev && !issuer.IsLoopback(host) {
		return c.wrong("listen", "--dev listens on loopback only, and %q is not", c.Listen)
	}
	return nil
}

func (c *config) checkIssuer() error {
	if c.Issuer == "" {
		if c.dev {
			return nil
		}
		return hint(c.wrong("issuer", "it is required"),
			"name it: --issuer https://id.example.com; or try everything with --dev")
	}
	// The rule is the issuer's own; asked here, it is asked before anything is opened.
	if err := issuer.CheckURL(c.Issuer, c.Insecure); err != nil {
		return hint(c.wrong("issuer", "%v", err),
			"a proxy in front speaks TLS, and its public URL is the issuer: --issuer https://id.example.com")
	}
	if u, err := url.Parse(c.Issuer); c.dev && (err != nil || !issuer.IsLoopback(u.Hostname())) {
		return c.wrong("issuer", "--dev serves a loopback issuer only, and %q is not", c.Issuer)
	}
	return nil
}

func (c *config) checkKeys() error {
	if len(c.Algorithms) == 0 {
		return c.wrong("keys.algorithms", "is empty; choose of RS256, EdDSA")
	}
	for i, alg := range c.Algorithms {
		if alg != "RS256" && alg != "EdDSA" {
			return c.wrong("keys.algorithms", "%q is neither RS256 nor EdDSA", alg)
		}
		if slices.Contains(c.Algorithms[:i], alg) {
			return c.wrong("keys.algorithms", "%s is there twice", alg)
		}
	}
	if c.MaxAge < time.Second || c.MaxAge%time.Second != 0 {
		return c.wrong("jwks.max_age", "%v is not a whole number of seconds, at least 1s", c.MaxAge)
	}
	// Halved, as twice a duration may not fit into one.
	if c.MaxAge > c.Propagation/2 {
		return c.wrong(c.blame("keys.propagation", "jwks.max_age"),
			"keys.propagation is %v and must be at least 2 x jwks.max_age (%v)", c.Propagation, c.MaxAge)
	}
	if c.Propagation > c.RotateEvery/2 {
		return c.wrong(c.blame("keys.rotate_every", "keys.propagation"),
			"keys.rotate_every is %v and must be at least 2 x keys.propagation (%v)", c.RotateEvery, c.Propagation)
	}
	return nil
}

// blame chooses, of two settings that do not fit, the first that somebody wrote.
func (c *config) blame(keys ...string) string {
	for _, key := range keys {
		if c.origin[key] != "" {
			return key
		}
	}
	return keys[0]
}

// maxSocketPath is what fits into sun_path, without its closing zero.
const maxSocketPath = 107

func (c *config) checkData() error {
	if c.Data == "" {
		return c.wrong("data", "is empty")
	}
	if path := c.path("admin.sock"); len(path) > maxSocketPath {
		return hint(c.wrong("data", "the path of the admin socket would have %d bytes, and the system allows %d: %s", len(path), maxSocketPath, path),
			"choose a shorter directory, or start the server in a directory nearby")
	}
	return nil
}

// path names a file of the data directory.
func (c *config) path(name string) string { return filepath.Join(c.Data, name) }
