package config

import (
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
