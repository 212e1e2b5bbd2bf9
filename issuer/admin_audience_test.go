package issuer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
)

// newAdminWorld returns a world that accepts tokens for the admin API.
func newAdminWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.acceptAdmin()
	return w
}

func (w *world) acceptAdmin() {
	w.t.Helper()
	w.Issuer = must[*Issuer](w.t)(Open(w.t.Context(), Config{URL: testURL, Store: w.store, Keys: w.keys, Admin: true}))
}

func deployer(scopes ...string) api.NewClient {
	return api.NewClient{ID: "deployer", Grants: []string{"client_credentials"}, Audiences: []string{adminscope.Audience}, Scopes: scopes}
}

func TestTheAudienceOfTheAdminAPIIsBuiltIn(t *testing.T) {
	w := newAdminWorld(t)
	w.audience("a")
	w.audience("z")
	want := api.Audience{
		Name: "keymill-admin", Alg: "EdDSA", TTL: "5m0s", Scopes: adminscope.Names(), Profile: "rfc9068", Type: "at+jwt", BuiltIn: true,
	}
	if got := must[api.Audience](t)(w.Audience(t.Context(), "keymill-admin")); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, tt := range []struct {
		after string
		limit int
		want  string
	}{
		{"", 100, "a keymill-admin z"}, {"", 1, "a"}, {"", 2, "a keymill-admin"}, {"a", 1, "keymill-admin"}, {"a", 2, "keymill-admin z"},
		{"keymill-admin", 100, "z"}, {"z", 100, ""}, {"", 0, ""},
	} {
		var names []string
		for _, a := range must[[]api.Audience](t)(w.Audiences(t.Context(), tt.after, tt.limit)) {
			names = append(names, a.Name)
		}
		if got := strings.Join(names, " "); got != tt.want {
			t.Errorf("%d after %q: %s, want %s", tt.limit, tt.after, got, tt.want)
		}
	}
	_, err := w.AddAudience(t.Context(), api.Audience{Name: "keymill-admin", Alg: "EdDSA"}, "uid:0")
	refused(t, err, "already_exists")
	_, err = w.SetAudience(t.Context(), "keymill-admin", api.AudienceChange{TTL: new("1h")}, "uid:0")
	refused(t, err, "built_in")
	refused(t, w.RemoveAudience(t.Context(), "keymill-admin", "uid:0"), "built_in")
	_, err = w.AddAudience(t.Context(), api.Audience{Name: "mine", Alg: "EdDSA", BuiltIn: true}, "uid:0")
	refused(t, err, "invalid_request")
}

// TestWithoutAListenerNobodyGetsAdminTokens, but what exists can be managed, and the name stays reserved.
func TestWithoutAListenerNobodyGetsAdminTokens(t *testing.T) {
	w := newAdminWorld(t)
	secret := must[api.Client](t)(w.AddClient(t.Context(), deployer("keys:read"), "uid:0")).Secret
	w.restart()
	_, err := w.token("deployer", secret)
	if text := refused(t, err, "invalid_target"); !strings.Contains(text, "admin.listen") {
		t.Errorf("the refusal does not say why: %s", text)
	}
	_, err = w.Audience(t.Context(), "keymill-admin")
	refused(t, err, "not_found")
	if list := must[[]api.Audience](t)(w.Audiences(t.Context(), "", 100)); len(list) > 0 {
		t.Errorf("listed: %+v", list)
	}
	_, err = w.AddAudience(t.Context(), api.Audience{Name: "keymill-admin", Alg: "EdDSA"}, "uid:0")
	refused(t, err, "already_exists")
	other := deployer("keys:read")
	other.ID = "other"
	_, err = w.AddClient(t.Context(), other, "uid:0")
	if text := refused(t, err, "invalid_request"); !strings.Contains(text, "admin.listen") {
		t.Errorf("the refusal does not say why: %s", text)
	}
	must[api.Client](t)(w.SetClient(t.Context(), "deployer", api.ClientChange{Scopes: &[]string{"users:read"}, Disabled: new(true)}, "uid:0"))
	if err := w.RemoveClient(t.Context(), "deployer", "uid:0"); err != nil {
		t.Error(err)
	}
}

