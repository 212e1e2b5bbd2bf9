package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"

	"keymill/cmd/keymill/internal/diagnose"
	"keymill/storage/backup"
)

// withBackup returns a running server with the user alice, and a backup of it.
func (p *place) withBackup(t *testing.T) (c *child, file string) {
	t.Helper()
	c = p.start("--config", p.configure("simplejwt: {client: web}\n"))
	p.withAlice(t)
	file = filepath.Join(p.dir, "backup")
	p.must(nil, "backup", file)
	return c, file
}

// copyChecks runs backup --check and returns the checks by name.
func (p *place) copyChecks(env []string, args ...string) (checks map[string]diagnose.Finding, code int) {
	p.t.Helper()
	out, errs, code := p.runWith(env, append([]string{"backup", "--check", "--json"}, args...)...)
	return p.findings(out, errs, code), code
}

// TestABackupOfARunningServerIsComplete, private and checked, with and without the master key.
//
// I15.
func TestABackupOfARunningServerIsComplete(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, file := p.withBackup(t)
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	checks, code := p.copyChecks(p.env(), file)
	for _, name := range []string{"backup", "genuine", "records", "identity", "master key", "damage", "keys", "sessions", "audit"} {
		if !checks[name].OK || checks[name].NotChecked || code != 0 {
			t.Errorf("%s: %+v, code %d", name, checks[name], code)
		}
	}
	checks, code = p.copyChecks(environment("KEYMILL_DATA="+p.data), file)
	if !checks["backup"].OK || !checks["audit"].OK || !checks["master key"].NotChecked || code != 0 {
		t.Errorf("without a key: %+v, code %d", checks, code)
	}
	p.writeKey("other.key", testKey("another"))
	checks, code = p.copyChecks(environment("KEYMILL_MASTER_KEY_FILE="+filepath.Join(p.dir, "other.key")), file)
	if checks["master key"].OK || code != 1 {
		t.Errorf("with another key: %+v, code %d", checks, code)
	}
	if records := p.must(nil, "audit", "tail", "-n", "1000"); !strings.Contains(records, "store.backup  ") {
		t.Errorf("the audit records are\n%s", records)
	}
}

// TestAnEncryptedBackupOpensWithItsIdentityOnly.
func TestAnEncryptedBackupOpensWithItsIdentityOnly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	var recipients []string
	for _, name := range []string{"first", "second", "other"} {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		p.writeKey(name, "# a comment\n"+id.String()+"\n")
		recipients = append(recipients, id.Recipient().String())
	}
	path := func(name string) string { return filepath.Join(p.dir, name) }
	p.writeKey("recipients", recipients[1]+"\n")
	p.must(nil, "backup", "--recipient", recipients[0], "--recipients-file", path("recipients"), path("b.age"))
	raw, err := os.ReadFile(path("b.age"))
	if err != nil || !bytes.HasPrefix(raw, []byte("age-encryption.org/v1\n")) || bytes.Contains(raw, []byte("keymill backup")) {
		t.Fatalf("%.100q, %v", raw, err)
	}
	for _, name := range []string{"first", "second"} {
		if checks, code := p.copyChecks(p.env(), "--identity", path(name), path("b.age")); code != 0 || !checks["genuine"].OK {
			t.Errorf("%s: %+v", name, checks)
		}
	}
	if out := p.must(nil, "restore", "--identity", path("second"), "--data", path("drill"), path("b.age")); !strings.HasPrefix(out, "restored database ") {
		t.Errorf("restore says\n%s", out)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--check", path("b.age")}, "the backup is encrypted with age, so nothing in it can be checked without a key\n  hint: name the file with the age identity: --identity FILE"},
		{[]string{"--check", "--identity", path("other"), path("b.age")}, "the backup is encrypted to other recipients: none of the identities opens it\n  hint: name the identity whose public key was the --recipient"},
		{[]string{"--check", "--identity", path("recipients"), path("b.age")}, "recipients holds no secret key of age"},
		{[]string{"--check", "--identity", path("missing"), path("b.age")}, "open " + path("missing") + ": no such file"},
		{[]string{"--recipient", "age1xyz", path("c")}, `--recipient "age1xyz" is not a public key of age`},
		{[]string{"--recipient", "AGE-SECRET-KEY-1XYZ", path("c")}, "--recipient takes a public key, and this is a secret one"},
		{[]string{"--recipients-file", path("first"), path("c")}, "first holds no public keys of age"},
		{[]string{"--identity", path("first"), path("c")}, "--identity opens a backup"},
	} {
		out, errs, code := p.run(append([]string{"backup"}, tt.args...)...)
		if code == 0 || !strings.Contains(errs, tt.want) || strings.Contains(errs+out, "1XYZ") || strings.Count(errs, "\n") > 2 {
			t.Errorf("%v: code %d\n%s%s", tt.args, code, out, errs)
		}
	}
}

