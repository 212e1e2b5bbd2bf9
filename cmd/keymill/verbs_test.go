package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// trial is a configuration whose keys rotate within a minute.
const trial = "issuer: https://id.example.com\nkeys: {rotate_every: 60s, propagation: 30s}\njwks: {max_age: 15s}\n"

func (p *place) startTrial() *child {
	p.t.Helper()
	path := filepath.Join(p.dir, "keymill.yaml")
	if err := os.WriteFile(path, []byte(trial), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return p.start("--config", path)
}

// TestOriginsOnAnotherSiteAreWarnedAbout on standard error, and only when they are given. Standard
// output stays what a script reads.
func TestOriginsOnAnotherSiteAreWarnedAbout(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	p.must(nil, "audience", "add", "orders")
	for name, tt := range map[string]struct {
		origins []string
		warned  []string
	}{
		"none":    {nil, nil},
		"same":    {[]string{"https://app.example.com", "https://example.com:8443"}, nil},
		"domain":  {[]string{"https://app.example.org"}, []string{"https://app.example.org"}},
		"suffix":  {[]string{"https://app.example", "https://app.example.com"}, []string{"https://app.example"}},
		"local":   {[]string{"http://localhost:5173", "http://127.0.0.1:3000"}, []string{"http://127.0.0.1:3000", "http://localhost:5173"}},
		"app":     {[]string{"capacitor://localhost"}, []string{"capacitor://localhost"}},
		"android": {[]string{"https://localhost"}, []string{"https://localhost"}},
	} {
		var flags []string
		for _, o := range tt.origins {
			flags = append(flags, "--origin", o)
		}
		for _, args := range [][]string{{"client", "add", name, "--grant", "client_credentials", "--audience", "orders"}, {"client", "set", name}} {
			if args[1] == "set" && flags == nil {
				flags = []string{"--idle", "2h"}
			}
			for _, more := range [][]string{{"--json"}, nil} {
				if args[1] == "add" && more == nil {
					p.must(nil, "client", "remove", name)
				}
				out, errs, code := p.run(slices.Concat(args, flags, more)...)
				lines := strings.Split(strings.TrimSuffix(errs, "\n"), "\n")
				if errs == "" {
					lines = nil
				}
				if code != 0 || len(lines) != len(tt.warned) || strings.Contains(out, "another site") != (more != nil && strings.Contains(errs, "another site")) {
					t.Errorf("%q: code %d, %q, %s", args, code, lines, out)
					continue
				}
				for n, line := range lines {
					if !strings.HasPrefix(line, "keymill: warning: ") || !strings.Contains(line, tt.warned[n]) || !strings.Contains(line, "simplejwt endpoint") {
						t.Errorf("%q: %s", args, line)
					}
				}
				var c api.Client
				if more != nil && (json.Unmarshal([]byte(out), &c) != nil || len(c.Warnings) != len(tt.warned)) {
					t.Errorf("%q: %s", args, out)
				}
			}
		}
	}
}

// TestTheFormOfAnOriginIsExplained by client add and client set alike.
func TestTheFormOfAnOriginIsExplained(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	p.must(nil, "client", "add", "page", "--public", "--origin", "chrome-extension://abcdefghijklmnopabcdefghijklmnop", "--origin", "http://tauri.localhost")
	for origin, advice := range map[string]string{
		"https://app.example.com/": "such as https://app.example.com", "http://192.168.1.5:3000": "set insecure: true",
		"null": "sandboxed", "app://localhost": "capacitor://localhost", "https://*.example.com": "list each origin",
	} {
		_, add, code := p.run("client", "add", "odd", "--public", "--origin", origin)
		_, set, _ := p.run("client", "set", "page", "--origin", origin)
		if code != 1 || add != set || !strings.HasPrefix(add, "keymill: origin '"+origin+"' ") || !strings.Contains(add, advice) {
			t.Errorf("%s: code %d, %s%s", origin, code, add, set)
		}
	}
}

// TestAnAudienceHasEdDSAUnlessToldOtherwise.
func TestAnAudienceHasEdDSAUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	for name, tt := range map[string]struct {
		want  string
		flags []string
	}{
		"plain":    {"EdDSA", nil},
		"scoped":   {"EdDSA", []string{"--ttl", "5m", "--scope", "read"}},
		"profiled": {"EdDSA", []string{"--profile", "rfc9068"}},
		"said":     {"EdDSA", []string{"--alg", "EdDSA"}},
		"rsa":      {"RS256", []string{"--alg", "RS256"}},
		"django":   {"RS256", []string{"--profile", "simplejwt", "--alg", "RS256"}},
	} {
		var a api.Audience
		if p.must(&a, append([]string{"audience", "add", name, "--json"}, tt.flags...)...); a.Alg != tt.want {
			t.Errorf("%s: %+v, want alg %s", name, a, tt.want)
		}
	}
}

