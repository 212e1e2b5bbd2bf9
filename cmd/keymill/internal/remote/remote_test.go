package remote

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestATokenIsFetchedAgainBeforeItEnds and after the server has refused it, and not before each request.
func TestATokenIsFetchedAgainBeforeItEnds(t *testing.T) {
	fetched, lifetime := 0, 300
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			json.NewEncoder(w).Encode(map[string]string{"issuer": server.URL, "token_endpoint": server.URL + "/token"})
			return
		}
		fetched++
		if id, secret, _ := r.BasicAuth(); id != "deployer" || secret != "hush" || r.FormValue("audience") != "keymill-admin" {
			t.Errorf("%s %s %v", id, secret, r.Form)
		}
		json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("token", fetched), "expires_in": lifetime})
	}))
	defer server.Close()
	source := tokens{}
	source.request.Issuer, source.request.Client, source.request.Secret, source.request.Audience = server.URL, "deployer", "hush", "keymill-admin"
	next := func() string {
		t.Helper()
		token, err := source.token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	if a, b := next(), next(); a != "token1" || b != "token1" {
		t.Errorf("got %s and %s", a, b)
	}
	source.ends = source.ends.Add(-5 * time.Minute) // as after a long command
	if a, b := next(), next(); a != "token2" || b != "token2" {
		t.Errorf("after its end: %s and %s", a, b)
	}
	refused := &adminapi.Error{}
	refused.Code = "insufficient_scope"
	source.advise(refused)
	if a := next(); a != "token2" {
		t.Errorf("after a refusal for another reason: %s", a)
	}
	refused.Code = "invalid_token" // as after the end of the client's sessions
	source.advise(refused)
	if a, b := next(), next(); a != "token3" || b != "token3" {
		t.Errorf("after the server has refused it: %s and %s", a, b)
	}
	if left := time.Until(source.ends); left > 300*time.Second-early || left < 200*time.Second {
		t.Errorf("it is kept for %v", left)
	}
}

func TestOnlyAddressesOfListenersAreServers(t *testing.T) {
	for text, want := range map[string]bool{
		"https://id.example.com:8422": true, "https://id.example.com:8422/": true, "https://192.0.2.1": true, "http://127.0.0.1:8422": true,
		"http://localhost:8422": true, "http://[::1]:8422": true,
		"http://id.example.com:8422": false, "https://id.example.com/admin": false, "https://a:b@id.example.com": false, "id.example.com:8422": false,
		"https://": false, "https://id.example.com?x": false, "https://id.example.com#x": false, "unix:///run/admin.sock": false, "": false,
	} {
		if got, err := checkURL(text); (err == nil) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// TestTheTypedFlagsNameTheServerAgain on a command line that is shown, so that it can be pasted; variables stay as they are.
func TestTheTypedFlagsNameTheServerAgain(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	t.Setenv("KEYMILL_CLIENT_SECRET", "hush")
	t.Setenv("KEYMILL_ISSUER", "https://id.example.com")
	typed := map[string]string{"server": "https://id.example.com:8422/", "client-id": "deployer"}
	server, err := Dial(t.Context(), Request{Typed: func(flag string) (string, bool) { text, is := typed[flag]; return text, is }})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := server.Flags(), []string{"--server", "https://id.example.com:8422", "--client-id", "deployer"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