// TestABadBackupIsOneLine, and it leaves no file and a server that goes on.
func TestABadBackupIsOneLine(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, file := p.withBackup(t)
	path := func(name string) string { return filepath.Join(p.dir, name) }
	os.Mkdir(path("dir"), 0o700)
	os.Symlink("/dev/null", path("device"))
	syscall.Mkfifo(path("fifo"), 0o600)
	before := snapshot(t, p.dir)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{filepath.Join(p.data, "b")}, filepath.Join(p.data, "b") + " is in the data directory of the server\n  hint: "},
		{[]string{"--overwrite", path("master.key")}, path("master.key") + " is not a backup and was not replaced\n  hint: choose another name"},
		{[]string{file}, file + " exists\n  hint: choose another name, or replace it with --overwrite"},
		{[]string{path("dir")}, path("dir") + " is a directory\n  hint: name a file in it"},
		{[]string{path("device")}, path("device") + " is a symbolic link\n  hint: name the file that it points to"},
		{[]string{path("fifo")}, path("fifo") + " is not a regular file"},
		{[]string{path("no/where")}, "create " + path("no/where") + ": no such file or directory\n  hint: the directory " + path("no") + " does not exist; create it first\n"},
		{[]string{"/proc/1/backup"}, "create /proc/1/backup: "},
		{[]string{}, "FILE is missing"},
		{[]string{""}, "FILE is empty; is a variable not set?"},
		{[]string{"/dev/null"}, "/dev/null is not a regular file"},
		{[]string{"--json", "-"}, "--json would be mixed with the backup"},
		{[]string{"--check", "--overwrite", file}, "are for making a backup, not for --check"},
		{[]string{"--check", path("dir")}, path("dir") + " is a directory"},
		{[]string{"--check", path("missing")}, "open " + path("missing") + ": no such file or directory"},
		{[]string{"--data", path("dir"), path("c")}, "no server is running on the data directory"},
	} {
		out, errs, code := p.run(append([]string{"backup"}, tt.args...)...)
		if code == 0 || out != "" || !strings.Contains(errs, tt.want) || strings.Count(errs, "\n") > 2 {
			t.Errorf("%v: code %d\n%s%s", tt.args, code, out, errs)
		}
	}
	for name, target := range map[string]func() *os.File{
		"no space left on device": func() *os.File { f, _ := os.OpenFile("/dev/full", os.O_WRONLY, 0); return f },
		"broken pipe": func() *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			return w
		},
	} {
		f := target()
		cmd := exec.Command(p.binary, "backup", "-")
		var errs bytes.Buffer
		cmd.Env, cmd.Stdout, cmd.Stderr = p.env(), f, &errs
		if err := cmd.Run(); err == nil || !strings.HasPrefix(errs.String(), "keymill: write the backup: /dev/stdout: "+name+"\n") ||
			strings.Contains(errs.String(), "hint: free space there, or name a file on another disk") != (name == "no space left on device") {
			t.Errorf("%s: %v\n%s", name, err, errs.String())
		}
		f.Close()
	}
	if after := snapshot(t, p.dir); withoutStore(after) != withoutStore(before) {
		t.Errorf("files changed:\n%s\n%s", before, after)
	}
	if status := c.ready(); status != 200 {
		t.Errorf("readyz answers %d", status)
	}
}

