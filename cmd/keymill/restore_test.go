package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/issuer/api"
	"keymill/jwks"
)

// TestARestoreBringsNothingBackThatMayHaveBeenRevoked: keys, sessions and tokens of the copy are refused,
// unless the administrator asks for them.
//
// I14.
func TestARestoreBringsNothingBackThatMayHaveBeenRevoked(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, _ := p.withBackup(t)
	_, body := login(t, c, "alice", "correct horse battery")
	var pair struct{ Access, Refresh string }
	if err := json.Unmarshal([]byte(body), &pair); err != nil {
		t.Fatal(err)
	}
	revokedFile := filepath.Join(p.data, "keymill.revoked")
	ofStart, err := os.ReadFile(revokedFile)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.dir, "later")
	p.must(nil, "backup", file)
	var old []api.Key
	p.must(&old, "key", "list", "--json")
	set := keySet(t, c)
	if err := os.WriteFile(filepath.Join(p.dir, "jwks.json"), set, 0o600); err != nil {
		t.Fatal(err)
	}
	revoked := old[slices.IndexFunc(old, func(k api.Key) bool { return k.Stage == "spare" })]
	p.must(nil, "key", "revoke", revoked.KID)
	out, errs, code := p.run("restore", "--replace", file)
	if code != 1 || !strings.Contains(errs, "is in use by process") || !strings.Contains(errs, "hint: stop the server first") {
		t.Errorf("beside a server: code %d\n%s%s", code, out, errs)
	}
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	out, errs, code = p.run("restore", file)
	if code != 1 || !strings.Contains(errs, "already holds a store\n  hint: to replace it, add --replace") {
		t.Errorf("over a store: code %d\n%s%s", code, out, errs)
	}
	for _, tt := range []struct {
		name     string
		args     []string
		list     string // of revoked keys: "now", "start", or "" for none
		keys     bool   // those of the copy are published
		sessions bool
	}{
		{"with the list of revoked keys", nil, "now", true, false},
		{"with the list of the start", nil, "start", false, false},
		{"without it", nil, "", false, false},
		{"with trust in the keys", []string{"--trust-keys"}, "", true, false},
		{"with a later key set", []string{"--jwks", filepath.Join(p.dir, "jwks.json")}, "", true, false},
		{"with the sessions", []string{"--keep-sessions"}, "", false, true},
	} {
		switch tt.list {
		case "":
			err = os.Remove(revokedFile)
		case "start":
			err = os.WriteFile(revokedFile, ofStart, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		p.must(nil, append([]string{"restore", "--replace", file}, tt.args...)...)
		c := p.start("--config", p.configure("simplejwt: {client: web}\n"))
		published, err := jwks.Parse(keySet(t, c))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range old {
			found := slices.ContainsFunc(published.Keys(), func(key jwks.Key) bool { return key.KID == k.KID })
			want := tt.keys && (k.Stage != "reserve" || len(tt.args) == 0 || tt.args[0] == "--trust-keys")
			if tt.list == "now" && k.KID == revoked.KID {
				want = false
			}
			if found != want {
				t.Errorf("%s: the %s key %s is published: %v", tt.name, k.Stage, k.KID, found)
			}
		}
		var now []api.Key
		p.must(&now, "key", "list", "--json")
		for _, k := range now {
			if k.Stage != "retiring" && slices.ContainsFunc(old, func(o api.Key) bool { return o.KID == k.KID }) {
				t.Errorf("%s: the key %s of the copy is %s", tt.name, k.KID, k.Stage)
			}
		}
		resp, err := http.Post(c.url("/api/token/refresh/"), "application/json", strings.NewReader(`{"refresh":"`+pair.Refresh+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if (resp.StatusCode == 200) != tt.sessions {
			t.Errorf("%s: a refresh answers %d", tt.name, resp.StatusCode)
		}
		if status, body := login(t, c, "alice", "correct horse battery"); status != 200 {
			t.Errorf("%s: a login answers %d %s", tt.name, status, body)
		}
		if log := c.errs.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
			t.Errorf("%s: the log is\n%s", tt.name, log)
		}
		c.signal(syscall.SIGTERM)
		c.wait(failsafe)
		if checks, code := p.diagnosis(); code != 0 {
			t.Errorf("%s: doctor found %+v", tt.name, checks)
		}
	}
	kept, err := filepath.Glob(filepath.Join(p.data, "keymill.db.before-*"))
	if err != nil || len(kept) == 0 {
		t.Error("the replaced store is gone")
	}
}

// TestARestoreByRootIsTheServersOwn: root restores into a directory of another user, and that user serves
// the store.
func TestARestoreByRootIsTheServersOwn(t *testing.T) {
	t.Parallel()
	terminaltest.NeedRoot(t)
	p := newPlace(t)
	p.unprivileged()
	c := p.start()
	file := filepath.Join(p.dir, "backup")
	p.must(nil, "backup", file)
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	user := p.as
	p.as = nil
	p.must(nil, "restore", "--replace", file)
	p.as = user
	c = p.start()
	if status := c.ready(); status != 200 {
		t.Errorf("readyz answers %d", status)
	}
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestAListOfRevokedKeysThatCannotBeWrittenIsSaid where an administrator looks: in the answer to the
// revocation and by doctor. A restore would trust the key.
func TestAListOfRevokedKeysThatCannotBeWrittenIsSaid(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	marks := filepath.Join(p.dir, "marks")
	if err := os.Mkdir(marks, 0o700); err != nil {
		t.Fatal(err)
	}
	settings := p.configure("store: {mark_file: " + filepath.Join(marks, "mark") + "}\n")
	c := p.start("--config", settings)
	if err := os.Rename(marks, marks+"-gone"); err != nil {
		t.Fatal(err)
	}
	var keys []api.Key
	p.must(&keys, "key", "list", "--json")
	fault := "the list of revoked keys " + filepath.Join(marks, "keymill.revoked") + " cannot be written, and a restore would trust a key that is not in it: "
	if _, errs, code := p.run("key", "revoke", keys[0].KID); code != 0 || !strings.Contains(errs, "warning: "+fault) {
		t.Errorf("revoke: code %d\n%s", code, errs)
	}
	if out, _, _ := p.run("doctor"); !strings.Contains(out, fault) {
		t.Errorf("doctor says\n%s", out)
	}
	if err := os.Rename(marks+"-gone", marks); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := p.run("key", "revoke", keys[1].KID); code != 0 || strings.Contains(errs, "warning") {
		t.Errorf("when it can be written again: code %d\n%s", code, errs)
	}
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	if out, _, code := p.run("doctor", "--config", settings); code != 0 {
		t.Errorf("doctor says\n%s", out)
	}
}

// TestARestoreLeavesARunningServersMark alone, although it is for another directory.
func TestARestoreLeavesARunningServersMark(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	mark := filepath.Join(p.dir, "mark")
	c := p.start("--config", p.configure("store: {mark_file: "+mark+"}\n"))
	file := filepath.Join(p.dir, "backup")
	p.must(nil, "backup", file)
	drill := filepath.Join(p.dir, "drill")
	before := snapshot(t, p.dir)
	for want, run := range map[string]func() (string, string, int){
		"store.mark_file names the mark of the configured directory": func() (string, string, int) {
			return p.run("restore", file, "--config", p.configure("store: {mark_file: "+mark+"}\n"), "--data", drill)
		},
		"open mark " + mark + ": another process uses it: stop that server": func() (string, string, int) {
			return p.runWith(append(p.env(), "KEYMILL_DATA="+drill, "KEYMILL_STORE_MARK_FILE="+mark), "restore", file)
		},
	} {
		if out, errs, code := run(); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("code %d\n%s%s", code, out, errs)
		}
	}
	if _, err := os.Stat(drill); !os.IsNotExist(err) {
		t.Errorf("the drill left its directory (%v)", err)
	}
	if after := snapshot(t, p.dir); withoutStore(after) != withoutStore(before) {
		t.Errorf("files changed:\n%s\n%s", before, after)
	}
	if status := c.ready(); status != 200 {
		t.Errorf("readyz answers %d", status)
	}
}

// TestARestoreNeedsTheMasterKeyOfTheBackup.
func TestARestoreNeedsTheMasterKeyOfTheBackup(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, file := p.withBackup(t)
	p.writeKey("other.key", testKey("another"))
	drill := filepath.Join(p.dir, "drill")
	for want, key := range map[string]string{
		file + ": the master key does not open this store": "KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.dir, "other.key"),
		"no master key was given":                          "",
	} {
		out, errs, code := p.runWith(environment(key), "restore", file, "--data", drill)
		if code == 0 || out != "" || !strings.Contains(errs, want) || !strings.Contains(errs, "hint: ") {
			t.Errorf("code %d\n%s%s", code, out, errs)
		}
		if _, err := os.Stat(drill); !os.IsNotExist(err) {
			t.Errorf("the directory is there (%v)", err)
		}
	}
}

// TestSessionsThatWereAllEndedStayEnded, although the administrator lets those of the copy go on: the list
// beside the mark says that they were ended after the copy was made.
//
// I14.
func TestSessionsThatWereAllEndedStayEnded(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, _ := p.withBackup(t)
	_, body := login(t, c, "alice", "correct horse battery")
	var pair struct{ Refresh string }
	if err := json.Unmarshal([]byte(body), &pair); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.dir, "later")
	p.must(nil, "backup", file)
	p.must(nil, "session", "revoke", "--all")
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	if out := p.must(nil, "restore", "--replace", "--keep-sessions", file); !strings.Contains(out, "all sessions have ended: they were ended after the backup was made\n") {
		t.Errorf("restore says\n%s", out)
	}
	c = p.start("--config", p.configure("simplejwt: {client: web}\n"))
	resp, err := http.Post(c.url("/api/token/refresh/"), "application/json", strings.NewReader(`{"refresh":"`+pair.Refresh+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("a refresh answers %d", resp.StatusCode)
	}
}
