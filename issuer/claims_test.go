package issuer

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// custom returns the claims of a token that the server does not set itself.
func custom(t testing.TB, token string) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(payloadOf(t, token)), &all); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"iss", "sub", "aud", "client_id", "exp", "iat", "jti", "scope", "sid"} {
		delete(all, name)
	}
	return all
}

func wantCustom(t testing.TB, what, token, want string) {
	t.Helper()
	if got, _ := json.Marshal(custom(t, token)); string(got) != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// TestReceiversGetTheClaimsThatTheyWant: a fixed set for each audience, those of the client in its own tokens, and of
// a user only what the audience maps.
func TestReceiversGetTheClaimsThatTheyWant(t *testing.T) {
	w := newWorld(t)
	w.web()
	must[api.User](t)(w.AddUser(t.Context(), api.NewUser{ID: "7", Name: "alice", Claims: claimsFrom(t, `{"groups":["a"],"email":"a@example.com"}`)}, "uid:0"))
	secret := w.service("billing", "orders", "read")
	claims := api.Claims(claimsFrom(t, `{"policy":"readwrite","level":3}`))
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Claims: &claims}, "uid:0"))
	p := w.begin("7")
	wantCustom(t, "a user", p.grant.AccessToken, `{"email":"a@example.com","groups":["a"]}`)
	service := func() string { t.Helper(); return must[Grant](t)(w.token("billing", secret)).AccessToken }
	wantCustom(t, "a service", service(), `{"level":3,"policy":"readwrite"}`)

	fixed, mapping := api.Claims(claimsFrom(t, `{"tenant":"x","tags":["a",1]}`)), api.ClaimMap{"roles": "groups", "phone": "missing"}
	a := must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{Claims: &fixed, ClaimMap: &mapping}, "uid:0"))
	if len(a.Claims) != 2 || len(a.ClaimMap) != 2 {
		t.Errorf("the audience is %+v", a)
	}
	if d := w.lastAudited("audience.set").Detail; d["claims"] != "tags tenant" || d["claim_map"] != "phone roles" {
		t.Errorf("the audit record has %v", d)
	}
	if d := w.lastAudited("client.set").Detail; d["claims"] != "level policy" || strings.Contains(d["claims"], "readwrite") {
		t.Errorf("the audit record has %v", d)
	}
	w.restart()
	p.rotate()
	wantCustom(t, "a user with a mapping", p.grant.AccessToken, `{"roles":["a"],"tags":["a",1],"tenant":"x"}`)
	wantCustom(t, "a service of that audience", service(), `{"level":3,"policy":"readwrite","tags":["a",1],"tenant":"x"}`)

	none, all := api.Claims{}, api.ClaimMap{}
	must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{Claims: &none, ClaimMap: &all}, "uid:0"))
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Claims: &none}, "uid:0"))
	p.rotate()
	wantCustom(t, "a user in the end", p.grant.AccessToken, `{"email":"a@example.com","groups":["a"]}`)
	wantCustom(t, "a service in the end", service(), `{}`)
}

// TestAClaimHasOneOrigin: one that the client and its audience would both have is refused from either side, and one
// of a user that the audience has as well is left out of the token and logged once.
// R55.
func TestAClaimHasOneOrigin(t *testing.T) {
	w := newWorld(t)
	w.web()
	secret := w.service("billing", "orders", "read")
	policy, other := api.Claims(claimsFrom(t, `{"Policy":"x"}`)), api.Claims(claimsFrom(t, `{"policy":"y"}`))
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Claims: &policy}, "uid:0"))
	_, err := w.SetAudience(t.Context(), "orders", api.AudienceChange{Claims: &other}, "uid:0")
	if text := refused(t, err, "invalid_request"); text != "claim 'policy' is also one of client billing: leave it out here, or remove it there" {
		t.Error(text)
	}
	must[api.Audience](t)(w.SetAudience(t.Context(), "stock", api.AudienceChange{Claims: &other}, "uid:0"))
	stock := []string{"stock"}
	_, err = w.SetClient(t.Context(), "billing", api.ClientChange{Audiences: &stock, Scopes: &[]string{}}, "uid:0")
	if text := refused(t, err, "invalid_request"); !strings.HasPrefix(text, "claim 'Policy' is also one of audience stock") {
		t.Error(text)
	}
	_, err = w.AddClient(t.Context(), api.NewClient{ID: "other", Grants: []string{"client_credentials"}, Audiences: stock, Claims: policy}, "uid:0")
	refused(t, err, "invalid_request")
	wantCustom(t, "a service", must[Grant](t)(w.token("billing", secret)).AccessToken, `{"Policy":"x"}`)

	var log bytes.Buffer
	w.log = slog.New(slog.NewTextHandler(&log, nil))
	must[api.User](t)(w.AddUser(t.Context(), api.NewUser{ID: "7", Name: "alice", Claims: claimsFrom(t, `{"TENANT":"evil","email":"a@example.com"}`)}, "uid:0"))
	tenant := api.Claims(claimsFrom(t, `{"tenant":"ours"}`))
	must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{Claims: &tenant}, "uid:0"))
	p := w.begin("7")
	for range 3 {
		p.rotate()
		wantCustom(t, "a user", p.grant.AccessToken, `{"email":"a@example.com","tenant":"ours"}`)
	}
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "claim=TENANT of=user subject=7 client=web audience=orders") || strings.Contains(got, "evil") {
		t.Errorf("the log is %s", got)
	}
}