// withoutStore leaves out the files that a running server changes.
func withoutStore(snapshot string) string {
	var kept []string
	for line := range strings.Lines(snapshot) {
		if !strings.Contains(line, "/data/keymill.") && !strings.HasPrefix(line, "/data ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// TestAChangedBackupIsRefused by check and by restore, which leaves nothing behind: what was cut off, what
// has a changed byte, and what was put together again with a right checksum, but without the master key.
//
// I23.
func TestAChangedBackupIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, file := p.withBackup(t)
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	middle := bytes.Clone(good)
	middle[len(middle)/2] ^= 1
	for name, tt := range map[string]struct {
		content []byte
		want    string
	}{
		"cut off":       {good[:len(good)-1], "the backup is cut off: its end is missing"},
		"half":          {good[:len(good)/2], "the backup is cut off: its end is missing"},
		"a changed bit": {middle, "the backup is damaged"},
		"a longer one":  {append(bytes.Clone(good), '\n'), "the backup is damaged: something follows its end"},
		"put together":  {forged(good), "the backup was changed, or put together, by someone without the master key"},
		"empty":         {nil, "it is not a backup of Keymill"},
		"a store":       {make([]byte, 8192), "it is not a backup of Keymill"},
		"a newer one":   {bytes.Replace(good, []byte(`"format":1`), []byte(`"format":9`), 1), "the backup has format 9 and schema 2, but this program reads format 1 and schema 2; use Keymill "},
	} {
		bad := filepath.Join(p.dir, "bad")
		if err := os.WriteFile(bad, tt.content, 0o600); err != nil {
			t.Fatal(err)
		}
		checks, code := p.copyChecks(p.env(), bad)
		found := false
		for _, c := range checks {
			found = found || !c.OK && strings.Contains(c.Detail, tt.want)
		}
		if code != 1 || !found {
			t.Errorf("check of %s: code %d, %+v", name, code, checks)
		}
		before := snapshot(t, p.dir)
		for _, args := range [][]string{{"--replace"}, {"--data", filepath.Join(p.dir, "fresh")}} {
			out, errs, code := p.run(append([]string{"restore", bad}, args...)...)
			if code != 1 || out != "" || !strings.Contains(errs, tt.want) || strings.Count(errs, "\n") > 2 {
				t.Errorf("restore of %s: code %d\n%s%s", name, code, out, errs)
			}
		}
		if snapshot(t, p.dir) != before {
			t.Errorf("restore of %s changed files", name)
		}
	}
}

// forged returns a backup with another record and a right checksum.
func forged(good []byte) []byte {
	end := len(good) - 64
	body := bytes.Replace(good[:end], []byte(`"alice"`), []byte(`"mallo"`), 1)
	sum := sha256.Sum256(body)
	return append(append(body, sum[:]...), good[len(good)-32:]...)
}

func keySet(t *testing.T, c *child) []byte {
	t.Helper()
	resp, err := http.Get(c.url("/.well-known/jwks.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestAStopEndsABackup that no one reads: the server stops in time, and the reader sees that the copy is
// not whole.
func TestAStopEndsABackup(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	p.withAlice(t)
	var users strings.Builder // more than what sockets buffer
	users.WriteString("id,username,password,is_active\n")
	for n := range 3000 {
		fmt.Fprintf(&users, "%d,user-%d-%s,!unusable,true\n", n+10, n, strings.Repeat("x", 80))
	}
	p.writeKey("users.csv", users.String())
	p.must(nil, "user", "import", filepath.Join(p.dir, "users.csv"))
	conn, err := net.Dial("unix", filepath.Join(p.data, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	resp, err := client.Post("http://keymill/admin/v1/backup", "", nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	defer resp.Body.Close()
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
	r, err := backup.NewReader(resp.Body)
	for err == nil {
		_, err = r.Next()
	}
	if err == io.EOF {
		t.Error("the copy looks whole")
	}
}
