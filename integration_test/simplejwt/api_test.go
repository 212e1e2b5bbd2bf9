package simplejwt

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"keymill/integration_test/server"
)

// ask calls an API with a token, or without one if token is empty.
func ask(t *testing.T, api, token string) answer {
	t.Helper()
	c := call{method: "GET", path: whoamiPath}
	if token != "" {
		c = c.with("Authorization", "Bearer "+token)
	}
	return do(t, api, c)
}

// theAPIKnowsTheCaller: every user imported from Django's database logs in with the password
// from there, and the API finds the row that user_id names.
func (p *pair) theAPIKnowsTheCaller(t *testing.T) {
	for i, user := range users {
		if user.Password == "" || user.Inactive {
			continue
		}
		want := fmt.Sprintf(`200 {"id":%d,"username":%q}`, i+1, user.Name)
		// Ours twice: the first login replaces the hash, and the second one uses the new hash.
		sides := []*side{p.theirs, p.ours, p.ours}
		if strings.TrimSpace(user.Password) != user.Password {
			sides = sides[1:] // simplejwt cannot log this user in
		}
		for _, s := range sides {
			if got := ask(t, s.api, s.login(t, user.Name).Access).line(); got != want {
				t.Errorf("%s: the API answers %s with %s, want %s", s.name, user.Name, got, want)
			}
		}
	}
}

// theAPIRefusesAlike: the API refuses a token with the same words, whichever side issued it.
func (p *pair) theAPIRefusesAlike(t *testing.T) {
	refused := func(message string) string {
		return `401 {"code":"token_not_valid","detail":"Given token not valid for any token type",` +
			`"messages":[{"message":"` + message + `","token_class":"AccessToken","token_type":"access"}]} | Bearer realm="api"`
	}
	invalid := refused("Token is invalid or expired")
	for _, tt := range []struct {
		name         string
		token        func(t *testing.T, s *side) string
		theirs, ours string
	}{
		{"no token", func(*testing.T, *side) string { return "" },
			`401 {"detail":"Authentication credentials were not provided."} | Bearer realm="api"`, ""},
		{"garbage", func(*testing.T, *side) string { return "garbage" }, invalid, ""},
		{"an expired token", func(_ *testing.T, s *side) string { return s.old.Access }, invalid, ""},
		{"another header", func(t *testing.T, s *side) string { return tamper(access(t, s), 0) }, invalid, ""},
		{"other claims", func(t *testing.T, s *side) string { return tamper(access(t, s), 1) }, invalid, ""},
		{"another signature", func(t *testing.T, s *side) string { return tamper(access(t, s), 2) }, invalid, ""},
		// Ours is no JWT, so no verifier can mistake it for an access token.
		{"a refresh token", current, refused("Token has wrong type"), invalid},
		{"the token of a user disabled in Django", func(t *testing.T, s *side) string {
			return p.lastToken(t, s, "hedy")
		}, `401 {"code":"user_inactive","detail":"User is inactive"} | Bearer realm="api"`, ""},
	} {
		if tt.ours == "" {
			tt.ours = tt.theirs
		}
		for _, s := range []*side{p.ours, p.theirs} {
			want := tt.theirs
			if s == p.ours {
				want = tt.ours
			}
			if got := ask(t, s.api, tt.token(t, s)).line(); got != want {
				t.Errorf("%s, %s: %s, want %s", s.name, tt.name, got, want)
			}
		}
	}
	// An API that refuses every token would pass all of the above.
	if a := ask(t, p.ours.api, access(t, p.ours)); a.status != 200 {
		t.Errorf("a valid token: %s, want 200", a.line())
	}
}

// lastToken returns the access token of a user who is disabled in Django right after the login.
func (p *pair) lastToken(t *testing.T, s *side, name string) string {
	t.Helper()
	p.project.run(t, nil, "enable", name)
	token := s.login(t, name).Access
	p.project.run(t, nil, "disable", name)
	return token
}

// anotherAPIRefuses: another API refuses a token for the shop, even one with the same users and
// the same key set.
func (p *pair) anotherAPIRefuses(t *testing.T) {
	warehouse := p.project.serveAPI(t, p.server.Issuer, "warehouse")
	if a := ask(t, warehouse, access(t, p.ours)); a.status != 401 || !strings.Contains(a.line(), "token_not_valid") {
		t.Errorf("the warehouse answers a token for the shop with %s, want 401", a.line())
	}
}

// userIDsMayBeWords: a project whose user ids are not numbers tells simplejwt which field holds
// the id.
func (p *pair) userIDsMayBeWords(t *testing.T) {
	srv := server.Start(t, server.Options{Config: "simplejwt:\n  client: web\n"})
	srv.Run(t, "audience", "add", audience, "--alg", "RS256", "--profile", "simplejwt")
	srv.Run(t, "client", "add", "web", "--public", "--grant", "refresh_token", "--audience", audience)
	// The user name is another one than in the project's row: the id decides.
	typed(t, srv, userNamed("Zoë").Password, "user", "add", "Zoë", "--id", "alice", "--password-stdin")
	api := p.project.serveAPI(t, srv.Issuer, audience, "PROJECT_USER_ID=username")
	token := (&side{name: "keymill", url: srv.Issuer}).login(t, "Zoë").Access
	if got, want := ask(t, api, token).line(), `200 {"id":1,"username":"alice"}`; got != want {
		t.Errorf("the API answers %s, want %s", got, want)
	}
}

// ourTokensSayWhatTheirsDo: every claim of simplejwt's tokens is in ours too, with a value of the
// same type.
func (p *pair) ourTokensSayWhatTheirsDo(t *testing.T) {
	theirs, ours := claims(t, access(t, p.theirs)), claims(t, access(t, p.ours))
	for name, value := range theirs {
		if got, want := fmt.Sprintf("%T", ours[name]), fmt.Sprintf("%T", value); got != want {
			t.Errorf("claim %s is %#v in ours and %#v in simplejwt's", name, ours[name], value)
		}
	}
	for _, name := range []string{"token_type", "user_id"} {
		if theirs[name] == nil || ours[name] != theirs[name] {
			t.Errorf("claim %s is %#v in ours and %#v in simplejwt's", name, ours[name], theirs[name])
		}
	}
}

func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("the token is not a JWT: %q", token)
	}
	var v map[string]any
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}
