package verifiers

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/pages"
	"keymill/integration_test/server"
)

// A mailServer is Debian's Dovecot with the blocks of docs/verify/dovecot.md.
type mailServer struct {
	service
	dir    string
	imap   string             // address
	update func(t *testing.T) // runs the script of the page
}

// dovecot is Dovecot that verifies by itself. It is not in libraries, because it takes only the type JWT.
func dovecot() library {
	return library{name: "dovecot", algs: noEd, sight: seesNoKid,
		gaps:  []gap{anyAudience, ignoresCrit, readsLoosely, keepsRevokedKey, slowToNewKeys},
		es256: []gap{takesPadding}}
}

// dovecotAsks is Dovecot that asks Keymill.
func dovecotAsks() library {
	return library{name: "dovecot, asking", algs: both, gaps: []gap{takesAnyAlgorithm}}
}

const dovecotBase = `base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = imap
ssl = no
auth_mechanisms = plain
auth_failure_delay = 0
auth_debug = yes
mail_location = maildir:DIR/mail/%u
first_valid_uid = 1
service imap-login {
  inet_listener imap {
    address = 127.0.0.1
    port = PORT
  }
  inet_listener imaps {
    port = 0
  }
}
# Tests fail to log in many times.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
userdb {
  driver = static
  args = uid=mail gid=mail home=DIR/mail/%u
}
`

// startDovecot starts it for an audience, with the block of the page that has the mode. replace has other texts for that block.
func startDovecot(t *testing.T, l library, srv *server.Server, alg, mode string, replace ...string) *mailServer {
	t.Helper()
	for _, file := range []string{"/usr/sbin/dovecot", "/usr/lib/dovecot/imap-login"} {
		if _, err := os.Stat(file); err != nil {
			didNotStart(t, missing{file})
		}
	}
	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("only root can start Dovecot, whose parts run as several users")
	}
	dir, err := os.MkdirTemp("", "dv") // t.TempDir is not for other users, and too long for a socket
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "mail"), 0o700), os.Chmod(filepath.Join(dir, "mail"), 0o777))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := pages.ReadOne(root, "docs/verify/dovecot.md")
	if err != nil {
		t.Fatal(err)
	}
	m := &mailServer{service: l.prepare(t, alg), dir: dir, imap: address}
	block := func(language, contains string, replace ...string) string {
		b, found := page.Find(language, contains)
		for n := 0; n < len(replace); n += 2 {
			found = found && strings.Contains(b.Text, replace[n])
		}
		if !found {
			t.Fatalf("the page has no block of %s with %q and %q", language, contains, replace)
		}
		return strings.NewReplacer(replace...).Replace(b.Text)
	}
	_, port, _ := net.SplitHostPort(address)
	base := strings.NewReplacer("DIR", dir, "PORT", port).Replace(dovecotBase)
	put(t, filepath.Join(dir, "dovecot.conf"), base+block("text", "passdb {", "/etc/dovecot", dir))
	if mode == "local" {
		replace = append(replace, "/etc/dovecot", dir)
	}
	put(t, filepath.Join(dir, "dovecot-oauth2.conf.ext"), block("text", "introspection_mode = "+mode, replace...))
	if mode == "local" {
		script := block("sh", "keymill key export", "https://id.example.com", srv.Issuer, "/etc/dovecot", dir, "RS256", alg)
		m.update = func(t *testing.T) { t.Helper(); m.runScript(t, srv, script) }
		m.update(t)
	}
	m.launch(t)
	front := httptest.NewServer(http.HandlerFunc(m.front))
	t.Cleanup(front.Close)
	m.url = front.URL
	return m
}

