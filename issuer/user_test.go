package issuer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/profile"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
)

func claimsFrom(t *testing.T, text string) map[string]json.RawMessage {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestUsersAreAddedShownChangedAndRemoved(t *testing.T) {
	w := newWorld(t)
	u, err := w.AddUser(t.Context(), api.NewUser{ID: "7", Name: "alice", Claims: claimsFrom(t, `{"role":"admin"}`), Password: testPassword}, "uid:0")
	if err != nil || u.Scheme != "argon2id" || u.PasswordChanged == nil || u.Disabled {
		t.Fatalf("the new user with a password: got %+v, %v", u, err)
	}
	made, err := w.AddUser(t.Context(), api.NewUser{Name: "bob"}, "uid:0")
	if err != nil || len(made.ID) != record.IDLength || made.Scheme != "none" {
		t.Fatalf("the new user without a password: got %+v, %v", made, err)
	}
	for _, word := range []string{"alice", "7"} {
		got, err := w.User(t.Context(), word)
		if err != nil || got.ID != "7" || got.Name != "alice" || string(got.Claims["role"]) != `"admin"` {
			t.Errorf("%s: %+v %v", word, got, err)
		}
	}
	list, err := w.Users(t.Context(), "", 10)
	if err != nil || len(list) != 2 {
		t.Errorf("the list is %v, %v, want 2 users", list, err)
	}
	for what, u := range map[string]api.NewUser{
		"the same id":   {ID: "7", Name: "carol"},
		"the same name": {ID: "9", Name: "alice"},
	} {
		_, err := w.AddUser(t.Context(), u, "uid:0")
		if hint := refused(t, err, "already_exists"); strings.Contains(hint, "?") {
			t.Errorf("%s: %q", what, hint)
		}
	}
	if err := w.RemoveUser(t.Context(), "alice", "uid:0"); err != nil {
		t.Fatal(err)
	}
	_, err = w.User(t.Context(), "alice")
	refused(t, err, "not_found")
	w.user("alice", "7") // both are free again
	if n := w.records("scheme/"); n != 0 {
		t.Errorf("%d schemes are counted, and no user has a password", n)
	}
}

func TestBadUsersAreRefused(t *testing.T) {
	w := newWorld(t)
	for what, u := range map[string]api.NewUser{
		"no name":          {ID: "7"},
		"a line break":     {Name: "a\nb"},
		"a long id":        {ID: strings.Repeat("7", 65), Name: "a"},
		"an id with a tab": {ID: "7\t", Name: "a"},
		"a short password": {Name: "a", Password: "short"},
	} {
		_, err := w.AddUser(t.Context(), u, "uid:0")
		if err == nil {
			t.Errorf("%s is accepted", what)
			continue
		}
		refused(t, err, "invalid_request")
	}
	for what, hash := range map[string]refusal.Secret{
		"a hash of an unknown scheme": "md5$salt$hash",
		"a hash above the bounds":     "$argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA",
	} {
		_, err := w.ImportUser(t.Context(), api.ImportedUser{Name: "a", Hash: hash}, "uid:0")
		if err == nil {
			t.Errorf("%s is accepted", what)
			continue
		}
		refused(t, err, "invalid_request")
	}
}

// Also if the name of one user is the id of another.
func TestEveryUserCanBeAddressed(t *testing.T) {
	w := newWorld(t)
	w.user("8", "7")
	w.user("7", "8")
	_, err := w.LogoutUser(t.Context(), "8", "uid:0")
	if hint := refused(t, err, "invalid_request"); !strings.Contains(hint, "id:8") {
		t.Errorf("the hint does not say how to name the user: %q", hint)
	}
	for id, name := range map[string]string{"7": "8", "8": "7"} {
		if u, err := w.User(t.Context(), "id:"+id); err != nil || u.Name != name {
			t.Errorf("id:%s is %+v, %v", id, u, err)
		}
		if _, err := w.SetPassword(t.Context(), "id:"+id, testPassword, "uid:0"); err != nil {
			t.Error(err)
		}
	}
	_, err = w.User(t.Context(), "id:8 ")
	refused(t, err, "not_found")
	w.user("carol", "alice")
	w.user("alice", "9")
	if u, err := w.SetPassword(t.Context(), "carol", testPassword, "uid:0"); err != nil || u.ID != "alice" {
		t.Errorf("the user named carol: got %+v, %v, want the id alice", u, err)
	}
}

// R48.
func TestAUserCannotHaveTheIDOfAClient(t *testing.T) {
	w := newWorld(t)
	w.web()
	_, err := w.AddUser(t.Context(), api.NewUser{ID: "web", Name: "web"}, "uid:0")
	refused(t, err, "already_exists")
	w.user("mallory", "billing")
	_, err = w.AddClient(t.Context(), api.NewClient{ID: "billing"}, "uid:0")
	refused(t, err, "already_exists")
}

// Not when it is set, and not in a token.
//
// R55.
func TestACustomClaimCannotReplaceOneOfTheServer(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{
		"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "sid", "token_type", "user_id", "cnf", "act",
		"Sub", "ISS", "Exp", "AUD", "Client_ID", "SCOPE", "Sid", // encoding/json takes them for ours
	} {
		_, err := w.AddUser(t.Context(), api.NewUser{Name: "a", Claims: claimsFrom(t, `{"`+name+`":"x"}`)}, "uid:0")
		refused(t, err, "invalid_request")
	}
	for what, text := range map[string]string{
		"nested deeply":         `{"a":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`,
		"large":                 `{"a":"` + strings.Repeat("x", 3000) + `"}`,
		"unprintable":           `{"a b":1}`,
		"no name":               `{"":1}`,
		"one name in two cases": `{"role":1,"Role":2}`,
	} {
		_, err := w.AddUser(t.Context(), api.NewUser{Name: "a", Claims: claimsFrom(t, text)}, "uid:0")
		if refused(t, err, "invalid_request"); t.Failed() {
			t.Fatalf("the case is %s", what)
		}
	}
}

// payloadOf returns the payload of an access token.
func payloadOf(t testing.TB, token string) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

func TestClaimsOfAUserAreOnlyInTheTokensOfThatUser(t *testing.T) {
	w := newWorld(t)
	w.web()
	_, err := w.AddUser(t.Context(), api.NewUser{ID: "7", Name: "alice", Claims: claimsFrom(t, `{"role":"admin","n":{"a":1,"a":2}}`)}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	p := w.begin("7")
	for range 2 {
		payload := payloadOf(t, p.grant.AccessToken)
		var all map[string]any
		if err := json.Unmarshal([]byte(payload), &all); err != nil {
			t.Fatal(err)
		}
		if all["role"] != "admin" || all["sub"] != "7" || all["sid"] != p.session().ID || all["client_id"] != "web" {
			t.Errorf("the claims are %s, want the role and the claims of the server", payload)
		}
		if all["token_type"] != nil || all["user_id"] != nil {
			t.Errorf("claims of simplejwt for another audience: %s", payload)
		}
		p.rotate()
	}
	none := api.Claims{}
	if _, err := w.SetUser(t.Context(), "alice", api.UserChange{Claims: &none}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	p.rotate() // claims live with the user, so a change counts from the next token on
	if payload := payloadOf(t, p.grant.AccessToken); strings.Contains(payload, "role") {
		t.Errorf("after the claims were removed: got %s", payload)
	}
}

func TestTheUserIDOfSimpleJWTIsANumberIfTheIDIsOne(t *testing.T) {
	for id, want := range map[string]string{
		"7": "7", "0": "0", "9007199254740991": "9007199254740991",
		"9007199254740992": `"9007199254740992"`, "007": `"007"`, "-1": `"-1"`, "1e3": `"1e3"`, "alice": `"alice"`,
		"99999999999999999999999": `"99999999999999999999999"`,
	} {
		if got, _ := (&claim.Token{User: id}).Payload(); !strings.HasSuffix(string(got), `,"user_id":`+want+"}") {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	w := newWorld(t)
	if _, err := w.AddAudience(t.Context(), api.Audience{Name: "shop", Alg: "RS256", Profile: profile.SimpleJWT}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	w.web(func(c *api.NewClient) { c.Audiences, c.Scopes = []string{"shop"}, nil })
	w.user("alice", "7")
	if payload := payloadOf(t, w.begin("7").grant.AccessToken); !strings.Contains(payload, `"token_type":"access","user_id":7`) {
		t.Errorf("the claims of simplejwt: got %s", payload)
	}
}

// Django reads ids with Python's int().
func TestAUserIDThatDjangoReadsAsAnotherIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"007", "+7", "-7", "7_0", "00", "-0", "0_1"} {
		_, err := w.AddUser(t.Context(), api.NewUser{ID: id, Name: "user" + id}, "uid:0")
		if r := (*refusal.Refusal)(nil); !errors.As(err, &r) || r.Code != "invalid_request" {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"0", "7", "70", "9007199254740993", "99999999999999999999999", "7-0", "7__0", "_7", "a7", "7.0", "0x7"} {
		w.user("user "+id, id)
	}
}
