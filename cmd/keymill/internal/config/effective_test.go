package config

import (
	"os"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestEffectiveSettingsCanBeReadBack: there is every setting, wherever its value came from, and as
// a variable each value means the same.
func TestEffectiveSettingsCanBeReadBack(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	path := writeFile(t, "keymill.yaml", `
issuer: https://id.example.com
keys: {rotate_every: 240h, algorithms: [EdDSA]}
http: {trusted_proxies: [10.0.0.0/8, "::1"]}
log: {level: warn}
`)
	t.Setenv("KEYMILL_REFRESH_IDLE", "1d12h")
	t.Setenv("KEYMILL_INSECURE", "true")
	c, err := Load(path, map[string]string{"listen": "127.0.0.1:1"}, false)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"issuer": "https://id.example.com", "keys.rotate_every": "10d", "keys.algorithms": "EdDSA", "http.trusted_proxies": "10.0.0.0/8,::1/128",
		"log.level": "warn", "refresh.idle": "36h", "insecure": "true", "listen": "127.0.0.1:1", "keys.propagation": "1h", "webhook.url": "",
	}
	again := *c
	byKey := map[string]Setting{}
	for _, s := range Settings() {
		byKey[s.Key] = s
	}
	effective := c.Effective()
	if len(effective) != len(byKey) {
		t.Errorf("%d of %d settings", len(effective), len(byKey))
	}
	for _, e := range effective {
		if text, given := want[e.Key]; given && e.Value != text || e.Value == notShown {
			t.Errorf("%s is %q, want %q", e.Key, e.Value, text)
		}
		if s := byKey[e.Key]; e.Value != "" {
			if err := s.set(&again, s.textValue(&again, e.Value)); err != nil {
				t.Errorf("%s: %v", e.Key, err)
			}
		}
	}
	if changed := c.Changed(&again); len(changed) != 0 {
		t.Errorf("other values when read back: %v", changed)
	}
}

// TestEffectiveSettingsShowNoSecretOfTheWebhook, in no part of its URL.
func TestEffectiveSettingsShowNoSecretOfTheWebhook(t *testing.T) {
	for url, want := range map[string]string{
		"":                                  "",
		"https://hooks.example":             "https://hooks.example",
		"https://hooks.example/T0/s3cret":   "https://hooks.example/...",
		"https://hooks.example?key=s3cret":  "https://hooks.example/...",
		"https://u:s3cret@hooks.example/#s": "https://hooks.example/...",
		"s3cret":                            notShown,
		"https://hooks.example:x/s3cret":    notShown,
	} {
		for _, e := range (&Config{WebhookURL: url}).Effective() {
			if e.Key == "webhook.url" && e.Value != want || strings.Contains(e.Value, "s3cret") {
				t.Errorf("%s: %s is %q", url, e.Key, e.Value)
			}
		}
	}
}

// TestEffectiveSettingsNameTheirSources, and for a secret the place where it is.
func TestEffectiveSettingsNameTheirSources(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	path := writeFile(t, "keymill.yaml", "keys:\n  rotate_every: 240h\nlisten: 127.0.0.1:2\nwebhook: {url: https://hooks.example}\n")
	t.Setenv("KEYMILL_REFRESH_IDLE", "1d12h")
	t.Setenv("KEYMILL_WEBHOOK_SECRET", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	credentials := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	if err := os.WriteFile(credentials+"/keymill-master-key", []byte(strings.Repeat("0123456789abcdef", 4)), 0o400); err != nil {
		t.Fatal(err)
	}
	sources := func(dev bool) (of map[string]string) {
		t.Helper()
		c, err := Load(path, map[string]string{"listen": "127.0.0.1:1"}, dev)
		if err != nil {
			t.Fatal(err)
		}
		if !dev {
			if _, err := c.MasterKey(); err != nil && !IsWeakKey(err) {
				t.Fatal(err)
			}
			secret, err := c.WebhookSecret()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.WebhookSecretAgain(secret); err != nil { // a variable can be read once
				t.Fatal(err)
			}
		}
		of = map[string]string{}
		for _, e := range c.Effective() {
			of[e.Key] = e.Source
			if strings.Contains(e.Value+e.Source, "whsec") || strings.Contains(e.Value+e.Source, "cdef") {
				t.Errorf("%s shows a secret: %+v", e.Key, e)
			}
		}
		return of
	}
	for dev, wants := range map[bool]map[string]string{
		false: {
			"listen": "--listen", "keys.rotate_every": path + ":2", "refresh.idle": "KEYMILL_REFRESH_IDLE", "keys.propagation": "default", "issuer": "default",
			"webhook.url": path + ":4", "webhook.secret_file": "KEYMILL_WEBHOOK_SECRET", "master_key_file": credentials + "/keymill-master-key",
		},
		true: {
			"listen": "--listen", "keys.propagation": "default with --dev", "issuer": "default with --dev", "refresh.absolute": "default",
			"master_key_file": "keymill-dev/dev-master-key",
		},
	} {
		got := sources(dev)
		for key, want := range wants {
			if got[key] != want {
				t.Errorf("dev %v: %s comes from %q, want %q", dev, key, got[key], want)
			}
		}
	}
}
