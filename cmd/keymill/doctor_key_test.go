package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// unit writes keymill.service with the lines into a directory of its own. It returns an
// environment in which that is the only directory of units, and no setting names a master key.
func (p *place) unit(lines string) []string {
	p.t.Helper()
	dir := filepath.Join(p.dir, "units")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keymill.service"), []byte("[Service]\n"+lines+"\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return environment("SYSTEMD_UNIT_PATH="+dir, "KEYMILL_DATA="+p.data)
}

// TestDoctorFindsTheMasterKeyWhereTheUnitHasIt, and says where that was. It changes the master
// key with it as well.
func TestDoctorFindsTheMasterKeyWhereTheUnitHasIt(t *testing.T) {
	t.Parallel()
	p := made(t)
	key := filepath.Join(p.dir, "master.key")
	env := p.unit("LoadCredential=keymill-master-key:" + key)
	from := "; it is from " + key + ", as " + filepath.Join(p.dir, "units/keymill.service") + " says"
	checks, code := p.diagnosisWith(env)
	if found := checks["master key"]; code != 0 || !strings.HasSuffix(found.Detail, from) {
		t.Errorf("code %d, %+v", code, found)
	}
	p.writeKey("new.key", testKey("n"))
	if checks, code = p.diagnosisWith(env, "--new-master-key-file", "new.key"); code != 0 || !checks["new master key"].OK {
		t.Errorf("a new master key: code %d, %+v", code, checks)
	}
	checks, code = p.diagnosisWith(env)
	if found := checks["master key"]; code != 1 || found.OK || !strings.Contains(found.Detail, "does not open this store") || !strings.Contains(found.Detail, "; the key is from "+key) {
		t.Errorf("the unit still has the old key: code %d, %+v", code, found)
	}
	env = p.unit("Environment=KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.dir, "new.key"))
	if checks, code = p.diagnosisWith(env); code != 0 {
		t.Errorf("the variable in the unit: code %d, %+v", code, checks)
	}
}

// TestNoOneIsToldToMakeANewKeyForAStore: it would open no store that exists. What can be checked
// without the key is checked.
func TestNoOneIsToldToMakeANewKeyForAStore(t *testing.T) {
	t.Parallel()
	p := made(t)
	bad := p.writeKey("bad.key", "not a key")
	nothing := []string{"SYSTEMD_UNIT_PATH=" + p.dir, "KEYMILL_DATA=" + p.data}
	before := snapshot(t, p.dir)
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"nothing names a key":   {environment(nothing...), "no unit keymill.service names one; set KEYMILL_MASTER_KEY_FILE to the file that holds the master key of this store"},
		"not a key":             {environment(append(nothing, "KEYMILL_MASTER_KEY_FILE="+bad)...), "does not hold a master key"},
		"a variable":            {environment(append(nothing, "KEYMILL_MASTER_KEY=short")...), "KEYMILL_MASTER_KEY does not hold a master key"},
		"a missing file":        {environment(append(nothing, "KEYMILL_MASTER_KEY_FILE=none")...), "master key: none: no such file"},
		"an empty credential":   {environment(append(nothing, "CREDENTIALS_DIRECTORY="+p.dir+"/none")...), "set KEYMILL_MASTER_KEY_FILE"},
		"a key for another one": {environment(append(nothing, "KEYMILL_MASTER_KEY="+testKey("x"))...), "does not open this store"},
	} {
		checks, code := p.diagnosisWith(tt.env)
		if found := checks["master key"]; code != 1 || found.OK || !strings.Contains(found.Detail, tt.want) {
			t.Errorf("%s: code %d, %+v", name, code, found)
		}
		for _, check := range []string{"store", "records", "identity", "audit"} {
			if !checks[check].OK {
				t.Errorf("%s: %s was not checked: %+v", name, check, checks[check])
			}
		}
		text, _, _ := p.runWith(tt.env, "doctor")
		out, errs, code := p.runWith(tt.env, p.serveArgs()...)
		if code != 1 || strings.Contains(text+out+errs, "make one") || strings.Contains(text+out+errs, "urandom") {
			t.Errorf("%s: code %d\n%s%s%s", name, code, text, out, errs)
		}
	}
	if after := snapshot(t, p.dir); after != before {
		t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
	}
}