// TestTheLifeOfAnAudienceAndAClient runs the commands of an operator in order.
func TestTheLifeOfAnAudienceAndAClient(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	out := p.must(nil, "audience", "add", "orders", "--alg", "EdDSA", "--ttl", "15m", "--scope", "read", "--scope", "write")
	if !strings.Contains(out, "orders    EdDSA  15m0s  rfc9068  read write") {
		t.Errorf("audience add:\n%s", out)
	}
	p.must(nil, "audience", "add", "shop", "--alg", "RS256", "--profile", "simplejwt", "--json")
	var audiences []api.Audience
	if p.must(&audiences, "audience", "list", "--json"); len(audiences) != 2 || audiences[0].Name != "orders" {
		t.Errorf("audience list: %v", audiences)
	}
	var a api.Audience
	if p.must(&a, "audience", "set", "orders", "--ttl", "5m", "--json"); a.TTL != "5m0s" || len(a.Scopes) != 2 {
		t.Errorf("audience set: %+v", a)
	}

	out = p.must(nil, "client", "add", "billing", "--grant", "client_credentials", "--audience", "orders", "--scope", "read", "--json")
	if !regexp.MustCompile(`^\{\s*"client_id": "billing",\s*"client_secret": "[^"]{40,}",`).MatchString(out) {
		t.Errorf("client add does not begin with id and secret:\n%s", out)
	}
	var made, show api.Client
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	if p.must(&show, "client", "show", "billing", "--json"); show.Secret != "" {
		t.Error("the secret is shown twice")
	}
	answer := func(secret refusal.Secret) int {
		status, _, err := requestToken(http.DefaultClient, c.address, "billing", string(secret))
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	var rotated api.Client
	p.must(&rotated, "client", "rotate-secret", "billing", "--old-for", "24h", "--json")
	if rotated.OldSecretUntil == nil || answer(made.Secret) != 200 || answer(rotated.Secret) != 200 {
		t.Errorf("the two secrets are not both valid: %+v", rotated)
	}
	p.must(nil, "client", "disable", "billing")
	if status := answer(rotated.Secret); status == 200 {
		t.Error("a disabled client gets tokens")
	}
	p.must(nil, "client", "enable", "billing")
	if status := answer(rotated.Secret); status != 200 {
		t.Errorf("an enabled client gets %d", status)
	}
	if p.must(&show, "client", "set", "billing", "--scope", "", "--json"); len(show.Scopes) != 0 || len(show.Audiences) != 1 {
		t.Errorf("client set: %+v", show)
	}
	if _, errs, code := p.run("audience", "remove", "orders"); code != 1 || strings.Count(errs, "\n") > 2 {
		t.Errorf("an audience in use: code %d, %s", code, errs)
	}
	p.must(nil, "client", "remove", "billing")
	p.must(nil, "audience", "remove", "orders")
	if _, errs, code := p.run("audience", "show", "orders"); code != 1 || !strings.HasPrefix(errs, "keymill: ") {
		t.Errorf("a removed audience: code %d, %s", code, errs)
	}
	p.auditNames("audience.add", "client.add", "client.remove", "audience.remove")
}

// auditNames waits until all these actions are among the newest records.
func (p *place) auditNames(actions ...string) {
	p.t.Helper()
	var out string
	if !eventually(failsafe, func() bool { // records are chained once a second
		out = p.must(nil, "audit", "tail", "-n", "100")
		for _, action := range actions {
			if !strings.Contains(out, action) {
				return false
			}
		}
		return true
	}) {
		p.t.Errorf("not all of %v are in:\n%s", actions, out)
	}
	for line := range strings.Lines(out) {
		who := "uid:" + strconv.Itoa(os.Getuid())
		if strings.Contains(line, "  client.") && !strings.Contains(line, who) {
			p.t.Errorf("%s is not named: %s", who, line)
		}
	}
}

// TestKeysCanBeRotatedRevokedAndImported, and a rotation that is too early needs --force.
func TestKeysCanBeRotatedRevokedAndImported(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.startTrial()
	stage := func(alg, stage string) (found api.Key) {
		t.Helper()
		var keys []api.Key
		p.must(&keys, "key", "list", "--json")
		for _, k := range keys {
			if k.Alg == alg && k.Stage == stage {
				found = k
			}
		}
		return found
	}
	active, spare := stage("EdDSA", "active"), stage("EdDSA", "spare")
	out, errs, code := p.run("key", "rotate", "--alg", "EdDSA", "--json")
	if code != 1 || out != "" || !regexp.MustCompile(`^keymill: .*20\d\d-\d\d-\d\dT.*\n  hint: wait \d+s, let the command wait with --wait 1m, or rotate now with --force\n$`).MatchString(errs) {
		t.Errorf("too early: code %d, %q, %q", code, out, errs)
	}
	var r api.Rotation
	p.must(&r, "key", "rotate", "--alg", "EdDSA", "--force", "--json")
	if r.KID != spare.KID || r.Previous != active.KID || r.UnknownUntil == nil {
		t.Errorf("forced: %+v; active was %s, spare %s", r, active.KID, spare.KID)
	}
	if got := stage("EdDSA", "active").KID; got != spare.KID {
		t.Errorf("%s signs, not %s", got, spare.KID)
	}
	out = p.must(nil, "key", "revoke", spare.KID)
	if !strings.Contains(out, "was active") || !strings.Contains(out, "services with a cached key set may accept its tokens until 20") || !strings.Contains(out, "signs now:") {
		t.Errorf("revoke:\n%s", out)
	}
	if _, errs, code := p.run("key", "revoke", spare.KID); code != 1 || strings.Count(errs, "\n") != 1 {
		t.Errorf("revoked twice: code %d, %s", code, errs)
	}
	p.importKeys()
	p.auditNames("key.rotate", "key.revoke", "key.import")
}

func (p *place) importKeys() {
	p.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		p.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		p.t.Fatal(err)
	}
	p.writeKey("old.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	var k api.Key
	p.must(&k, "key", "import", "old.pem", "--alg", "RS256", "--kid", "2024-01", "--until", until, "--json")
	if k.KID != "2024-01" || k.Stage != "retiring" {
		p.t.Errorf("import: %+v", k)
	}
	if _, errs, code := p.run("key", "import", "old.pem", "--kid", "2024-01", "--until", until); code != 1 || !strings.HasPrefix(errs, "keymill: ") {
		p.t.Errorf("imported twice: code %d, %s", code, errs)
	}
}

// TestLongListsAreComplete, although the command asks page by page.
func TestLongListsAreComplete(t *testing.T) {
	t.Parallel()
	const total = 2*adminapi.PageSize + 3
	names := make([]string, total)
	server := newPagedServer(t, names)
	all, raw, err := adminapi.AskAll(t.Context(), server, "audiences", func(a api.Audience) string { return a.Name })
	if err != nil || len(all) != total || strings.Count(string(raw), `"audience"`) != total {
		t.Errorf("%d of %d, %v", len(all), total, err)
	}
}

// TestAuditTailFollows: it prints each new record once.
func TestAuditTailFollows(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	out := &terminaltest.Buffer{}
	p.auditNames("store.create") // and with it all that the start left
	if out := p.must(nil, "audit", "tail", "-n", "0", "--json"); out != "" {
		t.Errorf("no record was asked for, printed:\n%s", out)
	}
	tail := exec.Command(program(t), "audit", "tail", "-n", "1", "-f", "--json")
	tail.Env, tail.Dir, tail.Stdout = p.env(), p.dir, out
	tail.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { tail.Process.Kill(); tail.Wait() }()
	if !eventually(failsafe, func() bool { return strings.Contains(out.String(), "\n") }) {
		t.Fatal("the newest record was not printed")
	}
	p.must(nil, "audience", "add", "orders", "--alg", "EdDSA")
	p.must(nil, "audience", "add", "returns", "--alg", "EdDSA")
	if !eventually(failsafe, func() bool { return strings.Count(out.String(), "audience.add") == 2 }) {
		t.Errorf("printed:\n%s", out)
	}
	time.Sleep(2200 * time.Millisecond) // until it has asked twice again
	if again := strings.Count(out.String(), "audience.add"); again != 2 {
		t.Errorf("%d records of 2 additions", again)
	}
	for line := range strings.Lines(out.String()) {
		if !json.Valid([]byte(line)) || strings.Contains(line, "store.create") {
			t.Errorf("unexpected line: %s", line)
		}
	}
}

// TestASecretIsSentToItsIssuerOnly, and not over plain http.
func TestASecretIsSentToItsIssuerOnly(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	t.Chdir(t.TempDir())
	t.Setenv("KEYMILL_CLIENT_SECRET", "very secret")
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" || r.Header.Get("Authorization") != "" {
			t.Error("the secret was sent")
		}
		asked++
		switch {
		case asked == 1:
			w.Write([]byte(`{"issuer":"https://other.example","token_endpoint":"https://other.example/token"}`))
		case asked == 2:
			w.Write([]byte(`{"issuer":"http://` + r.Host + `","token_endpoint":"http://192.0.2.1/token"}`))
		default:
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}
	}))
	defer server.Close()
	for _, want := range []string{"the server's issuer is", "the token endpoint \"http://192.0.2.1/token\" is neither", "answered with status 307"} {
		t.Setenv("KEYMILL_CLIENT_SECRET", "very secret") // the command removes it from the environment
		_, errs, code := typed("token", "--issuer", server.URL, "--client", "billing")
		if code != 1 || !strings.Contains(errs, want) || strings.Contains(errs, "very secret") {
			t.Errorf("code %d, %s; want %s", code, errs, want)
		}
	}
	t.Setenv("KEYMILL_CLIENT_SECRET", "very secret")
	if _, errs, code := typed("token", "--issuer", "http://192.0.2.1", "--client", "billing"); code != 1 || !strings.Contains(errs, "neither https nor loopback") {
		t.Errorf("code %d, %s", code, errs)
	}
}