func TestAClientOfTheAdminAPIDoesNothingElse(t *testing.T) {
	w := newAdminWorld(t)
	w.audience("orders", "read")
	for what, change := range map[string]func(*api.NewClient){
		"public":              func(c *api.NewClient) { c.Public, c.Grants = true, nil },
		"another grant":       func(c *api.NewClient) { c.Grants = []string{"client_credentials", "refresh_token"} },
		"no grant":            func(c *api.NewClient) { c.Grants = nil },
		"no scope":            func(c *api.NewClient) { c.Scopes = nil },
		"another audience":    func(c *api.NewClient) { c.Audiences = append(c.Audiences, "orders") },
		"an origin":           func(c *api.NewClient) { c.Origins = []string{"https://app.example"} },
		"introspection":       func(c *api.NewClient) { c.Introspect = []string{"orders"} },
		"introspects admin":   func(c *api.NewClient) { c.Audiences, c.Scopes, c.Introspect = []string{"orders"}, nil, c.Audiences },
		"an unknown scope":    func(c *api.NewClient) { c.Scopes = []string{"keys:read", "read"} },
		"the scope to import": func(c *api.NewClient) { c.Scopes = []string{"keys:import"} },
	} {
		c := deployer("keys:read")
		change(&c)
		_, err := w.AddClient(t.Context(), c, "uid:0")
		if refused(t, err, "invalid_request"); t.Failed() {
			t.Fatalf("the case is %s", what)
		}
		// A change leads to no such client either.
		c.ID = "orders client"
		must[api.Client](t)(w.AddClient(t.Context(), api.NewClient{ID: c.ID, Public: c.Public, Grants: []string{}, Audiences: []string{"orders"}}, "uid:0"))
		_, err = w.SetClient(t.Context(), c.ID, api.ClientChange{
			Grants: &c.Grants, Audiences: &c.Audiences, Scopes: &c.Scopes, Origins: &c.Origins, Introspect: &c.Introspect,
		}, "uid:0")
		if refused(t, err, "invalid_request"); t.Failed() {
			t.Fatalf("the case is a change, %s", what)
		}
		if err := w.RemoveClient(t.Context(), c.ID, "uid:0"); err != nil {
			t.Fatal(err)
		}
	}
	must[api.Client](t)(w.AddClient(t.Context(), deployer("keys:read", "users:write"), "uid:0"))
	_, err := w.SetClient(t.Context(), "deployer", api.ClientChange{Scopes: &[]string{}}, "uid:0")
	refused(t, err, "invalid_request")
}

func TestOnlyTheSocketManagesTheClientsOfTheAdminAPI(t *testing.T) {
	w := newAdminWorld(t)
	w.audience("orders", "read")
	must[api.Client](t)(w.AddClient(t.Context(), deployer("keys:read"), "uid:0"))
	const by = "client:deployer"
	other := deployer("keys:read")
	other.ID = "other"
	_, err := w.AddClient(t.Context(), other, by)
	refused(t, err, "socket_only")
	for _, c := range []api.ClientChange{
		{Scopes: &[]string{"users:write"}}, {Disabled: new(true)}, {Audiences: &[]string{"orders"}, Scopes: &[]string{}}, {Grace: new("1s")}, {},
	} {
		_, err = w.SetClient(t.Context(), "deployer", c, by)
		refused(t, err, "socket_only")
	}
	_, err = w.RotateSecret(t.Context(), "deployer", 0, by)
	refused(t, err, "socket_only")
	refused(t, w.RemoveClient(t.Context(), "deployer", by), "socket_only")

	ordinary := api.NewClient{ID: "billing", Grants: []string{"client_credentials"}, Audiences: []string{"orders"}, Scopes: []string{}}
	must[api.Client](t)(w.AddClient(t.Context(), ordinary, by))
	_, err = w.SetClient(t.Context(), "billing", api.ClientChange{Audiences: &other.Audiences, Scopes: &other.Scopes}, by)
	refused(t, err, "socket_only")
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Scopes: &[]string{"read"}}, by))
	must[api.Client](t)(w.RotateSecret(t.Context(), "billing", 0, by))
	if err := w.RemoveClient(t.Context(), "billing", by); err != nil {
		t.Error(err)
	}
}

