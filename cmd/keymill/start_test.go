package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keymill/issuer/api"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/bolt"
)

// made returns a place whose store was served once and then closed.
func made(t *testing.T, more ...string) *place {
	t.Helper()
	p := newPlace(t)
	c := p.start(more...)
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	return p
}

func (p *place) store() string { return filepath.Join(p.data, "keymill.db") }

func (p *place) overwrite(content string) {
	p.t.Helper()
	if err := os.WriteFile(p.store(), []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) deleteRecord(key string) {
	p.t.Helper()
	p.change(func(tx storage.Tx) error { return tx.Delete(key) })
}

// putRecord writes a record with the tag that the master key makes.
func (p *place) putRecord(key, value string) {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, "master.key"))
	if err != nil {
		p.t.Fatal(err)
	}
	master, err := keystore.ParseMasterKey(b)
	if err != nil {
		p.t.Fatal(err)
	}
	file, err := bolt.Open(p.store(), bolt.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	defer file.Close()
	s, err := keystore.Unlock(context.Background(), file, master)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := s.Update(context.Background(), func(tx storage.Tx) error { return tx.Put(key, []byte(value)) }); err != nil {
		p.t.Fatal(err)
	}
}

// change changes the store of a server that does not run.
func (p *place) change(fn func(storage.Tx) error) {
	p.t.Helper()
	s, err := bolt.Open(p.store(), bolt.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	if err := s.Update(context.Background(), fn); err != nil {
		p.t.Fatal(err)
	}
}

// TestDevStoresAreServedByDevOnly is the counterpart of "store made without --dev" in
// TestABadStartIsOneLineAndChangesNothing.
func TestDevStoresAreServedByDevOnly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startWith(environment(), "serve", "--dev", "--data", p.data, "--listen", "127.0.0.1:0")
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	before := snapshot(t, p.dir)
	env := environment("KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.data, "dev-master-key"))
	_, errs, code := p.runWith(env, p.serveArgs()...)
	if code != 1 || !strings.Contains(errs, "created by serve --dev") {
		t.Errorf("code %d: %s", code, errs)
	}
	if after := snapshot(t, p.dir); after != before {
		t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
	}
}

// TestAStartInAReadOnlyDirectoryChangesNothing.
func TestAStartInAReadOnlyDirectoryChangesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.unprivileged()
	if err := os.Mkdir(p.data, 0o555); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, p.dir)
	for _, args := range [][]string{p.serveArgs("--init"), {"init"}} {
		out, errs, code := p.run(args...)
		if code != 1 || out != "" || !strings.HasPrefix(errs, "keymill: cannot write in the data directory: /") || !strings.Contains(errs, "\n  hint: ch") || strings.Count(errs, "\n") != 2 {
			t.Errorf("%v: code %d: %s", args, code, errs)
		}
	}
	if after := snapshot(t, p.dir); after != before {
		t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
	}
}

// TestASecondServerNamesTheFirst, which goes on undisturbed.
func TestASecondServerNamesTheFirst(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.start()
	_, errs, code := p.run(p.serveArgs()...)
	want := fmt.Sprintf("keymill: %s is in use by process %d\n", p.data, first.cmd.Process.Pid)
	if code != 1 || errs != want {
		t.Errorf("code %d, %swant %s", code, errs, want)
	}
	resp, err := http.Get(first.url("/readyz"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the first server answers %d", resp.StatusCode)
	}
	var keys []api.Key
	p.must(&keys, "key", "list", "--json")
	if len(keys) < 4 {
		t.Errorf("the first server lists %d keys", len(keys))
	}
	first.signal(syscall.SIGTERM)
	if code := first.wait(failsafe); code != 0 {
		t.Errorf("the first server ended with code %d", code)
	}
}

// TestAServerStartsAfterKill9 although the lock file and the socket still exist.
func TestAServerStartsAfterKill9(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.start()
	p.must(nil, "audience", "add", "orders", "--alg", "EdDSA")
	var before, after []api.Key
	p.must(&before, "key", "list", "--json")
	first.signal(syscall.SIGKILL)
	first.wait(failsafe)
	if _, err := os.Lstat(filepath.Join(p.data, "admin.sock")); err != nil {
		t.Fatalf("there is no stale socket, so the test proves nothing (%v)", err)
	}
	p.start()
	p.must(&after, "key", "list", "--json")
	p.must(nil, "audience", "show", "orders")
	for _, k := range before {
		if k.Stage == "active" && !hasKey(after, k.KID) {
			t.Errorf("the active key %s is gone", k.KID)
		}
	}
}

func hasKey(keys []api.Key, kid string) bool {
	for _, k := range keys {
		if k.KID == kid {
			return true
		}
	}
	return false
}

// TestTheMasterKeyIsReadFromFileCredentialOrEnvironment, in this order.
func TestTheMasterKeyIsReadFromFileCredentialOrEnvironment(t *testing.T) {
	t.Parallel()
	p := made(t) // sealed under the file's key
	good, bad := testKey("k"), testKey("x")
	credentials := filepath.Join(p.dir, "credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	credential := func(key string) []string {
		p.writeKey("credentials/keymill-master-key", key)
		return []string{"CREDENTIALS_DIRECTORY=" + credentials}
	}
	file := []string{"KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.dir, "master.key")}
	for _, tt := range []struct {
		name string
		env  func() []string
	}{
		{"variable", func() []string { return []string{"KEYMILL_MASTER_KEY=" + good} }},
		{"credential before variable", func() []string { return append(credential(good), "KEYMILL_MASTER_KEY="+bad) }},
		{"file before both", func() []string { return append(append(credential(bad), "KEYMILL_MASTER_KEY="+bad), file...) }},
		{"variable when no credential is there", func() []string {
			return []string{"CREDENTIALS_DIRECTORY=" + p.dir, "KEYMILL_MASTER_KEY=" + good}
		}},
	} {
		c := p.startWith(environment(tt.env()...), p.serveArgs()...)
		c.signal(syscall.SIGTERM)
		if code := c.wait(failsafe); code != 0 {
			t.Errorf("%s: code %d", tt.name, code)
		}
	}
	if _, errs, code := p.runWith(environment("KEYMILL_MASTER_KEY="+bad), p.serveArgs()...); code != 1 || strings.Contains(errs, bad) {
		t.Errorf("a wrong key: code %d, %s", code, errs)
	}
}

// TestTheProcessProtectsItsSecrets: its memory and environment are readable by root alone and
// its files by its user alone, and it writes no core file.
func TestTheProcessProtectsItsSecrets(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.unprivileged()
	c := p.start()
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	if err := os.Chmod(p.data, 0o755); err != nil { // as an operator might do by mistake
		t.Fatal(err)
	}
	c = p.start()
	proc := fmt.Sprintf("/proc/%d", c.cmd.Process.Pid)
	limits, err := os.ReadFile(proc + "/limits")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Errorf("core files are written: %s", line)
		}
	}
	status, err := os.ReadFile(proc + "/status")
	if err != nil || !strings.Contains(string(status), "\nUmask:\t0077\n") {
		t.Errorf("the mask of new files is not 0077: %v", err)
	}
	// The files in /proc of an undumpable process belong to root.
	if info, err := os.Stat(proc + "/environ"); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("environ belongs to the user, not to root: %v", err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "keymill.db": 0o600, "lock": 0o600, "admin.sock": 0o600} {
		info, err := os.Stat(filepath.Join(p.data, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}