// runScript runs the script of the page with a systemctl that reloads this Dovecot if it runs.
func (m *mailServer) runScript(t *testing.T, srv *server.Server, script string) {
	t.Helper()
	bin := filepath.Join(m.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	reload := fmt.Sprintf("#!/bin/sh\n[ ! -e %[1]s/run/master.pid ] || exec doveadm -c %[1]s/dovecot.conf reload\n", m.dir)
	put(t, filepath.Join(bin, "systemctl"), reload)
	binary, err := filepath.Abs(srv.Binary())
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(bin, "keymill"))
	if err := errors.Join(os.Chmod(filepath.Join(bin, "systemctl"), 0o755), os.Symlink(binary, filepath.Join(bin, "keymill"))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(server.Environment(), "PATH="+bin+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// launch starts Dovecot and waits until it greets. It ends with the test, and with this process.
func (m *mailServer) launch(t *testing.T) {
	t.Helper()
	// SIGTERM when this process ends: after a SIGKILL its other processes would go on for a while.
	cmd := exec.Command("setpriv", "--pdeathsig", "TERM", "/usr/sbin/dovecot", "-F", "-c", filepath.Join(m.dir, "dovecot.conf"))
	cmd.Stderr = t.Output()
	running, err := server.Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("doveadm", "-c", filepath.Join(m.dir, "dovecot.conf"), "stop").CombinedOutput(); err != nil {
			t.Errorf("stop Dovecot: %v: %s", err, out)
			running.Close()
		}
		<-running.Done()
		if text, _ := os.ReadFile(filepath.Join(m.dir, "log")); t.Failed() {
			t.Logf("log of %s:\n%.20000s", m.name, text)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := m.dial()
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Dovecot does not greet: %v", err)
		}
	}
}

// A mailbox is a connection of a mail client.
type mailbox struct {
	net.Conn
	lines *bufio.Reader
}

func (m *mailServer) dial() (*mailbox, error) {
	conn, err := net.Dial("tcp", m.imap)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	c := &mailbox{conn, bufio.NewReader(conn)}
	if line, err := c.lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK") {
		conn.Close()
		return nil, fmt.Errorf("greeting %q, %w", line, err)
	}
	return c, nil
}

// command sends a command and returns its last answer, such as "OK Logged in.". It ends a SASL exchange that asks for more.
func (c *mailbox) command(text string) (string, error) {
	fmt.Fprintf(c, "a %s\r\n", text)
	for {
		line, err := c.lines.ReadString('\n')
		switch answer, last := strings.CutPrefix(line, "a "); {
		case err != nil:
			return "", err
		case last:
			return strings.TrimSpace(answer), nil
		case strings.HasPrefix(line, "+"):
			fmt.Fprint(c, "AQ==\r\n") // RFC 7628, section 3.2.3
		}
	}
}

// login logs a user in with a token (RFC 7628).
func (m *mailServer) login(user, token string) (*mailbox, string, error) {
	c, err := m.dial()
	if err != nil {
		return nil, "", err
	}
	first := fmt.Sprintf("n,a=%s,\x01auth=Bearer %s\x01\x01", user, token)
	answer, err := c.command("AUTHENTICATE OAUTHBEARER " + base64.StdEncoding.EncodeToString([]byte(first)))
	if err != nil || !strings.HasPrefix(answer, "OK") {
		c.Close()
		return nil, answer, err
	}
	return c, answer, nil
}

// front answers as the services of this package do. The user is the one that the token names, as a mail client of that user would.
func (m *mailServer) front(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	user := subjectOf(token)
	c, answer, err := m.login(user, token)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
	case c == nil && strings.HasPrefix(answer, "NO"):
		http.Error(w, answer, http.StatusUnauthorized)
	case c == nil:
		http.Error(w, answer, http.StatusBadGateway)
	default:
		defer c.Close()
		if answer, err := c.command("SELECT INBOX"); err != nil || !strings.HasPrefix(answer, "OK") {
			http.Error(w, fmt.Sprintf("after the login: %s, %v", answer, err), http.StatusBadGateway)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"sub": user})
	}
}

// subjectOf reads the subject of a token that may be anything.
func subjectOf(token string) string {
	var claims struct{ Sub string }
	if parts := strings.Split(token, "."); len(parts) > 1 {
		b, _ := base64.RawURLEncoding.DecodeString(parts[1])
		json.Unmarshal(b, &claims)
	}
	if claims.Sub == "" {
		return "someone"
	}
	return claims.Sub
}

// mailIssuer runs a server with orders, whose tokens have the type at+jwt, and shop and stock, whose tokens have the type JWT.
func mailIssuer(t *testing.T) (*server.Server, map[string]server.Client) {
	t.Helper()
	srv := server.Start(t, server.Options{Config: slowOfAll + "\n" + server.WebConfig})
	srv.Run(t, "audience", "add", "orders", "--scope", "imap", "--ttl", "10m")
	clients := map[string]server.Client{"EdDSA": srv.AddClient(t, "billing-eddsa", "orders")}
	for _, alg := range noEd {
		srv.Run(t, "audience", "add", audienceOf(alg), "--alg", alg, "--type", "JWT", "--scope", "imap", "--ttl", "10m")
		clients[alg] = srv.AddClient(t, "billing-"+strings.ToLower(alg), audienceOf(alg))
	}
	for _, c := range clients {
		srv.Run(t, "client", "set", c.ID, "--scope", "imap")
	}
	return srv, clients
}