// TestAKnownSecretIsNeverThatOfAnAdministrator: who may change clients may know the secret of an ordinary one, also of one
// that has the name of a client that is planned.
func TestAKnownSecretIsNeverThatOfAnAdministrator(t *testing.T) {
	w := newAdminWorld(t)
	w.audience("orders", "read")
	known := must[api.Client](t)(w.AddClient(t.Context(), api.NewClient{
		ID: "deployer", Grants: []string{"client_credentials"}, Audiences: []string{"orders"}, Scopes: []string{},
	}, "client:mallory")).Secret
	promote := api.ClientChange{Audiences: &[]string{"keymill-admin"}, Scopes: &[]string{"keys:read"}}
	for _, by := range []string{"uid:0", "apply"} {
		_, err := w.SetClient(t.Context(), "deployer", promote, by)
		if text := refused(t, err, "invalid_request"); !strings.Contains(text, "remove it and add it again") {
			t.Errorf("the refusal does not say what to do: %s", text)
		}
	}
	hash := sha256.Sum256([]byte("another secret"))
	promote.SecretHash = string(hash[:])
	must[api.Client](t)(w.SetClient(t.Context(), "deployer", promote, "uid:0"))
	_, err := w.token("deployer", known)
	refused(t, err, "invalid_client")
	must[Grant](t)(w.token("deployer", "another secret"))
}

// TestAnAdministratorOfALaterVersionCanBeDisabled: its scopes may be unknown here, and stay.
func TestAnAdministratorOfALaterVersionCanBeDisabled(t *testing.T) {
	w := newAdminWorld(t)
	must[api.Client](t)(w.AddClient(t.Context(), deployer("keys:read"), "uid:0"))
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
		raw, err := tx.Get("client/deployer")
		if err != nil {
			return err
		}
		return tx.Put("client/deployer", bytes.Replace(raw, []byte(`"keys:read"`), []byte(`"keys:read","later:read"`), 1))
	}); err != nil {
		t.Fatal(err)
	}
	c := must[api.Client](t)(w.SetClient(t.Context(), "deployer", api.ClientChange{Disabled: new(true)}, "uid:0"))
	if !c.Disabled || !slices.Equal(c.Scopes, []string{"keys:read", "later:read"}) {
		t.Errorf("got %+v", c)
	}
	_, err := w.SetClient(t.Context(), "deployer", api.ClientChange{Scopes: &[]string{"later:read", "later:write"}}, "uid:0")
	if text := refused(t, err, "invalid_request"); !strings.Contains(text, "'later:write'") {
		t.Error(text)
	}
}

// adminClaims are those of a token that the server issues to deployer at this moment.
func (w *world) adminClaims() claim.Token {
	now := w.keys.WallTime()
	return claim.Token{
		Issuer: testURL, Subject: "deployer", Audience: "keymill-admin", Client: "deployer", ID: claim.NewTokenID(),
		Issued: now.Add(-backdate).Unix(), Expires: now.Add(adminscope.Lifetime).Unix(), Scope: "keys:read",
	}
}

func (w *world) signed(alg, typ string, c claim.Token) refusal.Secret {
	w.t.Helper()
	return refusal.Secret(must[string](w.t)(w.keys.Sign(w.t.Context(), alg, typ, plainPayload(c), w.keys.WallTime().Add(adminscope.Lifetime))))
}

func TestATokenForTheAdminAPISaysItsClientAndScopes(t *testing.T) {
	w := newAdminWorld(t)
	secret := must[api.Client](t)(w.AddClient(t.Context(), deployer("users:write", "keys:read"), "uid:0")).Secret
	g := must[Grant](t)(w.token("deployer", secret))
	if g.ExpiresIn != 300 || g.Scope != "keys:read users:write" || g.Alg != "EdDSA" {
		t.Errorf("the grant is %+v", g)
	}
	check := func(token string, want ...string) {
		t.Helper()
		client, scopes, err := w.AdminToken(t.Context(), refusal.Secret(token))
		if err != nil || client != "deployer" || !slices.Equal(scopes, want) {
			t.Errorf("got %s, %v, %v, want %v", client, scopes, err, want)
		}
	}
	check(g.AccessToken, "keys:read", "users:write")
	narrow := must[Grant](t)(w.Token(t.Context(), TokenRequest{
		GrantType: "client_credentials", Client: Credentials{"deployer", secret, "client_secret_basic"}, Scope: "keys:read", Audience: "keymill-admin",
	}))
	check(narrow.AccessToken, "keys:read")
	must[api.Client](t)(w.SetClient(t.Context(), "deployer", api.ClientChange{Scopes: &[]string{"users:write"}}, "uid:0"))
	check(g.AccessToken, "users:write") // at once
	check(narrow.AccessToken)
}

