package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keymill/issuer/api"
)

// A family is a user who refreshes all the time, at the server that base names.
type family struct {
	t       *testing.T
	client  *http.Client
	base    atomic.Value // string: URL of the server
	refresh string       // the newest token
	done    atomic.Int64 // refreshes that succeeded
}

// run refreshes until stop is closed. A refusal is tried again with the same token.
func (f *family) run(stop chan struct{}) {
	for !isClosed(stop) {
		status, header, pair, err := f.try()
		switch {
		case err != nil: // the server is being started or stopped
		case status == http.StatusOK:
			f.refresh = pair.Refresh
			f.done.Add(1)
		case status == http.StatusServiceUnavailable && header.Get("Retry-After") != "":
			// the store is being moved
		default:
			f.t.Errorf("refresh %d at %s: status %d, %v", f.done.Load(), f.base.Load(), status, header)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (f *family) try() (status int, header http.Header, pair tokenPair, err error) {
	resp, err := f.client.Post(f.base.Load().(string)+"/api/token/refresh/", "application/json", strings.NewReader(`{"refresh":"`+f.refresh+`"}`))
	if err != nil {
		return 0, nil, pair, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		err = json.NewDecoder(resp.Body).Decode(&pair)
	}
	return resp.StatusCode, resp.Header, pair, err
}

// migrating are clients of a store that is moved.
type migrating struct {
	t        *testing.T
	client   api.Client // for client_credentials
	families []*family
	loops    sync.WaitGroup
	stop     chan struct{}
}

func newMigrating(t *testing.T, p *place, server *child) *migrating {
	t.Helper()
	p.withAlice(t)
	m := &migrating{t: t, stop: make(chan struct{})}
	p.must(&m.client, "client", "add", "billing", "--grant", "client_credentials", "--audience", "shop", "--json")
	for range 4 {
		f := &family{t: t, client: &http.Client{Timeout: 30 * time.Second}, refresh: server.login("alice", "correct horse battery").Refresh}
		f.base.Store(server.url(""))
		m.families = append(m.families, f)
		m.loops.Go(func() { f.run(m.stop) })
	}
	return m
}

// signs fails the test unless the server answers client_credentials and publishes its keys, and refuses a login.
func (m *migrating) signs(server *child) {
	m.t.Helper()
	status, body, err := requestToken(http.DefaultClient, server.address, "billing", string(m.client.Secret))
	if err != nil || status != http.StatusOK {
		m.t.Errorf("client_credentials while the store is moved: %d %s %v", status, body, err)
	}
	if status, body := get(server.url("/.well-known/jwks.json")); status != http.StatusOK || !strings.Contains(body, `"kid"`) {
		m.t.Errorf("JWKS while the store is moved: %d %s", status, body)
	}
	if status, body := login(m.t, server, "alice", "correct horse battery"); status != http.StatusServiceUnavailable {
		m.t.Errorf("login while the store is moved: %d %s", status, body)
	}
}

// saysMoved fails the test unless the server says that its store has moved: where to, to administrators only.
func (m *migrating) saysMoved(p *place, server *child, to string) {
	m.t.Helper()
	for _, args := range []string{"audience add parcels --alg EdDSA", "key rotate --alg EdDSA", "session revoke --client web"} {
		_, errs, code := p.run(append(strings.Fields(args), "--data", p.data)...)
		if code != 1 || !strings.Contains(errs, "the store was moved to "+to) || strings.Contains(errs, "again") || strings.Count(errs, "\n") != 1 {
			m.t.Errorf("%s on a moved store: code %d, %s", args, code, errs)
		}
	}
	if status, body := login(m.t, server, "alice", "correct horse battery"); status != http.StatusServiceUnavailable ||
		!strings.Contains(body, "the store of this server has moved") || strings.Contains(body, to) {
		m.t.Errorf("login at a moved store: %d %s", status, body)
	}
}

// goTo sends the clients to another server.
func (m *migrating) goTo(server *child) {
	for _, f := range m.families {
		f.base.Store(server.url(""))
	}
}

// goOn waits until each user has refreshed that many times more.
func (m *migrating) goOn(refreshes int64) {
	m.t.Helper()
	for n, f := range m.families {
		want := f.done.Load() + refreshes
		if !eventually(failsafe, func() bool { return f.done.Load() >= want || m.t.Failed() }) {
			m.t.Errorf("family %d has ended after %d refreshes", n, f.done.Load())
		}
	}
}

// end ends the clients.
func (m *migrating) end() {
	close(m.stop)
	m.loops.Wait()
}

// TestAStoreMovesWhileItIsServed: to a database and back, with users who refresh all the time. No token is lost, and the
// keys are those of before.
func TestAStoreMovesWhileItIsServed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	p := newPlace(t)
	source := p.startWith(append(p.env(), sharedEnv...), p.serveArgs("--init")...)
	m := newMigrating(t, p, source)
	m.goOn(5)
	out := p.must(nil, "migrate", "--from", p.data, "--to", c.url)
	if !strings.Contains(out, "compared each") || !strings.Contains(out, "servers that still run there") {
		t.Error(out)
	}
	m.signs(source)
	before := publishedSet(source)

	a, b := c.place(), c.place()
	first, second := a.startShared(), b.startShared()
	if after := publishedSet(first); !strings.HasPrefix(after, before[:len(before)-2]) && after != before {
		t.Errorf("the published keys changed: %s, then %s", before, after)
	}
	m.goTo(first)
	m.goOn(5)
	m.signs(source)
	m.saysMoved(p, source, c.url)
	if checks, code := p.diagnosisWith(append(p.env(), sharedEnv...)); code == 0 || checks["migration"].OK || !strings.Contains(checks["migration"].Detail, c.url) {
		t.Errorf("doctor on the running source: code %d, %+v", code, checks)
	}
	source.signal(syscall.SIGTERM)
	source.wait(time.Minute)
	if _, errs, code := p.runWith(append(p.env(), sharedEnv...), p.serveArgs()...); code != 1 || strings.Count(errs, "moved to "+c.url) != 1 {
		t.Errorf("a start on the source: code %d, %s", code, errs)
	}
	if checks, code := p.diagnosisWith(append(p.env(), sharedEnv...)); code == 0 || checks["migration"].OK || !strings.Contains(checks["migration"].Detail, c.url) {
		t.Errorf("doctor on the source: code %d, %+v", code, checks["migration"])
	}

	d := newPlace(t)
	out = d.must(nil, "migrate", "--from", c.url, "--to", d.data, "--json")
	var r struct {
		Records int
		Outcome string
	}
	if json.Unmarshal([]byte(out), &r) != nil || r.Outcome != "moved" || r.Records == 0 {
		t.Error(out)
	}
	m.signs(first)
	m.signs(second)
	if checks, code := a.diagnosisWith(append(a.env(), sharedEnv...)); code == 0 || checks["migration"].OK || !strings.Contains(checks["servers"].Detail, "cannot say so") {
		t.Errorf("doctor beside the servers of the database: code %d, %+v", code, checks)
	}
	inFile := d.startWith(append(d.env(), sharedEnv...), d.serveArgs()...)
	m.goTo(inFile)
	m.goOn(5)
	m.end()
	if _, errs, code := c.place().runWith(append(a.env(), sharedEnv...), a.serveArgs("--data", filepath.Join(a.dir, "other"))...); code != 1 || strings.Count(errs, "moved to "+d.data) != 1 {
		t.Errorf("a start on the database: code %d, %s", code, errs)
	}
	if log := inFile.errs.String(); strings.Contains(log, "damaged") {
		t.Error(log)
	}
	for _, c := range []*child{source, first, second} {
		for line := range strings.Lines(c.errs.String()) {
			if strings.Contains(line, "level=ERROR") && strings.Contains(line, "the store was moved") {
				t.Errorf("an error of a server whose store was moved: %s", line)
			}
		}
	}
}

func publishedSet(c *child) string {
	_, body := get(c.url("/.well-known/jwks.json"))
	return body
}

// askMigration takes a step of a migration at a running server.
func askMigration(t *testing.T, data, body string) (status int, answer string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(data, "admin.sock"))
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Post("http://keymill/admin/v1/migration", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(raw)
}

// TestAServerServesWhileItsStoreIsMovedSlowly: its loops and its signatures go on for longer than any of their periods, it
// stops cleanly, and a start frees the store.
func TestAServerServesWhileItsStoreIsMovedSlowly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	server := p.startWith(append(p.env(), sharedEnv...), p.serveArgs("--init")...)
	m := newMigrating(t, p, server)
	if status, answer := askMigration(t, p.data, fmt.Sprintf(`{"step":"begin","run":"r","from":%q,"to":"/elsewhere"}`, p.data)); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		m.signs(server)
		if status, answer := askMigration(t, p.data, `{"step":"renew","run":"r"}`); status != http.StatusOK {
			t.Fatal(status, answer)
		}
	}
	if isClosed(server.ended) {
		t.Fatalf("the server ended: %s", server.errs)
	}
	server.signal(syscall.SIGTERM)
	if code := server.wait(time.Minute); code != 0 {
		t.Errorf("code %d after a stop: %s", code, server.errs)
	}
	m.end()
	server = p.startWith(append(p.env(), sharedEnv...), p.serveArgs()...)
	server.login("alice", "correct horse battery")

	if status, answer := askMigration(t, p.data, fmt.Sprintf(`{"step":"begin","run":"s","from":%q,"to":"/elsewhere"}`, p.data)); status != http.StatusOK {
		t.Fatal(status, answer)
	}
	server.cmd.Process.Kill()
	server.wait(time.Minute)
	server = p.startWith(append(p.env(), sharedEnv...), p.serveArgs()...)
	server.login("alice", "correct horse battery")
	if status, answer := askMigration(t, p.data, `{"step":"finish","run":"s"}`); status != http.StatusConflict {
		t.Errorf("the end of a migration whose source was freed: %d %s", status, answer)
	}
}