// asking starts a Dovecot that asks about the tokens of an audience.
func asking(t *testing.T, srv *server.Server, alg string, replace ...string) *mailServer {
	t.Helper()
	var c server.Client
	srv.RunJSON(t, &c, "client", "add", "dovecot-"+audienceOf(alg), "--introspect", audienceOf(alg))
	host := strings.TrimPrefix(srv.Issuer, "http://")
	return startDovecot(t, dovecotAsks(), srv, alg, "post", append(replace,
		"https://dovecot:SECRET@id.example.com", "http://"+c.ID+":"+c.Secret+"@"+host)...)
}

// local starts a Dovecot that verifies by itself.
func local(t *testing.T, srv *server.Server, alg string, replace ...string) *mailServer {
	t.Helper()
	return startDovecot(t, dovecot(), srv, alg, "local", append(replace, "https://id.example.com", srv.Issuer)...)
}

// TestWhatTheDovecotPageSays about what Dovecot checks, as in TestTheMatrix.
func TestWhatTheDovecotPageSays(t *testing.T) {
	t.Parallel()
	srv, clients := mailIssuer(t)
	ask := asking(t, srv, "EdDSA")
	mints := newMints(t, srv, clients)
	alone := local(t, srv, "RS256")
	for _, m := range []*mailServer{ask, alone, local(t, srv, "ES256")} {
		c := &candidate{m.service, map[string]string{}}
		mint := mints[m.alg]
		c.accepts(t, mint, clients[m.alg].ID)
		m.refusesRows(t, c, mint)
		c.want(t, 200, mint.genuine, "the valid token, again")
		c.want(t, 401, mint.claim(object{"scope": "other"}), "a token without the scope")
		c.checkGaps(t)
		if _, answer, err := m.login("root", mint.genuine); err != nil || !strings.HasPrefix(answer, "NO") {
			t.Errorf("%s, another user's token: %s, %v", m.name, answer, err)
		}
		t.Logf("counted: %-22s%s", c.name, cells(func(column string) string { return c.cells[column] }))
	}
	ask.wantLog(t, ":kms_") // the secret

	m := mints["RS256"]
	alone.want(t, 401, m.head(object{"typ": "at+jwt"}), "the type at+jwt")
	alone.want(t, 401, mints["EdDSA"].head(object{"typ": "JWT"}), "EdDSA")
	alone.wantLog(t, "Unsupported algorithm 'EDDSA'")
	odd := newSigner(t, "RS256", "team/1")
	odd.importTo(t, srv, "--until", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	alone.update(t)
	alone.want(t, 200, m.genuine, "the valid token after an import")
	alone.want(t, 401, m.by(odd), "a kid with a slash")

	bare := local(t, srv, "RS256", "issuers = https://id.example.com\n", "", "scope = imap\n", "")
	bare.want(t, 200, m.claim(object{"iss": "http://127.0.0.1:1", "scope": nil}), "another issuer and no scope, without the settings")
}

// wantLog wants a text in the log of Dovecot.
func (m *mailServer) wantLog(t *testing.T, text string) {
	t.Helper()
	if b, err := os.ReadFile(filepath.Join(m.dir, "log")); err != nil || !strings.Contains(string(b), text) {
		t.Errorf("%s: the log has no %q (%v)", m.name, text, err)
	}
}

// refusesRows sends all rows at once: Dovecot answers a refusal half a second later.
func (m *mailServer) refusesRows(t *testing.T, c *candidate, mint mint) {
	t.Helper()
	var mu sync.Mutex // guards c
	var wg sync.WaitGroup
	for _, r := range rowsOf(m.alg) {
		if r.name == "typ JWT" && m.alg != "EdDSA" {
			continue // its type is the right one
		}
		wg.Go(func() {
			own := &candidate{m.service, map[string]string{}}
			own.refuses(t, r.column, r.name, r.token(mint))
			mu.Lock()
			defer mu.Unlock()
			for column, found := range own.cells {
				c.note(column, found)
			}
		})
	}
	wg.Wait()
}

// TestWhatDovecotSeesOfARevocation: what TestWhatSeesARevocation says about others. If Dovecot asks, a revocation counts at the next login. If it
// verifies by itself, it counts when the script of the page has run.
func TestWhatDovecotSeesOfARevocation(t *testing.T) {
	t.Parallel()
	srv, clients := mailIssuer(t)
	ask, alone := asking(t, srv, "EdDSA"), local(t, srv, "RS256")
	before := map[string]string{} // algorithm → a token of before all changes
	for alg, c := range clients {
		awaitSpare(t, srv, alg)
		before[alg] = token(t, srv, c, audienceOf(alg))
	}
	fresh := func(m *mailServer) string { return token(t, srv, clients[m.alg], m.audience) }
	for range 2 {
		for alg := range clients {
			srv.Run(t, "key", "rotate", "--alg", alg, "--force")
		}
		ask.want(t, 200, fresh(ask), "the next key")
		alone.update(t)
		alone.want(t, 200, fresh(alone), "the next key, when the script has run")
	}
	for _, m := range []*mailServer{ask, alone} {
		m.want(t, 200, before[m.alg], "the key of before two rotations")
	}

	open, answer, err := ask.login(clients["EdDSA"].ID, before["EdDSA"])
	if err != nil || open == nil {
		t.Fatalf("log in: %s, %v", answer, err)
	}
	defer open.Close()
	revoke(t, srv, kidOf(before["EdDSA"]))
	ask.want(t, 401, before["EdDSA"], "a revoked key")
	if answer, err := open.command("NOOP"); err != nil || !strings.HasPrefix(answer, "OK") {
		t.Errorf("a connection of before the revocation: %s, %v", answer, err)
	}
	ask.want(t, 200, fresh(ask), "another key")

	first := fresh(alone)
	alone.want(t, 200, first, "the key that signs")
	revoke(t, srv, kidOf(first))
	time.Sleep(2 * maxAge)
	alone.want(t, 200, first, "a revoked key when max-age is over")
	alone.want(t, 200, fresh(alone), "the spare")
	awaitStage(t, srv, "RS256", "reserve")
	revoke(t, srv, kidOf(fresh(alone)), "--flush")
	alone.want(t, 401, fresh(alone), "the flushed key")
	alone.want(t, 200, first, "a revoked key after a token of the flushed key")
	alone.update(t)
	alone.want(t, 401, first, "a revoked key when the script has run")
	alone.want(t, 200, fresh(alone), "the flushed key when the script has run")

	last := fresh(ask)
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	if c, answer, err := ask.login(clients["EdDSA"].ID, last); err != nil || c != nil {
		t.Errorf("without an answer of Keymill: %s, %v", answer, err)
	}
}

// TestDovecotKnowsUsersByTheirNames, in both ways of the page.
func TestDovecotKnowsUsersByTheirNames(t *testing.T) {
	t.Parallel()
	srv, _ := mailIssuer(t)
	srv.Run(t, "client", "add", server.Web, "--public", "--grant", "refresh_token", "--audience", "shop", "--scope", "imap")
	if _, errs, err := srv.VerbWith(t.Context(), server.Password+"\n", "user", "add", server.Person, "--id", "7", "--password-stdin", "--claim", "email=alice@example.com"); err != nil {
		t.Fatalf("%v: %s", err, errs)
	}
	refresh, err := srv.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := srv.Refresh(t.Context(), server.Web, refresh)
	if err != nil {
		t.Fatal(err)
	}
	access := a.Field("access_token")
	for _, tt := range []struct {
		*mailServer
		user string
	}{
		{asking(t, srv, "RS256", "username_attribute = sub", "username_attribute = username"), server.Person},
		{local(t, srv, "RS256", "username_attribute = sub", "username_attribute = email"), "alice@example.com"},
	} {
		for _, user := range []string{tt.user, "7", "bob"} {
			c, answer, err := tt.login(user, access)
			if err != nil || (c != nil) != (user == tt.user) {
				t.Errorf("%s, the user %s: %s, %v", tt.name, user, answer, err)
			}
			if c != nil {
				c.Close()
			}
		}
	}
}
