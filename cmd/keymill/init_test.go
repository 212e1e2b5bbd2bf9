package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"keymill/storage/audit"
	"keymill/storage/bolt"
)

const someID = "0123456789abcdef0123456789abcdef"

// missingStores are starts on a directory without a store. TestABadStartIsOneLineAndChangesNothing runs
// them, so nothing is created, not even the directory.
func missingStores() []badStart {
	const reason = "\n  hint: the directory is mistyped or its volume is not mounted; "
	first := reason + "or this is the first start: as the server's user, run \"keymill init"
	return []badStart{
		{"no directory", false, func(p *place) ([]string, []string) {
			return nil, nil
		}, "/data" + first + " --data /"},
		{"no parent of the directory", false, func(p *place) ([]string, []string) {
			return nil, p.serveArgs("--data", filepath.Join(p.dir, "no", "where"))
		}, "keymill: --data: there is no store at /"},
		{"an empty directory", false, func(p *place) ([]string, []string) {
			os.Mkdir(p.data, 0o700)
			return nil, []string{"serve", "--issuer", testIssuer}
		}, "keymill: KEYMILL_DATA: there is no store at /"},
		{"a directory that lost its store", true, func(p *place) ([]string, []string) {
			os.Remove(p.store())
			return nil, nil
		}, "/data" + first},
		{"the default directory of another working directory", false, func(p *place) ([]string, []string) {
			return environment("KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.dir, "master.key")), []string{"serve", "--issuer", testIssuer, "--listen", "127.0.0.1:0"}
		}, "/keymill-data" + first + "\""},
		{"a symbolic link to nowhere", false, func(p *place) ([]string, []string) {
			os.Symlink("/nowhere/keymill", p.data)
			return nil, nil
		}, "/data" + first},
		{"a directory from the configuration", false, func(p *place) ([]string, []string) {
			path := filepath.Join(p.dir, "keymill.yaml")
			os.WriteFile(path, []byte("issuer: https://id.example.com\nlisten: 127.0.0.1:0\ndata: nowhere\n"), 0o600)
			return environment("KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.dir, "master.key")), []string{"serve", "--config", path}
		}, "keymill.yaml:3: data: there is no store at /"},
		{"no store, and database_id", false, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_DATABASE_ID="+someID), nil
		}, reason + "none is created, because database_id names a store that exists: " + someID},
		{"no store, database_id and --init", false, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_DATABASE_ID="+someID), p.serveArgs("--init")
		}, reason + "none is created, because database_id names a store that exists: " + someID},
		{"no store, database_id and --dev", false, func(p *place) ([]string, []string) {
			return environment("KEYMILL_DATABASE_ID=" + someID), []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", p.data}
		}, reason + "none is created"},
	}
}

// wrongStores are starts and calls of init on a directory with a store that they must not touch.
func wrongStores() []badStart {
	withID := func(id string, args ...string) func(*place) ([]string, []string) {
		return func(p *place) ([]string, []string) { return append(p.env(), "KEYMILL_DATABASE_ID="+id), args }
	}
	return []badStart{
		{"the store of another server", true, withID(someID), ", not " + someID + "\n  hint: the directory or the mounted volume is the wrong one"},
		{"the store of another server, and --init", true, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_DATABASE_ID="+someID), p.serveArgs("--init")
		}, "KEYMILL_DATABASE_ID: the store at "},
		{"an empty database_id", true, withID(""), "KEYMILL_DATABASE_ID: \"\" is not a database id"},
		{"a database_id that is cut off", true, withID(someID[1:]), "is not a database id: 32 hex digits"},
		{"a creation that was interrupted", false, func(p *place) ([]string, []string) {
			p.emptyStore()
			return nil, nil
		}, "keymill.db is empty, because its creation was interrupted\n  hint: as the server's user, run \"keymill init --data "},
		{"a creation that was interrupted, and database_id", false, func(p *place) ([]string, []string) {
			p.emptyStore()
			return append(p.env(), "KEYMILL_DATABASE_ID="+someID), p.serveArgs("--init")
		}, "keymill.db is empty"},
		{"init on a store", true, func(p *place) ([]string, []string) { return nil, []string{"init"} },
			" holds a store already, with the database id "},
		{"init on a store with another master key", true, func(p *place) ([]string, []string) {
			p.writeKey("master.key", testKey("x"))
			return nil, []string{"init"}
		}, " holds a store already, with the database id "},
		{"init on a damaged store", true, func(p *place) ([]string, []string) {
			p.deleteRecord("meta")
			return nil, []string{"init"}
		}, "but no meta record, so it is damaged"},
		{"init on a foreign file", true, func(p *place) ([]string, []string) {
			p.overwrite("hello")
			return nil, []string{"init"}
		}, "open store "},
		{"init with database_id", false, withID(someID, "init"), "KEYMILL_DATABASE_ID: no store is created, because " + someID + " exists already"},
		{"init on a store with its database_id", true, func(p *place) ([]string, []string) {
			return append(p.env(), "KEYMILL_DATABASE_ID="+someID), []string{"init"}
		}, " holds a store already, and it was not changed\n  hint: start the server: keymill serve"},
		{"init without a master key", false, func(p *place) ([]string, []string) {
			return environment("KEYMILL_DATA=" + p.data), []string{"init"}
		}, "a master key is required"},
		{"init without a parent directory", false, func(p *place) ([]string, []string) {
			return nil, []string{"init", "--data", filepath.Join(p.dir, "no", "where")}
		}, "cannot create the data directory: /"},
		{"init in a file", false, func(p *place) ([]string, []string) {
			return nil, []string{"init", "--data", filepath.Join(p.dir, "master.key")}
		}, "not a directory"},
	}
}

