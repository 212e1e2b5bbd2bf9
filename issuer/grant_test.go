package issuer

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/issuer/scope"
)

func TestATokenIsForTheRequestedAudienceOrTheOnlyOne(t *testing.T) {
	w := newWorld(t)
	w.audience("orders", "read")
	w.audience("stock", "count")
	w.audience("alone")
	one := w.service("one", "orders", "read")
	both := must[api.Client](t)(w.AddClient(t.Context(), api.NewClient{
		ID: "both", Grants: []string{"client_credentials"}, Audiences: []string{"orders", "stock"}, Scopes: []string{"count", "read"},
	}, "uid:0")).Secret
	none := must[api.Client](t)(w.AddClient(t.Context(), api.NewClient{ID: "none", Grants: []string{"client_credentials"}}, "uid:0")).Secret
	for _, tt := range []struct {
		client   string
		secret   refusal.Secret
		audience string
		scope    string
		want     string // audience, or a code
		scopes   string
	}{
		{"one", one, "", "", "orders", "read"},
		{"one", one, "orders", "", "orders", "read"},
		{"one", one, "alone", "", "invalid_target", ""},
		{"one", one, "nowhere", "", "invalid_target", ""},
		{"one", one, "Orders", "", "invalid_target", ""},
		{"both", both, "", "", "invalid_target", ""},
		{"both", both, "orders", "", "orders", "read"},
		{"both", both, "stock", "", "stock", "count"},
		{"both", both, "stock", "count", "stock", "count"},
		{"both", both, "stock", "read", "invalid_scope", ""}, // its scope, but of another audience
		{"both", both, "orders", "read count", "invalid_scope", ""},
		{"none", none, "", "", "invalid_target", ""},
		{"none", none, "orders", "", "invalid_target", ""},
	} {
		g, err := w.Token(t.Context(), TokenRequest{
			GrantType: "client_credentials", Audience: tt.audience, Scope: tt.scope,
			Client: Credentials{tt.client, tt.secret, "client_secret_post"},
		})
		if strings.HasPrefix(tt.want, "invalid_") {
			refused(t, err, tt.want)
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		if aud := claimsOf(t, g)["aud"]; aud != tt.want || g.Scope != tt.scopes {
			t.Errorf("%+v: aud %v, scope %q", tt, aud, g.Scope)
		}
	}
}

func TestScopesAreTokensSeparatedBySingleSpaces(t *testing.T) {
	client, audience := []string{"a", "b", "c"}, []string{"a", "b", "d"}
	for _, tt := range []struct{ asked, want string }{
		{"", "a b"},
		{"a", "a"},
		{"b a", "a b"},
		{"a a", "a"},
		{"c", "invalid_scope"}, // not the audience's
		{"d", "invalid_scope"}, // not the client's
		{"a  b", "invalid_scope"},
		{" a", "invalid_scope"},
		{"a\tb", "invalid_scope"},
		{"A", "invalid_scope"},
		{strings.Repeat("a ", 60) + "a", "invalid_scope"},
	} {
		got, err := scope.Choose(tt.asked, client, audience)
		if tt.want == "invalid_scope" {
			refused(t, err, tt.want)
		} else if err != nil || got != tt.want {
			t.Errorf("%q: got %q, %v", tt.asked, got, err)
		}
	}
	if !slices.Equal(client, []string{"a", "b", "c"}) {
		t.Fatal("the record was changed")
	}
}

func TestASimpleJWTAudienceGetsTokenType(t *testing.T) {
	w := newWorld(t)
	must[api.Audience](t)(w.AddAudience(t.Context(), api.Audience{Name: "shop", Alg: "RS256", Profile: "simplejwt"}, "uid:0"))
	w.audience("orders")
	django, plain := w.service("django", "shop"), w.service("plain", "orders")
	c := claimsOf(t, must[Grant](t)(w.token("django", django)))
	if c["token_type"] != "access" || c["user_id"] != nil || c["sub"] != "django" {
		t.Fatalf("claims %v", c)
	}
	if c := claimsOf(t, must[Grant](t)(w.token("plain", plain))); c["token_type"] != nil {
		t.Fatalf("claims %v", c)
	}
}

// A record that changes between two tokens applies to the second one.
func TestCachedRecordsAreNeverStale(t *testing.T) {
	w := newWorld(t)
	w.audience("orders", "read", "write")
	secret := w.service("billing", "orders", "read")
	for _, scope := range []string{"write", "read", "write"} {
		list := []string{scope}
		must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Scopes: &list}, "uid:0"))
		for range 3 {
			if g := must[Grant](t)(w.token("billing", secret)); g.Scope != scope {
				t.Fatalf("scope %q, want %q", g.Scope, scope)
			}
		}
	}
}

// TestAnAnswerIsWrittenAsEncodingJSONWritesIt, with and without what can be left out.
func TestAnAnswerIsWrittenAsEncodingJSONWritesIt(t *testing.T) {
	for _, g := range []Grant{
		{AccessToken: "e30.e30.c2ln", TokenType: "Bearer", ExpiresIn: 900},
		{AccessToken: "e30.e30.c2ln", TokenType: "Bearer", ExpiresIn: 86400, Scope: "a<b>&c d", Refresh: "kmr_-_", User: "7", Session: "s", Alg: "EdDSA"},
	} {
		want, err := json.Marshal(g)
		if err != nil || string(g.JSON()) != string(want) {
			t.Errorf("%s, want %s, %v", g.JSON(), want, err)
		}
	}
}

func claimsOf(t *testing.T, g Grant) map[string]any {
	t.Helper()
	parts := strings.Split(g.AccessToken, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}
