package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/diagnose"
	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/bolt"
)

// diagnosis runs doctor on p and returns what it found, by check.
func (p *place) diagnosis(args ...string) (checks map[string]diagnose.Finding, code int) {
	p.t.Helper()
	return p.diagnosisWith(p.env(), args...)
}

func (p *place) diagnosisWith(env []string, args ...string) (checks map[string]diagnose.Finding, code int) {
	p.t.Helper()
	out, errs, code := p.runWith(env, append([]string{"doctor", "--json"}, args...)...)
	return p.findings(out, errs, code), code
}

// findings reads what doctor or backup --check prints, by check.
func (p *place) findings(out, errs string, code int) (checks map[string]diagnose.Finding) {
	p.t.Helper()
	var f diagnose.Findings
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		p.t.Fatalf("%v: %s%s", err, out, errs)
	}
	if f.OK != (code == 0) {
		p.t.Errorf("ok is %v, the exit code %d", f.OK, code)
	}
	checks = map[string]diagnose.Finding{}
	for _, c := range f.Checks {
		checks[c.Check] = c
	}
	return checks
}

// TestDoctorChangesNothing, and finds nothing wrong with a healthy store.
func TestDoctorChangesNothing(t *testing.T) {
	t.Parallel()
	p := made(t)
	before := snapshot(t, p.dir)
	checks, code := p.diagnosis()
	for _, name := range []string{"store", "records", "identity", "master key", "keys", "audit"} {
		if !checks[name].OK {
			t.Errorf("%s: %+v", name, checks[name])
		}
	}
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if after := snapshot(t, p.dir); after != before {
		t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
	}
	if _, errs, code := newPlace(t).run("doctor"); code != 1 || !strings.Contains(errs, "no store in ") || !strings.Contains(errs, "--config FILE") {
		t.Errorf("without a store: code %d, %s", code, errs)
	}
}

// TestDoctorSaysWhyItCannotExamine: a store without read permission is not a missing store.
func TestDoctorSaysWhyItCannotExamine(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.unprivileged()
	if err := os.Mkdir(p.data, 0o000); err != nil {
		t.Fatal(err)
	}
	_, errs, code := p.run("doctor")
	want := "keymill: cannot read " + p.store() + ": permission denied\n  hint: run it as the server's user, or as root\n"
	if code != 1 || errs != want {
		t.Errorf("code %d, %swant %s", code, errs, want)
	}
	_, errs, code = p.run("doctor", "--data", "master.key")
	if code != 1 || errs != "keymill: cannot read master.key/keymill.db: not a directory\n" {
		t.Errorf("a file for a directory: code %d, %s", code, errs)
	}
}

// TestDoctorFindsWhatIsWrong, and reports it at the right check.
func TestDoctorFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		check string
		spoil func(p *place)
	}{
		{"store", func(p *place) { p.overwrite("hello") }},
		{"identity", func(p *place) { p.deleteRecord("meta") }},
		{"master key", func(p *place) { p.deleteRecord("keyring") }},
		{"master key", func(p *place) { p.writeKey("master.key", testKey("x")) }},
		{"keys", func(p *place) { p.deletePrivate("active") }},
		{"keys", func(p *place) { p.deletePrivate("spare") }},
		{"keys", func(p *place) { p.deletePrivate("reserve") }},
		{"audit", func(p *place) { p.deleteFirst("audit/log/") }},
	} {
		p := newPlace(t)
		c := p.start()
		p.auditNames("store.create")
		if !eventually(failsafe, func() bool {
			p.must(&p.keys, "key", "list", "--json")
			return slices.ContainsFunc(p.keys, func(k api.Key) bool { return k.Stage == "reserve" })
		}) {
			t.Fatal("no reserve was made")
		}
		c.signal(syscall.SIGTERM)
		c.wait(failsafe)
		tt.spoil(p)
		before := snapshot(t, p.dir)
		checks, code := p.diagnosis()
		if found, looked := checks[tt.check]; code != 1 || !looked || found.OK || found.Detail == "" {
			t.Errorf("%s: code %d, %+v", tt.check, code, checks)
		}
		if after := snapshot(t, p.dir); after != before {
			t.Errorf("%s: the disk changed", tt.check)
		}
	}
}

// deletePrivate deletes the private half of a key in the given stage.
func (p *place) deletePrivate(stage string) {
	p.t.Helper()
	for _, k := range p.keys {
		if k.Stage == stage {
			p.deleteRecord("private/" + k.KID)
			return
		}
	}
	p.t.Fatalf("no %s among %v", stage, p.keys)
}

// deleteFirst deletes the first record below prefix.
func (p *place) deleteFirst(prefix string) {
	p.t.Helper()
	s, err := bolt.Open(p.store(), bolt.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	err = s.Update(context.Background(), func(tx storage.Tx) error {
		for e, err := range tx.Scan(prefix, prefix+"~") {
			if err != nil {
				return err
			}
			return tx.Delete(e.Key)
		}
		return errors.New("nothing below " + prefix)
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// deleteAll deletes all records below prefix.
func (p *place) deleteAll(prefix string) {
	p.t.Helper()
	s, err := bolt.Open(p.store(), bolt.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	if err := s.Update(context.Background(), func(tx storage.Tx) error {
		for e, err := range tx.Scan(prefix, prefix+"~") {
			if err := errors.Join(err, tx.Delete(e.Key)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
}

// TestDoctorAsksARunningServer instead of opening its store.
func TestDoctorAsksARunningServer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	checks, code := p.diagnosis()
	if code != 0 || !checks["server"].OK || !checks["ready"].OK || !strings.Contains(checks["server"].Detail, testIssuer) {
		t.Errorf("code %d, %+v", code, checks)
	}
	p.writeKey("new.key", testKey("n"))
	if _, errs, code := p.run("doctor", "--new-master-key-file", "new.key"); code != 1 || !strings.Contains(errs, "stop the server first") {
		t.Errorf("code %d, %s", code, errs)
	}
}

// TestTheMasterKeyCanBeChanged: the signing keys stay, and the old master key no longer opens
// the store.
func TestTheMasterKeyCanBeChanged(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	var before, after []api.Key
	p.must(&before, "key", "list", "--json")
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)

	p.writeKey("new.key", testKey("n"))
	out := p.must(nil, "doctor", "--new-master-key-file", "new.key")
	if !strings.Contains(out, "new master key") {
		t.Errorf("doctor:\n%s", out)
	}
	if _, errs, code := p.run(p.serveArgs()...); code != 1 || !strings.Contains(errs, "does not open this store") {
		t.Errorf("the old key: code %d, %s", code, errs)
	}
	p.startWith(environment("KEYMILL_MASTER_KEY_FILE="+filepath.Join(p.dir, "new.key")), p.serveArgs()...)
	p.must(&after, "key", "list", "--json")
	kids := func(keys []api.Key) (list []string) {
		for _, k := range keys {
			if k.Stage != "reserve" { // the server creates it in the background
				list = append(list, k.KID)
			}
		}
		return list
	}
	if !slices.Equal(kids(before), kids(after)) {
		t.Errorf("keys changed:\n%v\n%v", kids(before), kids(after))
	}
	p.auditNames("masterkey.change")
}