func TestTheAdminAPIAcceptsNoOtherToken(t *testing.T) {
	w := newAdminWorld(t)
	w.audience("orders", "read")
	for _, alg := range []string{"RS256", "EdDSA"} {
		must[api.Audience](t)(w.AddAudience(t.Context(), api.Audience{Name: "long-" + alg, Alg: alg, TTL: "1h"}, "uid:0"))
	}
	service := w.service("billing", "orders", "read")
	must[api.Client](t)(w.AddClient(t.Context(), deployer("keys:read"), "uid:0"))
	if _, _, err := w.AdminToken(t.Context(), w.signed("EdDSA", jwks.TypeAccessToken, w.adminClaims())); err != nil {
		t.Fatalf("the token that the others differ from: %v", err)
	}
	changed := func(change func(*claim.Token)) refusal.Secret {
		c := w.adminClaims()
		change(&c)
		return w.signed("EdDSA", jwks.TypeAccessToken, c)
	}
	good := string(w.signed("EdDSA", jwks.TypeAccessToken, w.adminClaims()))
	for what, token := range map[string]refusal.Secret{
		"none":                   "",
		"garbage":                "a.b.c",
		"forged":                 refusal.Secret(good[:len(good)-4] + "AAAA"),
		"unsigned":               refusal.Secret(good[:strings.LastIndex(good, ".")+1]),
		"another audience":       refusal.Secret(must[Grant](t)(w.token("billing", service)).AccessToken),
		"a list of audiences":    changed(func(c *claim.Token) { c.Audience = "orders" }),
		"another subject":        changed(func(c *claim.Token) { c.Subject = "7" }),
		"a session":              changed(func(c *claim.Token) { c.Session = "06bt16hmtsqjmpkmpkmpkmpkm8" }),
		"an unknown client":      changed(func(c *claim.Token) { c.Subject, c.Client = "nobody", "nobody" }),
		"a client of an API":     changed(func(c *claim.Token) { c.Subject, c.Client = "billing", "billing" }),
		"another issuer":         changed(func(c *claim.Token) { c.Issuer = "https://other.example" }),
		"expired":                changed(func(c *claim.Token) { c.Expires = w.keys.WallTime().Add(-time.Second).Unix() }),
		"of the algorithm RS256": w.signed("RS256", jwks.TypeAccessToken, w.adminClaims()),
		"of another type":        w.signed("EdDSA", "JWT", w.adminClaims()),
	} {
		if _, _, err := w.AdminToken(t.Context(), token); !errors.Is(err, ErrAdminToken) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAnAdminTokenEndsWithEverythingThatEndsATokenOfAClient(t *testing.T) {
	for what, end := range map[string]func(w *world, secret, token refusal.Secret) error{
		"the token is revoked": func(w *world, secret, token refusal.Secret) error {
			return w.Revoke(w.t.Context(), Credentials{"deployer", secret, "client_secret_basic"}, token, netip.Addr{})
		},
		"the client is disabled": func(w *world, _, _ refusal.Secret) error {
			_, err := w.SetClient(w.t.Context(), "deployer", api.ClientChange{Disabled: new(true)}, "uid:0")
			return err
		},
		"the client is disabled and enabled": func(w *world, _, _ refusal.Secret) error {
			_, err := w.SetClient(w.t.Context(), "deployer", api.ClientChange{Disabled: new(true)}, "uid:0")
			_, err2 := w.SetClient(w.t.Context(), "deployer", api.ClientChange{Disabled: new(false)}, "uid:0")
			return errors.Join(err, err2)
		},
		"the client is removed": func(w *world, _, _ refusal.Secret) error {
			return w.RemoveClient(w.t.Context(), "deployer", "uid:0")
		},
		"the client is removed and added": func(w *world, _, _ refusal.Secret) error {
			err := w.RemoveClient(w.t.Context(), "deployer", "uid:0")
			_, err2 := w.AddClient(w.t.Context(), deployer("keys:read"), "uid:0")
			return errors.Join(err, err2)
		},
		"the client loses the audience": func(w *world, _, _ refusal.Secret) error {
			_, err := w.SetClient(w.t.Context(), "deployer", api.ClientChange{Audiences: &[]string{"orders"}, Scopes: &[]string{}}, "uid:0")
			return err
		},
		"all sessions of the client end": func(w *world, _, _ refusal.Secret) error {
			return w.RevokeClientSessions(w.t.Context(), "deployer", "uid:0")
		},
		"all sessions of the store end": func(w *world, _, _ refusal.Secret) error {
			return w.RevokeAllSessions(w.t.Context(), "uid:0")
		},
	} {
		w := newAdminWorld(t)
		w.audience("orders", "read")
		secret := must[api.Client](t)(w.AddClient(t.Context(), deployer("keys:read"), "uid:0")).Secret
		token := refusal.Secret(must[Grant](t)(w.token("deployer", secret)).AccessToken)
		if _, _, err := w.AdminToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		if err := end(w, secret, token); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if _, _, err := w.AdminToken(t.Context(), token); !errors.Is(err, ErrAdminToken) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestAnImportedKeySignsNoAdminToken: the system that it comes from may have it still.
func TestAnImportedKeySignsNoAdminToken(t *testing.T) {
	w := newAdminWorld(t)
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(private))
	info := must[keystore.KeyInfo](t)(w.keys.Import(t.Context(), keystore.ImportRequest{
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), Alg: "EdDSA", SignNow: true,
	}, "uid:0"))
	secret := must[api.Client](t)(w.AddClient(t.Context(), deployer("keys:read"), "uid:0")).Secret
	token := refusal.Secret(must[Grant](t)(w.token("deployer", secret)).AccessToken)
	if _, _, err := w.AdminToken(t.Context(), token); !errors.Is(err, ErrAdminToken) {
		t.Errorf("a token of the imported key %s: %v", info.KID, err)
	} else if !strings.Contains(err.Error(), "imported") {
		t.Errorf("the log does not learn why: %v", err)
	}
}

func TestAnAudienceOfAnEarlierVersionWithTheNameEndsTheStart(t *testing.T) {
	w := newWorld(t)
	raw := must[[]byte](t)(json.Marshal(audienceRecord{Alg: "EdDSA", TTL: 900, Scopes: []string{}, Profile: "rfc9068"}))
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("audience/keymill-admin", raw) }); err != nil {
		t.Fatal(err)
	}
	for _, admin := range []bool{false, true} {
		if _, err := Open(t.Context(), Config{URL: testURL, Store: w.store, Keys: w.keys, Admin: admin}); !errors.Is(err, ErrAdminAudience) {
			t.Errorf("with Admin %v: %v", admin, err)
		}
	}
}

func TestARecordOfAClientOfTheAdminAPIIsDamagedIfItCouldDoMore(t *testing.T) {
	w := newAdminWorld(t)
	must[api.Client](t)(w.AddClient(t.Context(), deployer("keys:read"), "uid:0"))
	var raw []byte
	if err := w.store.View(t.Context(), func(r storage.Reader) (err error) { raw, err = r.Get("client/deployer"); return err }); err != nil {
		t.Fatal(err)
	}
	if err := CheckRecord("client/deployer", raw); err != nil {
		t.Fatal(err)
	}
	if err := w.store.View(t.Context(), func(r storage.Reader) error {
		if l := References(r, "client/deployer", raw); len(l.Counted) > 0 {
			t.Errorf("counted by %v", l.Counted)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	more := strings.Replace(string(raw), `["client_credentials"]`, `["client_credentials","refresh_token"]`, 1)
	if err := CheckRecord("client/deployer", []byte(more)); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("with another grant: %v", err)
	}
}
