package serve

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/config"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint"
	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/bolt"
)

// TestALoginClientThatDoesNotFitIsReported with a command that takes nothing away from the
// client.
func TestALoginClientThatDoesNotFitIsReported(t *testing.T) {
	valid := api.Client{ID: "web", Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"a"}}
	with := func(change func(*api.Client)) *api.Client {
		c := valid
		change(&c)
		return &c
	}
	for _, tt := range []struct {
		name              string
		client            *api.Client // nil: absent
		simplejwt, cookie string      // why; "" if users can log in there
		command           string
	}{
		{"valid", &valid, "", "", ""},
		{"absent", nil, "does not exist", "does not exist", "keymill client add web --public --grant refresh_token"},
		{"disabled", with(func(c *api.Client) { c.Disabled = true }), "is disabled", "is disabled", "keymill client enable web"},
		{"confidential", with(func(c *api.Client) { c.Public = false }), "is confidential", "is confidential", "keymill client add NAME --public"},
		{"without the grant", with(func(c *api.Client) { c.Grants = []string{"client_credentials"} }), "refresh_token grant", "refresh_token grant",
			"keymill client set web --grant client_credentials --grant refresh_token"},
		{"without an audience", with(func(c *api.Client) { c.Audiences = nil }), "no audience", "no audience", "keymill client set web --audience AUDIENCE"},
		{"with several audiences", with(func(c *api.Client) { c.Audiences = []string{"a", "b"} }), "several audiences", "", "keymill client add NAME --public"},
		{"with an algorithm that is not served", with(func(c *api.Client) { c.Audiences = []string{"b"} }),
			"audience b needs RS256, which is not in keys.algorithms", "audience b needs RS256, which is not in keys.algorithms", ""},
		{"confidential, with such an algorithm", with(func(c *api.Client) { c.Public, c.Audiences = false, []string{"b"} }),
			"audience b needs RS256", "audience b needs RS256", ""},
	} {
		records := Records{
			Client: func(id string) (api.Client, error) {
				if tt.client == nil {
					return api.Client{}, refusal.New("not_found", "client %s does not exist", id)
				}
				return *tt.client, nil
			},
			Audience: func(name string) (api.Audience, error) {
				return api.Audience{Name: name, Alg: map[string]string{"a": "EdDSA", "b": "RS256"}[name]}, nil
			},
		}
		want := map[string]string{"simplejwt.client": tt.simplejwt, "session.client": tt.cookie}
		warnings := LoginWarnings(&config.Config{SimpleJWTClient: "web", BrowserClient: "web", Algorithms: []string{"EdDSA"}}, records)
		for setting, why := range want {
			n := slices.IndexFunc(warnings, func(w api.Warning) bool { return strings.Contains(w.Detail, setting+" is web") })
			switch {
			case why == "" && n >= 0:
				t.Errorf("%s: %s", tt.name, warnings[n].Detail)
			case why == "":
			case n < 0:
				t.Errorf("%s: no warning for %s in %v", tt.name, setting, warnings)
			case !strings.Contains(warnings[n].Detail, why) || !strings.Contains(warnings[n].Detail, tt.command) || warnings[n].Check != "login endpoint":
				t.Errorf("%s: %+v", tt.name, warnings[n])
			}
		}
		if off := LoginWarnings(&config.Config{}, records); len(off) != 0 {
			t.Errorf("%s: login endpoints that are off: %v", tt.name, off)
		}
	}
	if advice := loginAdvice(endpoint.UnusableClient{Endpoint: issuer.LoginSimpleJWT, ID: "web"}); advice !=
		"to fix it, run: keymill client add web --public --grant refresh_token --audience AUDIENCE --origin https://app.example" {
		t.Error(advice)
	}
}

// TestAnUnreadableClientIsReported instead of ending a start or doctor.
func TestAnUnreadableClientIsReported(t *testing.T) {
	store, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("client/web", []byte("{")) }); err != nil {
		t.Fatal(err)
	}
	warnings := LoginWarnings(&config.Config{BrowserClient: "web", SimpleJWTClient: "app"}, Records{
		Client:   func(id string) (api.Client, error) { return issuer.ReadClient(t.Context(), store, id) },
		Audience: func(name string) (api.Audience, error) { return issuer.ReadAudience(t.Context(), store, name) },
	})
	if len(warnings) != 2 || !strings.Contains(warnings[0].Detail, "app, and the client does not exist") ||
		!strings.Contains(warnings[1].Detail, "web, and the client cannot be read: record client/web") {
		t.Errorf("%v", warnings)
	}
}