// otherIssuers are starts with another issuer than the last one.
func otherIssuers() []badStart {
	at := func(issuer string, more ...string) func(*place) ([]string, []string) {
		return func(p *place) ([]string, []string) {
			return append(p.env(), more...), []string{"serve", "--data", p.data, "--listen", "127.0.0.1:0", "--issuer", issuer}
		}
	}
	const last = "--issuer: the store was last served with the issuer https://id.example.com, and now it is "
	return []badStart{
		{"another host", true, at("https://login.example.com"), last + "https://login.example.com\n  hint: services that expect the old issuer refuse the new tokens"},
		{"another port", true, at("https://id.example.com:8443"), last + "https://id.example.com:8443"},
		{"another scheme", true, at("http://id.example.com", "KEYMILL_INSECURE=true"), last + "http://id.example.com"},
		{"an issuer of a trial", true, at("http://127.0.0.1:8420"), last + "http://127.0.0.1:8420"},
	}
}

// emptyStore makes the file of a store without a record, as an interrupted init leaves it.
func (p *place) emptyStore() {
	p.t.Helper()
	if err := os.Mkdir(p.data, 0o700); err != nil {
		p.t.Fatal(err)
	}
	s, err := bolt.Open(p.store(), bolt.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		p.t.Fatal(err)
	}
}

// databaseID runs init and returns the id that it prints.
func (p *place) databaseID() string {
	p.t.Helper()
	out := p.must(nil, "init")
	m := regexp.MustCompile(`^\n# created a store in \S+\ndatabase_id: ([0-9a-f]{32})\n$`).FindStringSubmatch(out)
	if m == nil {
		p.t.Fatalf("init printed %q", out)
	}
	return m[1]
}

func (c *child) stop() {
	c.t.Helper()
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		c.t.Fatalf("exit code %d\n%s", code, c.errs)
	}
}

// TestInitPrintsTheIDThatTheConfigurationNames: what init prints can be appended to the configuration.
// The server then serves this store, and says its id in its log.
func TestInitPrintsTheIDThatTheConfigurationNames(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	path := p.configure("keys:\n  rotate_every: 2d") // without a newline, as some editors leave it
	out := p.must(nil, "init", "--config", path)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(out); err != nil {
		t.Fatal(err)
	}
	f.Close()
	id := strings.TrimSpace(out[strings.LastIndex(out, ":")+1:])
	c := p.startWith(p.env(), "serve", "--config", path)
	if !strings.Contains(c.errs.String(), " database_id="+id) || strings.Contains(c.errs.String(), "created the store") {
		t.Errorf("the log does not have the id %s of a store that existed:\n%s", id, c.errs)
	}
	var second struct {
		Data string
		ID   string `json:"database_id"`
	}
	p.must(&second, "init", "--data", "second", "--json")
	if second.Data != "second" || len(second.ID) != 32 || second.ID == id {
		t.Errorf("--json: %+v", second)
	}
}

