package config

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer"
	"keymill/issuer/endpoint"
	"keymill/issuer/origin"
	"keymill/issuer/webhook"
	"keymill/jwks"
	"keymill/keystore"
)

// Check refuses settings that cannot work together. The packages that use the settings
// check them again; asked here, nothing has been opened or created yet.
func (c *Config) Check() error {
	for _, check := range []func() error{
		c.checkListen, c.checkMetrics, c.checkAdminListen, c.checkVerifyListen, c.checkIssuer, c.checkTLS, c.CheckStore, c.checkRefresh, c.checkLoginEndpoints, c.checkWebhook, c.checkConnections, c.checkLog, c.checkAuditLog, c.checkApply,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkListen() error {
	_, err := c.checkAddress("listen", c.Listen, "127.0.0.1:8420")
	return err
}

func (c *Config) checkApply() error {
	if c.Apply == "-" {
		return c.SettingError("apply", "%q is not a file or a directory: a server does not read standard input", c.Apply)
	}
	return nil
}

func (c *Config) checkMetrics() error {
	if c.MetricsListen == "" {
		return nil
	}
	port, err := c.checkAddress("metrics.listen", c.MetricsListen, "127.0.0.1:9420")
	if err != nil {
		return err
	}
	public, err := c.checkAddress("listen", c.Listen, "127.0.0.1:8420")
	if err != nil {
		return err
	}
	if public == port && port != 0 { // 0 is any free port
		return terminal.WithHint(c.SettingError("metrics.listen", "%q has the port of listen (%s)", c.MetricsListen, c.Listen),
			"metrics have a port of their own, so that a proxy cannot pass them on: metrics.listen: 127.0.0.1:9420")
	}
	return nil
}

func (c *Config) checkAdminListen() error {
	if c.AdminListen == "" {
		return nil
	}
	const example = "127.0.0.1:8422"
	port, err := c.checkAddress("admin.listen", c.AdminListen, example)
	if err != nil {
		return err
	}
	if err := c.checkOwnPort("admin.listen", c.AdminListen, port, map[string]string{"listen": c.Listen, "metrics.listen": c.MetricsListen}); err != nil {
		return terminal.WithHint(err, "the admin API has a port of its own, so that a proxy cannot pass it on: admin.listen: %s", example)
	}
	if host, _, _ := net.SplitHostPort(c.AdminListen); !c.UsesTLS() && !jwks.IsLoopback(host) {
		return terminal.WithHint(c.SettingError("admin.listen", "%q is not loopback, and tokens would cross the network unencrypted", c.AdminListen),
			"set tls.cert_file and tls.key_file, or listen on loopback: admin.listen: %s", example)
	}
	return nil
}

// checkOwnPort returns an error if another listener has the port. others maps a setting to its address.
func (c *Config) checkOwnPort(key, address string, port uint64, others map[string]string) error {
	for other, taken := range others {
		if _, text, err := net.SplitHostPort(taken); err == nil && port != 0 && text == strconv.FormatUint(port, 10) { // 0 is any free port
			return c.SettingError(key, "%q has the port of %s (%s)", address, other, taken)
		}
	}
	return nil
}

// checkAddress checks the address of a listener and returns its port.
func (c *Config) checkAddress(key, address, example string) (port uint64, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0, c.SettingError(key, "%q is not an address like %s", address, example)
	}
	if port, err = strconv.ParseUint(text, 10, 16); err != nil {
		return 0, c.SettingError(key, "%q is not a port", text)
	}
	if c.Dev && !jwks.IsLoopback(host) {
		return 0, c.SettingError(key, "--dev listens on loopback only, and %q is not loopback", address)
	}
	return port, nil
}

func (c *Config) checkIssuer() error {
	if c.Issuer == "" {
		if c.Dev {
			return nil
		}
		var file string
		if c.file == "" {
			file = "name the configuration: --config FILE; or "
		}
		return terminal.WithHint(c.SettingError("issuer", "the setting is required"),
			"%sset it: --issuer https://id.example.com; or try everything with --dev", file)
	}
	if err := issuer.CheckURL(c.Issuer, c.Insecure); err != nil {
		return terminal.WithHint(c.SettingError("issuer", "%v", err),
			"the issuer is the public URL, whether a proxy in front or this server speaks TLS: --issuer https://id.example.com")
	}
	if u, err := url.Parse(c.Issuer); c.Dev && (err != nil || !jwks.IsLoopback(u.Hostname())) {
		return c.SettingError("issuer", "--dev serves a loopback issuer only, and %q is not loopback", c.Issuer)
	}
	return nil
}

// CheckKeys checks the settings of the keys alone. Doctor needs no others.
func (c *Config) CheckKeys() error {
	if len(c.Algorithms) == 0 {
		return c.SettingError("keys.algorithms", "the list is empty; give at least one of %s", strings.Join(keystore.SupportedAlgorithms(), ", "))
	}
	for i, alg := range c.Algorithms {
		if !slices.Contains(keystore.SupportedAlgorithms(), alg) {
			return c.SettingError("keys.algorithms", "%q is not supported; choose from %s", alg, strings.Join(keystore.SupportedAlgorithms(), ", "))
		}
		if slices.Contains(c.Algorithms[:i], alg) {
			return c.SettingError("keys.algorithms", "%s is listed twice", alg)
		}
	}
	if err := keystore.CheckRSASigner(c.RSA); err != nil {
		return c.SettingError("keys.rsa", "%v", err)
	}
	if c.MaxAge < time.Second || c.MaxAge%time.Second != 0 {
		return c.SettingError("jwks.max_age", "%v is not a whole number of seconds, at least 1s", c.MaxAge)
	}
	// The larger one is halved, because twice a duration may overflow.
	if c.MaxAge > c.Propagation/2 {
		return c.SettingError(c.firstGiven("keys.propagation", "jwks.max_age"),
			"keys.propagation (%s) must be at least twice jwks.max_age (%s)", durationText(c.Propagation), durationText(c.MaxAge))
	}
	if c.Propagation > c.RotateEvery/2 {
		return c.SettingError(c.firstGiven("keys.rotate_every", "keys.propagation"),
			"keys.rotate_every (%s) must be at least twice keys.propagation (%s)", durationText(c.RotateEvery), durationText(c.Propagation))
	}
	return nil
}

func (c *Config) checkRefresh() error {
	switch {
	case c.Grace > issuer.MaxGrace:
		return c.SettingError("refresh.grace", "%s is not between 0s and %s", durationText(c.Grace), durationText(issuer.MaxGrace))
	case c.Idle < issuer.MinIdle:
		return c.SettingError("refresh.idle", "%s is less than %s", durationText(c.Idle), durationText(issuer.MinIdle))
	case c.Absolute > issuer.MaxAbsolute:
		return c.SettingError("refresh.absolute", "%s is more than %s", durationText(c.Absolute), durationText(issuer.MaxAbsolute))
	case c.Absolute < c.Idle:
		return c.SettingError(c.firstGiven("refresh.absolute", "refresh.idle"),
			"refresh.absolute (%s) must be at least refresh.idle (%s)", durationText(c.Absolute), durationText(c.Idle))
	}
	return nil
}

// firstGiven chooses, of settings that contradict each other, the first that was given.
func (c *Config) firstGiven(keys ...string) string {
	for _, key := range keys {
		if c.IsSet(key) {
			return key
		}
	}
	return keys[0]
}

func (c *Config) checkLoginEndpoints() error {
	if c.Dev && !slices.Contains(c.Algorithms, "RS256") {
		c.dropTrialClients()
	}
	if err := endpoint.CheckPrefix(c.SimpleJWTPrefix); err != nil {
		return terminal.WithHint(c.SettingError("simplejwt.prefix", "%q %v", c.SimpleJWTPrefix, err), "simplejwt.prefix: /api")
	}
	if err := endpoint.CheckUsernameField(c.SimpleJWTUsername); err != nil {
		return terminal.WithHint(c.SettingError("simplejwt.username_field", "%q %v", c.SimpleJWTUsername, err), "simplejwt.username_field: email")
	}
	if c.BrowserClient == "" {
		return nil
	}
	if _, err := endpoint.CookieName(c.BrowserClient, c.Issuer); err != nil {
		return terminal.WithHint(c.SettingError("session.client", "%s", strings.TrimPrefix(err.Error(), "session.client ")),
			"choose a client whose id has only letters, digits, '-', '_' and '.'")
	}
	if host, path := origin.OfIssuer(c.Issuer); path != "" && !c.SharedHost {
		return terminal.WithHint(c.SettingError("session.client", "the issuer %s has a path, so every page of %s could use the sessions of its visitors", c.Issuer, host),
			"give the issuer a host of its own; or set session.shared_host: true if you trust all software of this host with the sessions")
	}
	return nil
}

// dropTrialClients turns off the login endpoints that --dev turns on by default. Their
// client asks for an audience of RS256, and this server has no such key.
func (c *Config) dropTrialClients() {
	if !c.IsSet("simplejwt.client") {
		c.SimpleJWTClient = ""
	}
	if !c.IsSet("session.client") {
		c.BrowserClient = ""
	}
}

func (c *Config) checkWebhook() error {
	switch {
	case c.WebhookURL == "" && c.WebhookSecretFile != "":
		return c.SettingError("webhook.secret_file", "webhook.url is missing")
	case c.WebhookURL == "":
		return nil
	}
	if err := webhook.CheckURL(c.WebhookURL, jwks.IsLoopback); err != nil {
		return c.SettingError("webhook.url", "%v", err)
	}
	return nil
}

func (c *Config) checkConnections() error {
	if c.MaxConnections < 10 || c.MaxConnections > 1_000_000 {
		return c.SettingError("http.max_connections", "%d is not between 10 and 1000000", c.MaxConnections)
	}
	return nil
}

func (c *Config) checkLog() error {
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return c.SettingError("log.format", "%q is neither text nor json", c.LogFormat)
	}
	return nil
}
