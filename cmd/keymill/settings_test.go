package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/config"
	"keymill/issuer/api"
)

// settings returns what the running server says about its settings.
func (p *place) settings() (byName map[string]api.Setting) {
	p.t.Helper()
	list, raw, err := adminapi.Ask[[]api.Setting](p.t.Context(), adminapi.New(filepath.Join(p.data, "admin.sock")), http.MethodGet, "settings", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(list) != len(config.Settings()) {
		p.t.Errorf("%d of %d settings", len(list), len(config.Settings()))
	}
	for _, secret := range []string{testKey("k"), strings.TrimSpace(goodHookSecret), "secret-path", "secret-query"} {
		if strings.Contains(string(raw), secret) {
			p.t.Errorf("the settings hold %s", secret)
		}
	}
	byName = map[string]api.Setting{}
	for _, s := range list {
		byName[s.Name] = s
	}
	return byName
}

// TestTheServerShowsItsSettings with their sources, never a secret, and after SIGHUP those that it then uses: one that
// needs a restart stays as it was.
//
// R104.
func TestTheServerShowsItsSettings(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	hook := p.writeKey("webhook.secret", goodHookSecret)
	env := append(p.hookEnv("https://hooks.example/secret-path?key=secret-query"), "KEYMILL_REFRESH_GRACE=7s")
	file := p.configure("keys: {rotate_every: 240h}\n")
	c := p.startWith(env, "serve", "--data", p.data, "--config", file)
	check := func(wants ...api.Setting) {
		t.Helper()
		got := p.settings()
		for _, want := range wants {
			if got[want.Name] != want {
				t.Errorf("got %+v, want %+v", got[want.Name], want)
			}
		}
	}
	rotate := api.Setting{Name: "keys.rotate_every", Value: "10d", Source: file + ":3"}
	check(rotate, api.Setting{Name: "log.level", Value: "info", Source: "default"}, api.Setting{Name: "refresh.grace", Value: "7s", Source: "KEYMILL_REFRESH_GRACE"},
		api.Setting{Name: "data", Value: p.data, Source: "--data"}, api.Setting{Name: "webhook.url", Value: "https://hooks.example/...", Source: "KEYMILL_WEBHOOK_URL"},
		api.Setting{Name: "webhook.secret_file", Value: hook, Source: "KEYMILL_WEBHOOK_SECRET_FILE"})

	p.configure("keys: {rotate_every: 3d}\nlog: {level: debug}\nhttp: {trusted_proxies: [10.0.0.0/8]}\n")
	c.reload("need a restart")
	check(rotate, api.Setting{Name: "log.level", Value: "debug", Source: file + ":4"},
		api.Setting{Name: "http.trusted_proxies", Value: "10.0.0.0/8", Source: file + ":5"})
}