// TestAMasterKeyThatWasNotChangedIsSaid in the last line, with the checks that prevented it, and with the
// exit code 1. The store is as it was.
func TestAMasterKeyThatWasNotChangedIsSaid(t *testing.T) {
	t.Parallel()
	p := made(t)
	p.writeKey("new.key", testKey("n"))
	good, err := os.ReadFile(p.store())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string // the checks
		spoil      func()
		env        []string
	}{
		{"no store", "store", func() { p.overwrite("hello") }, nil},
		{"another key", "master key", func() {}, environment("KEYMILL_MASTER_KEY="+testKey("x"), "KEYMILL_DATA="+p.data)},
		{"no key", "master key", func() {}, environment("SYSTEMD_UNIT_PATH="+p.dir, "KEYMILL_DATA="+p.data)},
		{"a damaged log", "audit", func() { p.deleteFirst("audit/log/") }, nil},
		{"a damaged record", "damage", func() { p.putRecord("denied/x", "2") }, nil},
		{"damaged keys", "keys", func() { p.deleteFirst("private/") }, nil},
		{"two faults", "damage, audit", func() { p.putRecord("denied/x", "2"); p.deleteFirst("audit/log/") }, nil},
		{"a login without its client", "login endpoint", func() {}, append(p.env(), "KEYMILL_SIMPLEJWT_CLIENT=none")},
		{"no mark", "mark", func() { os.Remove(filepath.Join(p.data, "keymill.mark")) }, nil},
	} {
		p.overwrite(string(good))
		tt.spoil()
		before := snapshot(t, p.dir)
		env := tt.env
		if env == nil {
			env = p.env()
		}
		out, errs, code := p.runWith(env, "doctor", "--new-master-key-file", "new.key")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		want := "the master key was not changed, because not every check passed: " + tt.want + "; mend what they name, and run doctor again"
		if last := lines[len(lines)-1]; code != 1 || !strings.HasPrefix(last, "FAILED") || !strings.HasSuffix(last, want) {
			t.Errorf("%s: code %d\n%s%s", tt.name, code, out, errs)
		}
		if after := snapshot(t, p.dir); after != before {
			t.Errorf("%s: the disk changed", tt.name)
		}
	}
}

// TestDamageOfTheAuditLogNeverEndsServing: it is said at the start and by doctor, changes work,
// and their records are kept.
func TestDamageOfTheAuditLogNeverEndsServing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	p.auditNames("store.create")
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	good, err := os.ReadFile(p.store())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, want string
		spoil      func()
	}{
		{"a removed record", "record 1 is missing from the beginning; the first one that is left is number 2", func() { p.deleteRecord("audit/log/00000000000000000001") }},
		{"no first three", "records 1 to 3 are missing from the beginning; the first one that is left is number 4", func() {
			for range 3 {
				p.deleteFirst("audit/log/")
			}
		}},
		{"no records, a head", "none is left, and the head says that ", func() { p.deleteAll("audit/log/") }},
		{"nothing", "all records are missing: store.create, the first record of every store, ", func() { p.deleteAll("audit/") }},
		{"an edited record", "record 2 is unreadable", func() { p.putRecord("audit/log/00000000000000000002", "{}") }},
		{"an unreadable head", "the head is unreadable", func() { p.putRecord("audit/head", "{") }},
		{"a removed head", "the head says that 0 is the last record", func() { p.deleteRecord("audit/head") }},
	} {
		p.overwrite(string(good))
		os.Remove(filepath.Join(p.data, "keymill.mark")) // it would notice the older store
		tt.spoil()
		if checks, code := p.diagnosis(); code != 1 || !strings.Contains(checks["audit"].Detail, tt.want) {
			t.Errorf("%s: before the start, doctor found %+v, code %d", tt.name, checks["audit"], code)
		}
		c := p.start()
		if log := c.errs.String(); strings.Count(log, "the audit log is damaged; the server keeps serving") != 1 {
			t.Errorf("%s: the log:\n%s", tt.name, log)
		}
		if status := c.ready(); status != 200 {
			t.Errorf("%s: readyz answers %d", tt.name, status)
		}
		p.must(nil, "audience", "add", "afterwards")
		if !eventually(failsafe, func() bool {
			out, _, _ := p.run("audit", "tail", "-n", "1000", "--json")
			return strings.Contains(out, "afterwards")
		}) {
			t.Errorf("%s: the record of a change is missing", tt.name)
		}
		if _, errs, code := p.run("audit", "tail", "-n", "1"); code != 0 || !strings.HasPrefix(errs, "keymill: warning: audit log is damaged: ") || !strings.Contains(errs, tt.want) {
			t.Errorf("%s: audit tail: code %d, %s", tt.name, code, errs)
		}
		checks, code := p.diagnosis()
		if found := checks["audit"]; code != 1 || found.OK || !strings.Contains(found.Detail, tt.want) {
			t.Errorf("%s: doctor found %+v, code %d", tt.name, found, code)
		}
		c.signal(syscall.SIGTERM)
		if code := c.wait(failsafe); code != 0 {
			t.Errorf("%s: exit code %d", tt.name, code)
		}
	}
}
