package simplejwt

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"keymill/integration_test/server"
)

// people are the users of a project with its own user model, which log in with their email.
var people = []user{
	{Name: "ada@shop.example", Password: "ada tells no one", Hasher: "pbkdf2_sha256"},
	{Name: "Bob@Shop.example", Password: "bob tells no one", Hasher: "pbkdf2_sha256"},
	{Name: "cy@shop.example"},
}

// TestAProjectWithItsOwnUserModelMoves: USERNAME_FIELD of the model is the field in requests and in
// errors, and the API finds the users.
func TestAProjectWithItsOwnUserModelMoves(t *testing.T) {
	p := newProjectWith(t, "accounts.Person", people)
	srv := server.Start(t, server.Options{
		Config: "simplejwt:\n  client: web\n  username_field: email\nhttp:\n  trusted_proxies: [127.0.0.1]\n",
	})
	srv.Run(t, "audience", "add", audience, "--alg", "RS256", "--profile", "simplejwt")
	srv.Run(t, "client", "add", "web", "--public", "--grant", "refresh_token", "--audience", audience)
	dump := filepath.Join(t.TempDir(), "dump.json")
	if err := os.WriteFile(dump, p.run(t, nil, "dumpdata", "accounts.person"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv.Run(t, "user", "import", dump, "--username-field", "email")

	own := p.serve(t)
	theirs := &side{name: "simplejwt", url: own, api: own}
	ours := &side{name: "keymill", url: srv.Issuer, api: p.serveAPI(t, srv.Issuer, audience)}
	for i, person := range people[:2] {
		want := fmt.Sprintf(`200 {"id":%d,"username":%q}`, i+1, person.Name)
		for _, s := range []*side{theirs, ours} {
			token := s.tokens(t, post(obtainPath, fields{"email": person.Name, "password": person.Password})).Access
			if got := ask(t, s.api, token).line(); got != want {
				t.Errorf("%s: the API answers %s, want %s", s.name, got, want)
			}
		}
	}
	ada := people[0].Password
	for name, c := range map[string]call{
		"nothing":                  post(obtainPath, fields{}),
		"the field of Django":      post(obtainPath, fields{"username": "ada@shop.example", "password": ada}),
		"both fields":              post(obtainPath, fields{"username": "x", "email": "ada@shop.example", "password": ada}),
		"the field in capitals":    post(obtainPath, fields{"EMAIL": "ada@shop.example", "password": ada}),
		"no address":               post(obtainPath, fields{"email": "not an address", "password": ada}),
		"a blank":                  post(obtainPath, fields{"email": " \u3000", "password": ada}),
		"null":                     post(obtainPath, fields{"email": nil, "password": nil}),
		"a list":                   post(obtainPath, fields{"email": []string{"ada@shop.example"}, "password": ada}),
		"a number":                 post(obtainPath, fields{"email": 7, "password": ada}),
		"a null byte":              post(obtainPath, fields{"email": "ada\x00", "password": ada}),
		"white space":              post(obtainPath, fields{"email": "\u00a0ada@shop.example\n", "password": "\x1f" + ada}),
		"other case":               post(obtainPath, fields{"email": "bob@shop.example", "password": people[1].Password}),
		"no password to log in":    post(obtainPath, fields{"email": "cy@shop.example", "password": ada}),
		"a form":                   postBytes(obtainPath, "application/x-www-form-urlencoded", url.Values{"email": {"ada@shop.example"}, "password": {ada}}.Encode()),
		"a form without the field": postBytes(obtainPath, "application/x-www-form-urlencoded", "username=ada&password=x"),
	} {
		if theirs, ours := do(t, theirs.url, c).line(), do(t, ours.url, c).line(); theirs != ours {
			t.Errorf("%s\n\tsimplejwt %s\n\tours      %s", name, theirs, ours)
		}
	}
}
