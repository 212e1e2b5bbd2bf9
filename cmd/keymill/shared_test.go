package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/storage/postgres/postgrestest"
)

// A cluster is servers of one store in a database. Each has a directory of its own.
type cluster struct {
	t        *testing.T
	postgres *postgrestest.Cluster
	database string // its name
	url      string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	p := postgrestest.Shared(t)
	c := &cluster{t: t, postgres: p, database: p.NewDatabase(t)}
	c.url = p.URL(postgrestest.Role, c.database)
	return c
}

// place returns the place of another server.
func (c *cluster) place() *place {
	c.t.Helper()
	p := newPlace(c.t)
	p.shared = c.url
	return p
}

// A pair is what a login returns.
type tokenPair struct{ Access, Refresh string }

func (c *child) login(name, password string) (pair tokenPair) {
	c.t.Helper()
	status, body := login(c.t.(*testing.T), c, name, password)
	if err := json.Unmarshal([]byte(body), &pair); err != nil || status != http.StatusOK {
		c.t.Fatalf("login: %d %s", status, body)
	}
	return pair
}

// refresh asks for the next pair.
func (c *child) refresh(refresh string) (status int, pair tokenPair) {
	c.t.Helper()
	resp, err := http.Post(c.url("/api/token/refresh/"), "application/json", strings.NewReader(`{"refresh":"`+refresh+`"}`))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&pair) // an error has none
	return resp.StatusCode, pair
}

// active asks /introspect.
func (c *child) active(id, secret, token string) bool {
	c.t.Helper()
	req, err := http.NewRequest(http.MethodPost, c.url("/introspect"), strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(id, secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Active bool }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("introspect: %s, %v", resp.Status, err)
	}
	return answer.Active
}

// kid returns the key that a token names.
func (p tokenPair) kid(t *testing.T) string {
	t.Helper()
	header, _, _ := strings.Cut(p.Access, ".")
	raw, err := base64.RawURLEncoding.DecodeString(header)
	var h struct{ Kid string }
	if err != nil || json.Unmarshal(raw, &h) != nil {
		t.Fatalf("%q: %v", p.Access, err)
	}
	return h.Kid
}

// rotateTogether rotates on one server. Each token, before and after, verifies with the keys of both.
func rotateTogether(t *testing.T, p *place, servers []*child, refresh string) {
	t.Helper()
	_, before := servers[0].refresh(refresh)
	p.must(nil, "key", "rotate", "--alg", "RS256", "--force")
	signed := map[string]map[int]bool{} // kid → servers that signed with it
	pair := before
	if !eventually(time.Minute, func() bool {
		for i, signer := range servers {
			status, next := signer.refresh(pair.Refresh)
			if status != http.StatusOK {
				t.Fatalf("server %d answers %d to a refresh", i, status)
			}
			pair = next
			kid := pair.kid(t)
			if signed[kid] == nil {
				signed[kid] = map[int]bool{}
			}
			signed[kid][i] = true
			for j, verifier := range servers {
				if _, body := get(verifier.url("/.well-known/jwks.json")); !strings.Contains(body, kid) {
					t.Errorf("server %d does not publish the key %s of server %d", j, kid, i)
				}
			}
		}
		delete(signed, before.kid(t))
		time.Sleep(200 * time.Millisecond)
		for _, by := range signed {
			if len(by) == len(servers) {
				return true
			}
		}
		return t.Failed()
	}) {
		t.Errorf("not every server signs with the next key: %v", signed)
	}
}

// sharedEnv makes keys change fast.
var sharedEnv = []string{"KEYMILL_SIMPLEJWT_CLIENT=web", "KEYMILL_JWKS_MAX_AGE=1s", "KEYMILL_KEYS_PROPAGATION=24s", "KEYMILL_KEYS_ROTATE_EVERY=1h"}

// startShared starts a server of the cluster.
func (p *place) startShared(more ...string) *child {
	p.t.Helper()
	return p.startWith(append(p.env(), sharedEnv...), p.serveArgs(more...)...)
}