// TestServeInitCreatesTheStoreOnce: a later start with --init serves the same store.
func TestServeInitCreatesTheStoreOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var ids []string
	for i := range 2 {
		c := p.startWith(p.env(), p.serveArgs("--init")...)
		if created := strings.Contains(c.errs.String(), `msg="created the store" `); created != (i == 0) {
			t.Errorf("start %d created a store: %v\n%s", i, created, c.errs)
		}
		ids = append(ids, regexp.MustCompile(`serving .*database_id=([0-9a-f]{32})`).FindString(c.errs.String()))
		c.stop()
	}
	if _, one, _ := strings.Cut(ids[0], "database_id="); one == "" || !strings.HasSuffix(ids[1], one) {
		t.Errorf("the two starts served %q", ids)
	}
}

// TestAnInterruptedCreationIsCompleted by init and by serve --init, and a directory that exists is used.
func TestAnInterruptedCreationIsCompleted(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.emptyStore()
	id := p.databaseID()
	if c := p.start(); !strings.Contains(c.errs.String(), id) {
		t.Errorf("not the store %s is served:\n%s", id, c.errs)
	}
	p = newPlace(t)
	p.emptyStore()
	p.startWith(p.env(), p.serveArgs("--init")...)
}

// TestTheAuditLogSaysWhichVersionCreatedTheStore, when and by whom, for each way to create one.
func TestTheAuditLogSaysWhichVersionCreatedTheStore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		by     string
		create func(p *place)
	}{
		{"uid:" + strconv.Itoa(os.Getuid()), func(p *place) { p.databaseID(); p.start() }},
		{"system", func(p *place) { p.startWith(p.env(), p.serveArgs("--init")...) }},
		{"system", func(p *place) { p.startDev() }},
	} {
		p := newPlace(t)
		tt.create(p)
		var r audit.Record
		if !eventually(failsafe, func() bool { // records are chained once a second
			for line := range strings.Lines(p.must(nil, "audit", "tail", "--json", "-n", "1000")) {
				if err := json.Unmarshal([]byte(line), &r); err == nil && r.Action == "store.create" {
					return true
				}
			}
			return false
		}) {
			t.Fatal("the audit log has no record of the creation")
		}
		if r.By != tt.by || r.Detail["version"] != release || r.Time.IsZero() || len(r.Target) != 32 {
			t.Errorf("the record is %+v, want it by %s", r, tt.by)
		}
	}
}

// TestDoctorReportsTheStoreOfAnotherServer: it reads database_id as the server does.
func TestDoctorReportsTheStoreOfAnotherServer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	id := p.databaseID()
	for named, ok := range map[string]bool{id: true, someID: false} {
		out, _, code := p.runWith(append(p.env(), "KEYMILL_DATABASE_ID="+named), "doctor", "--json")
		if (code == 0) != ok || strings.Contains(out, "not "+someID) == ok {
			t.Errorf("database_id %s: code %d\n%s", named, code, out)
		}
	}
}

// TestANewIssuerNeedsConsentOnce: with it the new issuer is the one that the store had last, and the
// audit log has both.
func TestANewIssuerNeedsConsentOnce(t *testing.T) {
	t.Parallel()
	p := made(t)
	const moved = "https://login.example.com"
	args := []string{"serve", "--data", p.data, "--listen", "127.0.0.1:0", "--issuer", moved}
	if _, errs, code := p.run(args...); code != 1 || !strings.Contains(errs, "start once with --accept-new-issuer") {
		t.Fatalf("without consent: code %d, %s", code, errs)
	}
	c := p.startWith(p.env(), append(args, "--accept-new-issuer")...)
	p.auditNames("issuer.change")
	out := p.must(nil, "audit", "tail", "-n", "1000", "--json")
	if !strings.Contains(out, `"target":"`+moved+`","detail":{"from":"`+testIssuer+`"}`) {
		t.Errorf("the audit log does not name both issuers:\n%s", out)
	}
	c.stop()
	p.startWith(p.env(), args...).stop()
	if _, errs, code := p.run(p.serveArgs()...); code != 1 || !strings.Contains(errs, "last served with the issuer "+moved) {
		t.Errorf("the old issuer: code %d, %s", code, errs)
	}
}

// TestAFailedStartDoesNotChangeTheIssuer, although it was allowed to.
func TestAFailedStartDoesNotChangeTheIssuer(t *testing.T) {
	t.Parallel()
	p := made(t)
	env := append(p.env(), "KEYMILL_MASTER_KEY_FILE="+p.writeKey("wrong.key", testKey("x")))
	_, errs, code := p.runWith(env, "serve", "--data", p.data, "--listen", "127.0.0.1:0", "--issuer", "https://login.example.com", "--accept-new-issuer")
	if code != 1 || !strings.Contains(errs, "does not open this store") {
		t.Fatalf("code %d, %s", code, errs)
	}
	p.start()
}
