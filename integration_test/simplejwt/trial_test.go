package simplejwt

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/integration_test/server"
)

// TestTheTrialUserIsNobodyInDjango: a project that trusts a trial server refuses the token of its user.
// In earlier versions the user was the project's first user, a superuser. The command that the trial
// server prints adds a row for the user.
func TestTheTrialUserIsNobodyInDjango(t *testing.T) {
	srv := server.Start(t, server.Options{Dev: true})
	_, line, found := strings.Cut(srv.Log(), "python manage.py shell -c \"")
	command, _, _ := strings.Cut(line, "\"\n")
	if !found {
		t.Fatalf("no command to add a row to Django in:\n%s", srv.Log())
	}
	raw, err := os.ReadFile(filepath.Join(srv.Data, "dev-credentials"))
	if err != nil {
		t.Fatal(err)
	}
	var known struct{ Users []user }
	if err := json.Unmarshal(raw, &known); err != nil || len(known.Users) != 1 {
		t.Fatalf("%d users in dev-credentials, %v", len(known.Users), err)
	}
	p := newProject(t)
	api := p.serveAPI(t, srv.Issuer, "dev-django")
	dev := known.Users[0]
	s := &side{name: "the trial server", url: srv.Issuer}
	token := s.tokens(t, post(obtainPath, fields{"username": dev.Name, "password": dev.Password})).Access
	if got, want := ask(t, api, token).line(), `401 {"code":"user_not_found","detail":"User not found"} | Bearer realm="api"`; got != want {
		t.Errorf("the API answers %s, want %s", got, want)
	}
	p.run(t, nil, "shell", "-c", command)
	if got, want := ask(t, api, token).line(), `200 {"id":2000000000,"username":"dev"}`; got != want {
		t.Errorf("after %s the API answers %s, want %s", command, got, want)
	}
}