// TestMigrateRefusesWhatItCannotMove in one line.
func TestMigrateRefusesWhatItCannotMove(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.must(nil, "init")
	c := newCluster(t)
	if err := os.WriteFile(filepath.Join(p.dir, "some.txt"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(c.url, "keymill@", "unknownrole@", 1)
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"--to x", 2, "--from is missing"},
		{"--from data", 2, "--to is missing"},
		{"--from data --to data", 2, "the same store"},
		{"--from data --to data/keymill.db", 2, "the same store"},
		{"--from absent --to x", 1, "there is no store at"},
		{"--from some.txt --to x", 1, "is not a data directory"},
		{"--from data --to https://db/x", 2, "stores are in data directories"},
		{"--from data --to postgres://keymill:secret@127.0.0.1/x", 1, "must not contain a password"},
		{"--from data --to " + wrong, 1, "unknownrole"},
		{"--from " + c.url + " --to x", 1, "has no tables of Keymill"},
		{"--from data --abort --to x", 2, "--abort frees the source"},
		{"--print --from data", 2, "leave out the other flags"},
		{"--from data --to absent/deeper/x", 1, "no such file or directory"},
	} {
		_, errs, code := p.run(append([]string{"migrate"}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(errs, tt.want) || strings.Count(strings.TrimSpace(errs), "\n") > 1 || strings.Contains(errs, "secret@") {
			t.Errorf("%s: code %d, %s", tt.args, code, errs)
		}
	}
	if sql := p.must(nil, "migrate", "--print"); !strings.Contains(sql, "CREATE TABLE IF NOT EXISTS keymill.record") {
		t.Error(sql)
	}
	p.start()
}