// TestServersOfOneDatabaseAreOneIssuer: what one of them did, the other one knows, and one goes on without the other.
func TestServersOfOneDatabaseAreOneIssuer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.place(), c.place()
	first := a.startShared("--init")
	a.withAlice(t)
	var introspector api.Client
	a.must(&introspector, "client", "add", "orders-api", "--introspect", "shop", "--json")
	second := b.startShared()

	pair := first.login("alice", "correct horse battery")
	status, next := second.refresh(pair.Refresh)
	if status != http.StatusOK {
		t.Fatalf("the other server answers %d to a refresh", status)
	}
	if !first.active("orders-api", string(introspector.Secret), next.Access) {
		t.Error("a token of the other server is not active")
	}
	_, newest := second.refresh(next.Refresh)
	rotateTogether(t, a, []*child{first, second}, newest.Refresh)
	b.must(nil, "session", "revoke", "--client", "web")
	if first.active("orders-api", string(introspector.Secret), next.Access) {
		t.Error("a token that the other server revoked is active")
	}

	first.cmd.Process.Signal(syscall.SIGKILL)
	first.wait(time.Minute)
	if pair = second.login("alice", "correct horse battery"); pair.Access == "" {
		t.Error("no login after a kill of the other server")
	}
	second.signal(syscall.SIGTERM)
	if code := second.wait(time.Minute); code != 0 {
		t.Errorf("code %d after a stop", code)
	}
	if names, _ := filepath.Glob(filepath.Join(b.data, "*.db")); len(names) > 0 {
		t.Errorf("the directory holds a store: %v", names)
	}
}

