package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestABadSettingIsReportedWithItsLine also checks that the error is one line, and that it
// says what the setting accepts.
func TestABadSettingIsReportedWithItsLine(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	const ok = "issuer: https://id.example.com\n"
	for _, tt := range []struct{ name, file, want string }{
		{"unknown", ok + "listne: 127.0.0.1:1\n", `:2: unknown setting "listne"; did you mean "listen"?`},
		{"unknown in a group", ok + "keys:\n  algorithms: [EdDSA]\n  rotate-every: 1h\n", `:4: unknown setting "keys.rotate-every"; did you mean "keys.rotate_every"?`},
		{"group forgotten", ok + "max_age: 5m\n", `:2: unknown setting "max_age"; did you mean "jwks.max_age"?`},
		{"nothing near", ok + "colour: red\n", `:2: unknown setting "colour"; run "keymill serve --help" to list the settings`},
		{"TLS key forgotten", ok + "tls:\n  cert_file: x\n", `:3: tls.cert_file: tls.key_file is missing`},
		{"TLS certificate forgotten", ok + "tls:\n  key_file: x\n", `:3: tls.key_file: tls.cert_file is missing`},
		{"TLS with an http issuer", "issuer: http://id.example.com\ninsecure: true\ntls: {key_file: x, cert_file: y}\n", `:1: issuer: the server speaks TLS, and "http://id.example.com" is not an https URL`},
		{"no number", ok + "http: {max_connections: many}\n", `:2: http.max_connections: "many" is not a number`},
		{"negative number", ok + "http: {max_connections: -1}\n", `:2: http.max_connections: "-1" is not a number`},
		{"no connection", ok + "http: {max_connections: 0}\n", `:2: http.max_connections: 0 is not between 10 and 1000000`},
		{"not there yet", ok + "dpop:\n  nonce: x\n", `:2: unknown setting "dpop"`},
		{"grace over ten minutes", ok + "refresh: {grace: 601s}\n", `:2: refresh.grace: 10m1s is not between 0s and 10m`},
		{"no idle time", ok + "refresh: {idle: 0s}\n", `:2: refresh.idle: 0s is less than 1s`},
		{"idle over absolute", ok + "refresh:\n  absolute: 7d\n  idle: 8d\n", `:3: refresh.absolute: refresh.absolute (7d) must be at least refresh.idle (8d)`},
		{"idle over the default absolute", ok + "refresh: {idle: 91d}\n", `:2: refresh.idle: refresh.absolute (90d) must be at least refresh.idle (91d)`},
		{"absolute over ten years", ok + "refresh: {absolute: 3651d}\n", `:2: refresh.absolute: 3651d is more than 3650d`},
		{"prefix without a slash", ok + "simplejwt: {prefix: api}\n", `:2: simplejwt.prefix: "api" does not begin with a slash`},
		{"prefix with one too many", ok + "simplejwt: {prefix: /api/}\n", `:2: simplejwt.prefix: "/api/" ends with a slash`},
		{"prefix of one slash", ok + "simplejwt: {prefix: /}\n", `:2: simplejwt.prefix: "/" ends with a slash`},
		{"empty prefix", ok + "simplejwt: {prefix: \"\"}\n", `:2: simplejwt.prefix: "" does not begin with a slash`},
		{"prefix with a hole", ok + "simplejwt: {prefix: /a//b}\n", `:2: simplejwt.prefix: "/a//b" must consist of parts`},
		{"prefix that climbs", ok + "simplejwt: {prefix: /a/..}\n", `:2: simplejwt.prefix: "/a/.." must consist of parts`},
		{"prefix that hides", ok + "simplejwt: {prefix: /.well-known}\n", `:2: simplejwt.prefix: "/.well-known" must consist of parts`},
		{"prefix with a parameter", ok + "simplejwt: {prefix: \"/:tenant\"}\n", `:2: simplejwt.prefix: "/:tenant" must consist of parts`},
		{"prefix with a wildcard", ok + "simplejwt: {prefix: \"/*all\"}\n", `:2: simplejwt.prefix: "/*all" must consist of parts`},
		{"prefix in the way of /token", ok + "simplejwt: {prefix: /token}\n", `:2: simplejwt.prefix: "/token" conflicts with the server's own path /token`},
		{"empty user name field", ok + "simplejwt: {username_field: \"\"}\n", `:2: simplejwt.username_field: "" does not begin with a letter or '_'`},
		{"user name field with a digit first", ok + "simplejwt: {username_field: 1st}\n", `:2: simplejwt.username_field: "1st" does not begin with a letter or '_'`},
		{"user name field with a hyphen", ok + "simplejwt: {username_field: e-mail}\n", `:2: simplejwt.username_field: "e-mail" has other characters than letters, digits and '_'`},
		{"user name field with a quote", ok + "simplejwt: {username_field: 'a\"b'}\n", `:2: simplejwt.username_field: "a\"b" has other characters than letters, digits and '_'`},
		{"user name field of the password", ok + "simplejwt: {username_field: password}\n", `:2: simplejwt.username_field: "password" is the field with the password`},
		{"prefix in the way of /session", ok + "simplejwt: {prefix: /session/v1}\n", `:2: simplejwt.prefix: "/session/v1" conflicts with the server's own path /session`},
		{"a client that no cookie can be named after", ok + "session: {client: \"my app\"}\n", `:2: session.client: "my app" has the character ' '`},
		{"webhook in the clear", ok + "webhook: {url: http://hooks.example/secret-path, secret_file: /x}\n", `:2: webhook.url: the webhook's URL (host hooks.example) must use https`},
		{"webhook that is no URL", ok + "webhook: {url: hooks, secret_file: /x}\n", `:2: webhook.url: the webhook's URL must be like https://`},
		{"secret without a webhook", ok + "webhook: {secret_file: /x}\n", `:2: webhook.secret_file: webhook.url is missing`},
		{"twice", ok + "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", `:3: `},
		{"twice in two spellings", ok + "keys.propagation: 1h\nkeys: {propagation: 2h}\n", `:3: keys.propagation is set twice, first in line 2`},
		{"group with a value", ok + "keys: EdDSA\n", `:2: keys is a group of settings, indented below it: algorithms, rsa, rotate_every, propagation`},
		{"value with a group", ok + "listen:\n  port: 1\n", `:3: listen takes a plain value`},
		{"no value", ok + "listen:\n", `:2: listen has no value`},
		{"not a duration", ok + "jwks:\n  max_age: fast\n", `:3: jwks.max_age: "fast" is not a duration like 30s, 15m, 12h or 30d`},
		{"negative duration", ok + "jwks: {max_age: -5m}\n", `:2: jwks.max_age: "-5m" is not a duration`},
		{"bare number", ok + "jwks: {max_age: 300}\n", `:2: jwks.max_age: "300" is not a duration`},
		{"max-age under a second", ok + "jwks: {max_age: 500ms}\n", `:2: jwks.max_age: 500ms is not a whole number of seconds, at least 1s`},
		{"max-age of half seconds", ok + "jwks: {max_age: 1500ms}\n", `:2: jwks.max_age: 1.5s is not a whole number of seconds`},
		{"propagation under two max-ages", ok + "keys: {propagation: 3s}\njwks: {max_age: 2s}\n", `:2: keys.propagation: keys.propagation (3s) must be at least twice jwks.max_age (2s)`},
		{"max-age over half the default propagation", ok + "jwks: {max_age: 45m}\n", `:2: jwks.max_age: keys.propagation (1h) must be at least twice jwks.max_age (45m)`},
		{"unknown signer of RS256", ok + "keys: {rsa: openssl}\n", `:2: keys.rsa: "openssl" is not one of go, libcrypto, auto`},
		{"rotation under two propagations", ok + "keys: {rotate_every: 90m}\n", `:2: keys.rotate_every: keys.rotate_every (1h30m) must be at least twice keys.propagation (1h)`},
		{"max-age whose double is no duration", ok + "jwks: {max_age: 2000000h}\n", `:2: jwks.max_age: keys.propagation (1h) must be at least twice jwks.max_age (2000000h)`},
		{"propagation whose double is no duration", ok + "keys: {propagation: 2000000h}\n", `:2: keys.propagation: keys.rotate_every (30d) must be at least twice keys.propagation (2000000h)`},
		{"not a boolean", ok + "insecure: yes\n", `:2: insecure: "yes" is neither true nor false`},
		{"list for one value", ok + "listen: [127.0.0.1:1]\n", `:2: listen: one value is expected, not a list`},
		{"one value for a list", ok + "keys: {algorithms: EdDSA}\n", `:2: keys.algorithms: a list is expected: [EdDSA]`},
		{"empty list", ok + "keys: {algorithms: []}\n", `:2: keys.algorithms: the list is empty`},
		{"unknown algorithm", ok + "keys: {algorithms: [HS256]}\n", `:2: keys.algorithms: "HS256" is not supported; choose from EdDSA, RS256, ES256`},
		{"algorithm twice", ok + "keys: {algorithms: [EdDSA, EdDSA]}\n", `:2: keys.algorithms: EdDSA is listed twice`},
		{"no port", ok + "listen: localhost\n", `:2: listen: "localhost" is not an address like 127.0.0.1:8420`},
		{"port too large", ok + "listen: 127.0.0.1:65536\n", `:2: listen: "65536" is not a port`},
		{"metrics without a port", ok + "metrics: {listen: localhost}\n", `:2: metrics.listen: "localhost" is not an address like 127.0.0.1:9420`},
		{"metrics at a bad port", ok + "metrics: {listen: \"127.0.0.1:http\"}\n", `:2: metrics.listen: "http" is not a port`},
		{"metrics at the public port", ok + "metrics: {listen: \"127.0.0.1:8420\"}\n", `:2: metrics.listen: "127.0.0.1:8420" has the port of listen (127.0.0.1:8420)`},
		{"metrics at the public port, written otherwise", ok + "listen: 10.0.0.1:9420\nmetrics: {listen: \":09420\"}\n", `:3: metrics.listen: ":09420" has the port of listen (10.0.0.1:9420)`},
		{"proxy", ok + "http:\n  trusted_proxies: [10.0.0.0/8, ten]\n", `:3: http.trusted_proxies: "ten" is neither a network like 10.0.0.0/8 nor an address`},
		{"IPv4 network in IPv6", ok + "http:\n  trusted_proxies: [\"::ffff:10.0.0.0/104\"]\n", `:3: http.trusted_proxies: "::ffff:10.0.0.0/104" is IPv4 written as IPv6, which matches no peer; write it like 10.0.0.0/8 or 10.0.0.1`},
		{"IPv4 address in IPv6", ok + "http:\n  trusted_proxies: [\"::ffff:10.0.0.1\"]\n", `:3: http.trusted_proxies: "::ffff:10.0.0.1" is IPv4 written as IPv6`},
		{"log level", ok + "log: {level: loud}\n", `:2: log.level: "loud" is not debug, info, warn or error`},
		{"log format", ok + "log: {format: xml}\n", `:2: log.format: "xml" is neither text nor json`},
		{"no issuer", "listen: 127.0.0.1:1\n", `issuer: the setting is required`},
		{"issuer without TLS", "issuer: http://id.example.com\n", `:1: issuer: issuer "http://id.example.com" must use https`},
		{"issuer with a slash", "issuer: https://id.example.com/\n", `:1: issuer: issuer "https://id.example.com/" must not end with a slash`},
		{"issuer with a path and a slash", "issuer: https://example.com/auth/\n", `:1: issuer: issuer "https://example.com/auth/" must not end with a slash`},
		{"issuer with a path that climbs", "issuer: https://example.com/a/..\n", `:1: issuer: issuer "https://example.com/a/..": the path must consist of parts`},
		{"sessions on a shared host", "issuer: https://example.com/auth\nsession: {client: web}\n", `:2: session.client: the issuer https://example.com/auth has a path, so every page of https://example.com could use`},
		{"socket path too long", ok + "data: /" + strings.Repeat("d", 100) + "\n", `:2: data: the path of the admin socket would have 112 bytes, and the system allows 107`},
		{"empty directory name", ok + "data: \"\"\n", `:2: data: the value is empty; name a directory`},
		{"tab", ok + "keys:\n\talgorithms: [EdDSA]\n", `:3: not YAML: `},
		{"unclosed", ok + "keys: {algorithms: [EdDSA\n", `:2: not YAML: `},
		{"second document", ok + "---\nlisten: 127.0.0.1:1\n", `:3: a second document begins here`},
		{"list at the top", "- listen\n", `:1: settings are lines like`},
		{"anchor", ok + "listen: &a 127.0.0.1:1\n", `:2: listen takes a plain value`},
		{"tag", ok + "listen: !!str 127.0.0.1:1\n", `:2: listen takes a plain value`},
		{"merge", ok + "<<: {listen: 127.0.0.1:1}\n", `:2: unknown setting "<<"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := writeFile(t, "keymill.yaml", tt.file)
			c, err := Load(path, nil, false)
			if err == nil {
				err = c.Check()
			}
			if err == nil {
				t.Fatalf("accepted:\n%s", tt.file)
			}
			if got := strings.TrimPrefix(err.Error(), path); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s…", got, tt.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

// TestAFileCanSetEverySetting fails if a setting is added and not added here.
func TestAFileCanSetEverySetting(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	path := writeFile(t, "keymill.yaml", `# every setting
listen: "0.0.0.0:443"
data: /var/lib/keymill
database_id: 00112233445566778899001122334455
issuer: https://id.example.com
insecure: true
master_key_file: /etc/keymill/master.key
tls: {cert_file: /etc/keymill/tls.pem, key_file: /etc/keymill/tls.key}
store: postgres://keymill@db.example/keymill
store.password_file: /etc/keymill/db.password
store.mark_file: /tmp/keymill.mark
node: {id: a}
keys:
  algorithms:
    - EdDSA
  rotate_every: 7d12h
  rsa: auto
  propagation: 2h
jwks: {max_age: 10m}
refresh: {grace: 0s, idle: 1d, absolute: 7d}
simplejwt: {client: web, prefix: /api/v1, username_field: email}
session: {client: web, shared_host: true}
webhook:
  url: https://hooks.example/keymill
  secret_file: /etc/keymill/webhook.secret
http:
  trusted_proxies: [10.1.2.3/8, 192.0.2.7, "2001:db8::/32"]
  max_connections: 500
metrics: {listen: "127.0.0.1:9420"}
admin: {listen: "0.0.0.0:8421"}
verify: {listen: "unix:/run/keymill-verify/sock"}
log: {level: debug, format: json}
audit: {log: stderr}
apply: /etc/keymill/apply
`)
	c, err := Load(path, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listen: "0.0.0.0:443", Data: "/var/lib/keymill", DatabaseID: "00112233445566778899001122334455", Issuer: "https://id.example.com", Insecure: true,
		TLSCertFile: "/etc/keymill/tls.pem", TLSKeyFile: "/etc/keymill/tls.key",
		MasterKeyFile: "/etc/keymill/master.key", MarkFile: "/tmp/keymill.mark", Store: "postgres://keymill@db.example/keymill", StorePasswordFile: "/etc/keymill/db.password", NodeID: "a", Algorithms: []string{"EdDSA"}, RSA: "auto",
		RotateEvery: 180 * time.Hour, Propagation: 2 * time.Hour, MaxAge: 10 * time.Minute,
		Idle: 24 * time.Hour, Absolute: 7 * 24 * time.Hour, SimpleJWTClient: "web", SimpleJWTPrefix: "/api/v1", SimpleJWTUsername: "email",
		BrowserClient: "web", SharedHost: true,
		WebhookURL: "https://hooks.example/keymill", WebhookSecretFile: "/etc/keymill/webhook.secret",
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::/32")},
		MaxConnections: 500, MetricsListen: "127.0.0.1:9420", AdminListen: "0.0.0.0:8421", VerifyListen: "unix:/run/keymill-verify/sock", LogLevel: -4, LogFormat: "json", AuditLog: "stderr", Apply: "/etc/keymill/apply",
	}
	want.source, want.written, want.file = c.source, c.written, path
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	for _, s := range Settings() {
		if c.source[s.Key] == "" {
			t.Errorf("the file of this test does not set %s", s.Key)
		}
	}
}

func TestEverySettingHasAVariableThatSetsIt(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	samples := map[string]string{
		"*string": "sample", "*bool": "true", "*time.Duration": "77h", "*int": "77", "*[]string": "EdDSA",
		"*[]netip.Prefix": "192.0.2.0/24,198.51.100.7", "*slog.Level": "warn",
	}
	seen := map[string]bool{}
	for _, s := range Settings() {
		t.Run(s.Variable(), func(t *testing.T) {
			if seen[s.Variable()] {
				t.Fatalf("two settings share %s", s.Variable())
			}
			seen[s.Variable()] = true
			before, err := Load("", nil, false)
			if err != nil {
				t.Fatal(err)
			}
			sample, ok := samples[fmt.Sprintf("%T", s.field(before))]
			if !ok {
				t.Fatalf("no sample for %T", s.field(before))
			}
			t.Setenv(s.Variable(), sample)
			after, err := Load("", nil, false)
			if err != nil {
				t.Fatal(err)
			}
			if reflect.DeepEqual(s.field(before), s.field(after)) {
				t.Errorf("%s=%s changes nothing", s.Variable(), sample)
			}
			if s.Help == "" {
				t.Errorf("%s has no help", s.Key)
			}
		})
	}
	if !seen["KEYMILL_KEYS_ROTATE_EVERY"] {
		t.Error("keys.rotate_every is not KEYMILL_KEYS_ROTATE_EVERY")
	}
}

func TestAFlagOverridesTheEnvironmentTheFileAndTheDefault(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	listen := func(file string, flags map[string]string) string {
		t.Helper()
		c, err := Load(file, flags, false)
		if err != nil {
			t.Fatal(err)
		}
		return c.Listen
	}
	if got := listen("", nil); got != "127.0.0.1:8420" {
		t.Errorf("default: %s", got)
	}
	file := writeFile(t, "keymill.yaml", "listen: 127.0.0.1:1\n")
	if got := listen(file, nil); got != "127.0.0.1:1" {
		t.Errorf("file: %s", got)
	}
	t.Setenv("KEYMILL_LISTEN", "127.0.0.1:2")
	if got := listen(file, nil); got != "127.0.0.1:2" {
		t.Errorf("environment: %s", got)
	}
	if got := listen(file, map[string]string{"listen": "127.0.0.1:3"}); got != "127.0.0.1:3" {
		t.Errorf("flag: %s", got)
	}
}

func TestAnUnknownVariableIsAnErrorWithASuggestion(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for _, name := range []string{"KEYMILL_CONFIG", "KEYMILL_MASTER_KEY", "KEYMILL_WEBHOOK_SECRET", "KEYMILL_CLIENT_SECRET"} {
		t.Setenv(name, "x")
	}
	if _, err := Load("", nil, false); err != nil {
		t.Fatalf("a variable that is no setting: %v", err)
	}
	t.Setenv("KEYMILL_KEYS_ROTATE", "1h")
	_, err := Load("", nil, false)
	var shown strings.Builder
	terminal.Report(&shown, err)
	want := "keymill: unknown variable KEYMILL_KEYS_ROTATE in the environment\n  hint: did you mean KEYMILL_KEYS_ROTATE_EVERY?\n"
	if shown.String() != want {
		t.Errorf("got %q, want %q", shown.String(), want)
	}
}

// TestABadVariableOrFlagIsReportedByItsName: the operator should not search the file.
func TestABadVariableOrFlagIsReportedByItsName(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	c, err := Load("", map[string]string{"issuer": "https://id.example.com", "listen": "nowhere"}, false)
	if err == nil {
		err = c.Check()
	}
	if err == nil || !strings.HasPrefix(err.Error(), `--listen: "nowhere" is not an address`) {
		t.Errorf("flag: %v", err)
	}
	t.Setenv("KEYMILL_JWKS_MAX_AGE", "soon")
	if _, err := Load("", nil, false); err == nil || !strings.HasPrefix(err.Error(), `KEYMILL_JWKS_MAX_AGE: "soon"`) {
		t.Errorf("variable: %v", err)
	}
}

func TestDefaultsPassTheChecksWithAndWithoutDev(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	c, err := Load("", map[string]string{"issuer": "https://id.example.com"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if c.RotateEvery != 30*24*time.Hour || c.Propagation != time.Hour || c.MaxAge != 5*time.Minute ||
		c.Grace != 30*time.Second || c.Idle != 14*24*time.Hour || c.Absolute != 90*24*time.Hour ||
		c.SimpleJWTClient != "" || c.SimpleJWTPrefix != "/api" || c.SimpleJWTUsername != "username" || c.BrowserClient != "" ||
		!reflect.DeepEqual(c.Algorithms, []string{"RS256", "EdDSA"}) {
		t.Errorf("defaults: %+v", c)
	}
	dev, err := Load("", nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Check(); err != nil {
		t.Error(err)
	}
	if dev.Data != "keymill-dev" || dev.SimpleJWTClient != "dev-web" || dev.BrowserClient != "dev-web" {
		t.Errorf("--dev: %+v", dev)
	}
}

// TestDevWithoutRS256TurnsOffItsLoginEndpoints, except one that was configured.
func TestDevWithoutRS256TurnsOffItsLoginEndpoints(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	t.Setenv("KEYMILL_KEYS_ALGORITHMS", "EdDSA")
	t.Setenv("KEYMILL_SESSION_CLIENT", "my-web")
	c, err := Load("", nil, true)
	if err == nil {
		err = c.Check()
	}
	if err != nil || c.SimpleJWTClient != "" || c.BrowserClient != "my-web" {
		t.Errorf("%v, %+v", err, c)
	}
}

func TestDevStaysOnLoopback(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for _, tt := range []struct {
		key, value string
		good       bool
	}{
		{"listen", "127.0.0.1:0", true},
		{"listen", "localhost:8420", true},
		{"listen", "[::1]:8420", true},
		{"listen", "0.0.0.0:8420", false},
		{"listen", ":8420", false},
		{"listen", "192.0.2.1:8420", false},
		{"issuer", "http://localhost:8420", true},
		{"issuer", "https://id.example.com", false},
		{"issuer", "http://localhost.example.com", false},
	} {
		c, err := Load("", map[string]string{tt.key: tt.value}, true)
		if err == nil {
			err = c.Check()
		}
		if (err == nil) != tt.good {
			t.Errorf("--%s %s: %v", tt.key, tt.value, err)
		}
	}
}

// TestShortKeyLivesAreAllowedForTrials: 12 s, 4 s, 2 s is the documented example.
func TestShortKeyLivesAreAllowedForTrials(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	file := writeFile(t, "keymill.yaml", "issuer: https://id.example.com\nkeys: {rotate_every: 12s, propagation: 4s}\njwks: {max_age: 2s}\n")
	c, err := Load(file, nil, false)
	if err == nil {
		err = c.Check()
	}
	if err != nil {
		t.Error(err)
	}
}

// FuzzConfigFile: reading any file ends with settings, or with an error that has a line.
func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{
		"listen: 127.0.0.1:1\nkeys: {algorithms: [EdDSA]}\n", "a: &x [*x]\n", "? [k]\n: v\n", "\t", "--- |\n x\n", "\"\\", "<<: 1", "keys:\n- a: b\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseConfig([]byte(text))
		if err != nil {
			var bad *lineError
			if !errors.As(err, &bad) || bad.line < 1 {
				t.Errorf("an error without a line: %v", err)
			}
			return
		}
		for _, e := range entries {
			if e.line < 1 || e.key == "" {
				t.Errorf("entry %+v", e)
			}
		}
	})
}