// TestAClaimThatIsReservedLaterBlocksNoChange of something else, and is in no token.
func TestAClaimThatIsReservedLaterBlocksNoChange(t *testing.T) {
	w := newWorld(t)
	w.audience("orders")
	secret := w.service("billing", "orders")
	claims, other := api.Claims(claimsFrom(t, `{"policy":"rw"}`)), api.Claims(claimsFrom(t, `{"tenant":"x"}`))
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Claims: &claims}, "uid:0"))
	must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{Claims: &other}, "uid:0"))
	w.put(func(tx storage.Tx) error {
		for key, was := range map[string][]byte{"client/billing": []byte(`"claims":{"policy":"rw"}`), "audience/orders": []byte(`"claims":{"tenant":"x"}`)} {
			raw, err := tx.Get(key)
			if err != nil || !bytes.Contains(raw, was) {
				t.Fatalf("%s is %s, %v", key, raw, err)
			}
			if err := tx.Put(key, bytes.Replace(raw, was, []byte(`"claims":{"sub":"evil"}`), 1)); err != nil {
				return err
			}
		}
		return nil
	})
	wantCustom(t, "a service", must[Grant](t)(w.token("billing", secret)).AccessToken, `{}`)
	ttl, disabled := "5m", true
	if got := must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{TTL: &ttl}, "uid:0")); len(got.Claims) != 1 {
		t.Errorf("the audience is %+v", got)
	}
	if got := must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Disabled: &disabled}, "uid:0")); len(got.Claims) != 1 {
		t.Errorf("the client is %+v", got)
	}
}

// TestClaimsThatWouldShadowOursAreRefused, of a client and of an audience, however they are set.
// R55.
func TestClaimsThatWouldShadowOursAreRefused(t *testing.T) {
	w := newWorld(t)
	w.audience("orders")
	w.service("billing", "orders")
	for _, text := range []string{
		`{"sub":"admin"}`, `{"SUB":"admin"}`, `{"Client_ID":"x"}`, `{"a":{"sub":"admin"}}`, `{"a":[{"scope":"x"}]}`, `{"a":"` + strings.Repeat("x", 1025) + `"}`, `{"a b":1}`,
	} {
		claims := api.Claims(claimsFrom(t, text))
		_, err1 := w.SetClient(t.Context(), "billing", api.ClientChange{Claims: &claims}, "uid:0")
		_, err2 := w.AddClient(t.Context(), api.NewClient{ID: "new", Claims: claims}, "uid:0")
		_, err3 := w.SetAudience(t.Context(), "orders", api.AudienceChange{Claims: &claims}, "uid:0")
		_, err4 := w.AddAudience(t.Context(), api.Audience{Name: "new", Alg: "EdDSA", Claims: claims}, "uid:0")
		for n, err := range []error{err1, err2, err3, err4} {
			if refusal.CodeOf(err) != "invalid_request" {
				t.Errorf("%.40s, way %d: %v", text, n, err)
			}
		}
	}
	for _, mapping := range []api.ClaimMap{{"sub": "email"}, {"Scope": "x"}, {"x": "sub"}, {"a": "b", "A": "c"}, {"a": "x", "b": "x"}} {
		_, err := w.SetAudience(t.Context(), "orders", api.AudienceChange{ClaimMap: &mapping}, "uid:0")
		refused(t, err, "invalid_request")
	}
}