// TestAStoreInADatabaseIsCheckedBackedUpAndRestored while its servers run, and into either kind of store.
func TestAStoreInADatabaseIsCheckedBackedUpAndRestored(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.place()
	server := a.startShared("--init", "--config", a.configure("simplejwt: {client: web}\n"))
	a.withAlice(t)
	server.login("alice", "correct horse battery")
	env := append(a.env(), sharedEnv...)
	checks, code := a.diagnosisWith(env)
	for _, name := range []string{"server", "store", "database", "standby", "size", "identity", "master key", "mark", "damage", "keys", "audit", "servers"} {
		if f := checks[name]; !f.OK || f.NotChecked {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if text := checks["database"].Detail; !regexp.MustCompile(`^PostgreSQL \d+\.\d+.*, fsync is on, synchronous_commit is on; functions commit_v2, compare_v1 of schema 2$`).MatchString(text) {
		t.Error(text)
	}
	if code != 0 {
		t.Errorf("code %d, %+v", code, checks)
	}
	if out, errs, code := a.runWith(env, "audit", "tail", "--all", "--store", c.url); code != 0 || !strings.Contains(out, "session.login") || strings.Contains(out, "unverified") {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	file := filepath.Join(a.dir, "backup")
	a.must(nil, "backup", file)
	if checks, code := a.copyChecks(env, file); code != 0 {
		t.Errorf("code %d, %+v", code, checks)
	}

	refused := c.place()
	if _, errs, code := refused.run("restore", file); code != 1 || !strings.Contains(errs, "servers use "+c.url+" now: ") {
		t.Errorf("over running servers: code %d, %s", code, errs)
	}
	server.signal(syscall.SIGTERM)
	server.wait(time.Minute)
	if _, errs, code := refused.run("restore", "--replace", file); code != 1 || !strings.Contains(errs, "already holds a store (database id ") {
		t.Errorf("over another store: code %d, %s", code, errs)
	}

	b := newPlace(t) // from the database into a file
	b.must(nil, "restore", "--trust-keys", file)
	inFile := b.startWith(append(b.env(), sharedEnv...), b.serveArgs()...)
	inFile.login("alice", "correct horse battery")
	b.must(nil, "backup", "--overwrite", file)

	d := newCluster(t) // and back
	d.postgres.SQL(t, d.database, "CREATE TABLE unrelated (n int)")
	e := d.place()
	e.must(nil, "restore", "--trust-keys", file)
	e.startShared().login("alice", "correct horse battery")
}

// TestAnInterruptedRestoreIsNoStore: another restore begins again.
func TestAnInterruptedRestoreIsNoStore(t *testing.T) {
	t.Parallel()
	whole := newPlace(t)
	_, file := whole.withBackup(t)
	c := newCluster(t)
	p := c.place()
	p.must(nil, "restore", file)
	c.postgres.SQL(t, c.database, "DELETE FROM keymill.record WHERE k IN ('meta', 'keyring')", "INSERT INTO keymill.record (k, v, ver) VALUES ('left', 'over', 1)")
	for _, args := range [][]string{p.serveArgs(), p.serveArgs("--init")} {
		if _, errs, code := p.runWith(append(p.env(), sharedEnv...), args...); code != 1 || !strings.Contains(errs, "keymill: ") {
			t.Errorf("%v: code %d, %s", args, code, errs)
		}
	}
	p.must(nil, "restore", file)
	p.startShared().login("alice", "correct horse battery")
}

// TestOneOfTwoRestoresHasTheDatabase: the other one is refused with one line, and what is there is one store.
func TestOneOfTwoRestoresHasTheDatabase(t *testing.T) {
	t.Parallel()
	whole := newPlace(t)
	_, file := whole.withBackup(t)
	for range 2 {
		c := newCluster(t)
		places := []*place{c.place(), c.place()}
		var refusals [2]string
		var codes [2]int
		var both sync.WaitGroup
		for n, p := range places {
			both.Go(func() { _, refusals[n], codes[n] = p.run("restore", file) })
		}
		both.Wait()
		refused := refusals[0] + refusals[1]
		if codes[0]+codes[1] != 1 || strings.Count(refused, "keymill: ") != 1 || strings.Count(strings.TrimSpace(refused), "\n") > 1 {
			t.Fatalf("codes %v, %s", codes, refused)
		}
		checks, code := places[codes[0]].diagnosisWith(append(places[codes[0]].env(), sharedEnv...)) // the one whose code is 0
		if code != 0 {
			t.Errorf("after %q doctor ends with code %d: %+v", refused, code, checks)
		}
	}
}

// TestServersGoOnWhileTheMasterKeyChanges if they have both keys, and one starts with the new key alone.
func TestServersGoOnWhileTheMasterKeyChanges(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.place(), c.place()
	first := a.startShared("--init")
	a.withAlice(t)
	pair := first.login("alice", "correct horse battery")
	first.signal(syscall.SIGTERM)
	first.wait(time.Minute)
	both := testKey("k") + "\n" + testKey("next") + "\n"
	a.writeKey("master.key", both)
	b.writeKey("master.key", both)
	first = a.startShared()
	second := b.startShared()

	file := a.writeKey("next.key", testKey("next"))
	checks, code := a.diagnosisWith(append(a.env(), sharedEnv...), "--new-master-key-file", file)
	if f := checks["new master key"]; code != 0 || !f.OK {
		t.Fatalf("code %d, %+v", code, checks)
	}
	for _, server := range []*child{first, second, first, second} {
		status, next := server.refresh(pair.Refresh)
		if status != http.StatusOK {
			t.Fatalf("%d to a refresh after the change", status)
		}
		pair = next
	}
	a.must(nil, "audience", "add", "later", "--alg", "EdDSA")
	b.must(nil, "audience", "show", "later")
	b.writeKey("master.key", testKey("k"))
	second.signal(syscall.SIGTERM)
	second.wait(time.Minute)
	if _, errs, code := b.runWith(append(b.env(), sharedEnv...), b.serveArgs()...); code != 1 || !strings.Contains(errs, "master key") {
		t.Errorf("with the old key: code %d, %s", code, errs)
	}
	b.writeKey("master.key", testKey("next"))
	if status, _ := b.startShared().refresh(pair.Refresh); status != http.StatusOK {
		t.Errorf("%d to a refresh with the new key", status)
	}
}
