package crash

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

// A lived is a closed store that has records of every kind, and what its server acknowledged.
type lived struct {
	srv   *server.Server // stopped; nil in a case that was kept
	files []string       // its configuration, its master key and the secret of its webhook
	final stage
	older []stage // copies of the same store from earlier in its life

	keys      map[string]string // kid → public key, as published
	signers   map[string]string // client id → kid of its tokens
	clients   map[string]server.Client
	tokens    map[string]string // name → an access token
	active    map[string]bool   // name of a token → what /introspect says
	refreshes map[string]string // name → a refresh token
	live      map[string]bool   // name of a refresh token → whether it is accepted
	users     map[string]bool   // name → whether the login works; every password is server.Password
	pinned    map[string]string // name of a verifier → its credential
}

// A stage is the store and its mark at one time.
type stage struct {
	store, mark []byte
	records     map[string]string
	pages       []int // in use
}

const (
	longTokens = "24h" // longer than the longest run of the test
	storeName  = "keymill.db"
	markName   = "keymill.mark"
)

// live makes the store, with as many more users. Its server runs three times, and each stop leaves a stage.
func live(t *testing.T, more int) *lived {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "webhook.secret")
	line := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"
	if err := os.WriteFile(secret, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	closed, err := freeport.Address() // no receiver listens there, so that events wait
	if err != nil {
		t.Fatal(err)
	}
	srv := server.Start(t, server.Options{
		Config: server.WebConfig + "\nwebhook:\n  url: http://" + closed + "/\n  secret_file: " + secret,
	})
	w := &lived{
		srv: srv, files: []string{srv.Config(), filepath.Join(srv.Dir, "master.key"), secret},
		clients: map[string]server.Client{}, tokens: map[string]string{}, refreshes: map[string]string{},
		active: map[string]bool{}, live: map[string]bool{}, users: map[string]bool{}, keys: map[string]string{}, signers: map[string]string{},
		pinned: map[string]string{},
	}
	if more > 0 {
		w.importUsers(t, more)
	}
	for n, part := range []func(*testing.T){w.begin, w.restrict, w.moveKeys} {
		part(t)
		if n == 2 {
			w.acknowledge(t)
		}
		if err := srv.Stop(); err != nil {
			t.Fatal(err)
		}
		w.older = append(w.older, w.stage(t))
		if n < 2 {
			if err := srv.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	last := len(w.older) - 1
	w.final, w.older = w.older[last], w.older[:last]
	for key, want := range map[string]bool{
		"verifier/secret/001": true, "verifier/name/orders-api": true, "served/orders-api": true, "verifier/name/former": false, "served/former": false,
		"applied/verifier/applied-kept": true, "applied/verifier/applied-former": false, "verifier/name/applied-former": false,
	} {
		if _, found := w.final.records[key]; found != want {
			t.Errorf("the store has %s: %v", key, found)
		}
	}
	return w
}

func (w *lived) stage(t *testing.T) stage {
	t.Helper()
	store, err := os.ReadFile(filepath.Join(w.srv.Data, storeName))
	if err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(filepath.Join(w.srv.Data, markName))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStage(store, mark)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newStage(store, mark []byte) (stage, error) {
	f, err := readStoreFile(store)
	if err != nil {
		return stage{}, err
	}
	records, pages, err := f.all()
	return stage{store, mark, records, pages}, err
}

// begin adds audiences, clients, users, sessions and an imported key.
func (w *lived) begin(t *testing.T) {
	t.Helper()
	w.srv.AddWeb(t)
	run := func(args ...string) { t.Helper(); w.srv.Run(t, args...) }
	run("audience", "set", "orders", "--ttl", longTokens)
	run("audience", "add", "reports", "--alg", "RS256", "--ttl", longTokens)
	run("audience", "add", "trash")
	run("client", "set", server.Web, "--origin", "https://app.example")
	for id, audience := range map[string]string{"billing": "orders", "reporter": "reports", "off": "orders", "removed": "orders"} {
		w.clients[id] = w.srv.AddClient(t, id, audience)
	}
	var api server.Client
	w.srv.RunJSON(t, &api, "client", "add", "api", "--introspect", "orders", "--introspect", "reports")
	w.clients["api"] = api
	for id, name := range map[string]string{"8": "mallory", "9": "bob", "10": "carol"} {
		if _, errs, err := w.srv.VerbWith(t.Context(), server.Password+"\n", "user", "add", name, "--id", id, "--password-stdin"); err != nil {
			t.Fatal(errs)
		}
	}
	w.pin(t, "orders-api")
	w.pin(t, "former")
	w.apply(t, "verifiers: [{name: applied-kept}, {name: applied-former}]")
	w.refreshes["ended with all"] = w.login(t, "alice")
	run("session", "revoke", "--all", "--yes")
	for name, user := range map[string]string{"alice": "alice", "revoked by the client": "alice", "mallory": "mallory", "bob": "bob", "revoked": "carol"} {
		w.refreshes[name] = w.login(t, user)
	}
	for _, id := range []string{"off", "removed"} {
		w.tokens[id] = w.token(t, id)
	}
	run("key", "import", w.newKey(t, "a"), "--kid", "imported", "--until", time.Now().Add(240*time.Hour).UTC().Format(time.RFC3339))
	run("key", "import", w.newKey(t, "b"), "--kid", "dropped", "--until", time.Now().Add(240*time.Hour).UTC().Format(time.RFC3339))
}

// pin adds a verifier and lets it fetch the key set.
func (w *lived) pin(t *testing.T, name string) {
	t.Helper()
	var v struct {
		Credential string `json:"credential"`
	}
	w.srv.RunJSON(t, &v, "verifier", "add", name)
	w.pinned[name] = v.Credential
	w.fetchPinned(t, name)
}

func (w *lived) fetchPinned(t *testing.T, name string) {
	t.Helper()
	if status, _, err := w.srv.Get(t.Context(), keySetPath+"?verifier="+w.pinned[name]); err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
}

// apply applies entries, and prunes the others.
func (w *lived) apply(t *testing.T, entries string) {
	t.Helper()
	if _, errs, err := w.srv.VerbWith(t.Context(), entries, "apply", "-f", "-", "--prune", "--yes"); err != nil {
		t.Fatal(errs)
	}
}

// importUsers adds users with one command.
func (w *lived) importUsers(t *testing.T, n int) {
	t.Helper()
	var list []map[string]any
	for id := range n {
		list = append(list, map[string]any{"model": "auth.user", "pk": 1000 + id, "fields": map[string]any{
			"username": fmt.Sprintf("user%d", id), "password": "", "is_active": true,
		}})
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "users.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.srv.Run(t, "user", "import", path, "--format", "django-json")
}

// restrict disables, removes and revokes.
func (w *lived) restrict(t *testing.T) {
	t.Helper()
	run := func(args ...string) { t.Helper(); w.srv.Run(t, args...) }
	w.refreshes["alice"] = w.refresh(t, w.refreshes["alice"], "of alice")
	w.refresh(t, w.refreshes["mallory"], "of mallory")
	run("user", "disable", "mallory")
	run("user", "remove", "bob")
	run("client", "disable", "off")
	run("client", "remove", "removed")
	run("audience", "remove", "trash")
	run("verifier", "remove", "former")
	w.apply(t, "verifiers: [{name: applied-kept}]")
	run("key", "revoke", "dropped")
	family, _, err := server.ReadToken(w.refreshes["revoked"])
	if err != nil {
		t.Fatal(err)
	}
	run("session", "revoke", family)
	if a, err := w.srv.Revoke(t.Context(), server.Web, w.refreshes["revoked by the client"]); err != nil || a.Status != http.StatusOK {
		t.Fatal(a, err)
	}
	w.tokens["of the first key"] = w.activeToken(t, "billing")
	w.tokens["denied"] = w.activeToken(t, "billing")
	if status := w.form(t, w.srv.URL, "/revoke", "billing", url.Values{"token": {w.tokens["denied"]}}).Status; status != http.StatusOK {
		t.Fatal(status)
	}
}

// moveKeys rotates twice and revokes the key in the middle.
func (w *lived) moveKeys(t *testing.T) {
	t.Helper()
	for n := range 2 {
		await(t, "a spare and a reserve", func() bool { return strings.Count(w.srv.Run(t, "key", "list", "--json"), `"reserve"`) == 2 })
		w.srv.Run(t, "key", "rotate", "--alg", "EdDSA", "--force")
		if n == 0 {
			w.tokens["of the revoked key"] = w.token(t, "billing")
		}
	}
	w.srv.Run(t, "key", "revoke", kidOf(w.tokens["of the revoked key"]))
	await(t, "a spare and a reserve", func() bool { return strings.Count(w.srv.Run(t, "key", "list", "--json"), `"reserve"`) == 2 })
	w.fetchPinned(t, "orders-api")
	w.refreshes["alice"] = w.refresh(t, w.refreshes["alice"], "of alice again")
	w.tokens["billing"], w.tokens["reporter"] = w.activeToken(t, "billing"), w.activeToken(t, "reporter")
}

// acknowledge asks the server for what it says now. Every later start must say the same.
func (w *lived) acknowledge(t *testing.T) {
	t.Helper()
	w.active = map[string]bool{
		"billing": true, "reporter": true, "of alice": true, "of alice again": true, "of the first key": true,
		"denied": false, "of the revoked key": false, "off": false, "removed": false, "of mallory": false, "forged": false,
	}
	w.tokens["forged"] = forgedToken(w.tokens["billing"])
	w.live = map[string]bool{"alice": true, "mallory": false, "bob": false, "revoked": false, "revoked by the client": false, "ended with all": false}
	w.users = map[string]bool{server.Person: true, "carol": true, "mallory": false, "bob": false, "evil": false}
	for _, id := range []string{"billing", "reporter"} {
		w.signers[id] = kidOf(w.tokens[id])
	}
	status, body, err := w.srv.Get(t.Context(), keySetPath)
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	w.keys = keysOf(body)
	for name, want := range w.active {
		a := w.form(t, w.srv.URL, "/introspect", "api", url.Values{"token": {w.tokens[name]}})
		if got := strings.Contains(string(a.Body), `"active":true`); a.Status != http.StatusOK || got != want {
			t.Fatalf("token %s: %s", name, a)
		}
	}
}

// newKey makes a file with a new private key.
func (w *lived) newKey(t *testing.T, name string) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name+".pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (w *lived) login(t *testing.T, user string) string {
	t.Helper()
	a, err := post(t.Context(), w.srv.URL+"/api/token/", "", "", "application/json", loginBody(user))
	if err != nil || a.Status != http.StatusOK {
		t.Fatal(user, a, err)
	}
	return a.Field("refresh")
}

func loginBody(user string) string {
	return fmt.Sprintf(`{"username":%q,"password":%q}`, user, server.Password)
}

// refresh presents a refresh token, keeps the access token under name, and returns the next one.
func (w *lived) refresh(t *testing.T, token, name string) string {
	t.Helper()
	a, err := w.srv.Refresh(t.Context(), server.Web, token)
	if err != nil || a.Status != http.StatusOK {
		t.Fatal(a, err)
	}
	w.tokens[name] = a.Field("access_token")
	return a.Field("refresh_token")
}

func (w *lived) token(t *testing.T, client string) string {
	t.Helper()
	a := w.form(t, w.srv.URL, "/token", client, url.Values{"grant_type": {"client_credentials"}})
	if a.Status != http.StatusOK {
		t.Fatal(client, a)
	}
	return a.Field("access_token")
}

// activeToken returns a token that is active. One of the second in which all sessions ended is not.
func (w *lived) activeToken(t *testing.T, client string) (token string) {
	t.Helper()
	await(t, "an active token", func() bool {
		token = w.token(t, client)
		a := w.form(t, w.srv.URL, "/introspect", "api", url.Values{"token": {token}})
		return strings.Contains(string(a.Body), `"active":true`)
	})
	return token
}

func (w *lived) form(t *testing.T, base, path, client string, form url.Values) server.Answer {
	t.Helper()
	a, err := post(t.Context(), base+path, client, w.clients[client].Secret, formType, form.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const formType = "application/x-www-form-urlencoded"

// post sends one request, with Basic credentials unless user is empty.
func post(ctx context.Context, to, user, password, contentType, body string) (server.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", to, strings.NewReader(body))
	if err != nil {
		return server.Answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	return answer(http.DefaultClient.Do(req))
}

// answer reads an answer.
func answer(resp *http.Response, err error) (server.Answer, error) {
	if err != nil {
		return server.Answer{}, err
	}
	defer resp.Body.Close()
	a := server.Answer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return a, err
}

// forgedToken returns the claims of a token, signed with the key of an attacker.
func forgedToken(token string) string {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	signed := token[:strings.LastIndexByte(token, '.')]
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(seed), []byte(signed)))
}