// TestOddClientNamesGetTokens: both parts of the header are form-encoded.
//
// R11.
func TestOddClientNamesGetTokens(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.startDev()
	const id = "a b:c%+d&e"
	var made api.Client
	p.must(&made, "client", "add", id, "--grant", "client_credentials", "--audience", "dev-api", "--json")
	for _, tt := range []struct {
		secret string
		code   int
	}{{string(made.Secret), 0}, {string(made.Secret) + "x", 1}} {
		out, errs, code := p.runWith(append(p.env(), "KEYMILL_CLIENT_SECRET="+tt.secret), "token", "--client", id)
		if code != tt.code || strings.Contains(out+errs, string(made.Secret)) || (strings.Count(out, ".") == 2) != (code == 0) {
			t.Errorf("code %d, %s%s", code, out, errs)
		}
	}
}

// TestVerifySaysWhichCheckFailed in words and, for programs, by name.
func TestVerifySaysWhichCheckFailed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.startDev()
	token := strings.TrimSpace(p.must(nil, "token", "--client", "dev-service", "--scope", "read"))
	issuer := p.credentials().Issuer
	for _, tt := range []struct{ token, audience, check string }{
		{token, "dev-django", "audience"},
		{token[:len(token)-4] + "AAAA", "dev-api", "signature"},
		{"no token", "dev-api", "form"},
		{token + "." + token, "dev-api", "form"},
	} {
		var v diagnose.TokenReport
		out, _, code := p.run("verify", tt.token, "--issuer", issuer, "--audience", tt.audience, "--json")
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != 1 || v.Valid || v.Check != tt.check || v.Reason == "" {
			t.Errorf("%s: code %d, %v, %s", tt.check, code, err, out)
		}
		_, errs, code := p.run("verify", tt.token, "--issuer", issuer, "--audience", tt.audience)
		if code != 1 || !strings.HasPrefix(errs, "keymill: the token is refused: ") || strings.Contains(errs, tt.token) {
			t.Errorf("%s: code %d, %s", tt.check, code, errs)
		}
	}
	var v diagnose.TokenReport
	if p.must(&v, "verify", token, "--audience", "dev-api", "--json"); !v.Valid || !strings.Contains(string(v.Claims), `"scope":"read"`) && !strings.Contains(string(v.Claims), `"scope": "read"`) {
		t.Errorf("a good token: %+v", v)
	}
	if out := p.must(nil, "verify", token, "--audience", "dev-api"); !strings.Contains(out, "subject:      dev-service") {
		t.Errorf("a good token:\n%s", out)
	}
}
