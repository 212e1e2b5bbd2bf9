package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/keystore"
	"keymill/storage/bolt"
)

// TestDamageSaysWhatTheOperatorDoes, and not to try again: it does not go away by itself.
func TestDamageSaysWhatTheOperatorDoes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	p.must(nil, "user", "add", "ann", "--no-password")
	p.must(nil, "user", "add", "bob", "--no-password")
	c.stop()
	p.truncateFirst("user/")
	p.start()
	damaged := 0
	for _, args := range [][]string{{"user", "show", "ann"}, {"user", "show", "bob"}, {"user", "disable", "ann"}, {"user", "disable", "bob"}, {"user", "set", "ann", "--claim", "a=b"}, {"user", "set", "bob", "--claim", "a=b"}} {
		_, errs, code := p.run(args...)
		if code == 0 {
			continue
		}
		damaged++
		if !strings.Contains(errs, " is damaged: ") || !strings.Contains(errs, "keymill doctor") || strings.Contains(errs, "try again") {
			t.Errorf("%v: code %d, %s", args, code, errs)
		}
	}
	if damaged != 3 {
		t.Errorf("%d commands failed, want 3", damaged)
	}
}

// TestATrialStoreIsStartedWithDev: no hint names a command that a trial store refuses.
func TestATrialStoreIsStartedWithDev(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.startWith(environment(), "serve", "--dev", "--listen", "127.0.0.1:0", "--data", p.data).stop()
	want := "keymill serve --dev --data " + p.data
	for _, args := range [][]string{{"key", "list"}, {"user", "list"}, {"init"}, {"serve", "--issuer", testIssuer}} {
		_, errs, code := p.runWith(environment(), append(args, "--data", p.data)...)
		if code != 1 || !strings.Contains(errs, want) || strings.Contains(errs, "KEYMILL_MASTER_KEY_FILE") {
			t.Errorf("%v: code %d, %s", args, code, errs)
		}
	}
}

// TestAKeyThatIsInTheStoreIsNamed: the second import of a key says under which kid it is, and that nothing changed.
func TestAKeyThatIsInTheStoreIsNamed(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	file := filepath.Join(p.dir, "old.pem")
	if out, err := exec.Command("openssl", "genpkey", "-algorithm", "ed25519", "-out", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.must(nil, "key", "import", file, "--kid", "2024-01")
	for _, args := range [][]string{
		{"--kid", "2024-01"}, {"--kid", "2024-01", "--sign-now"}, {"--kid", "2024-01", "--until", "2100-01-01T00:00:00Z"},
	} {
		_, errs, code := p.run(append([]string{"key", "import", file}, args...)...)
		if code != 1 || errs != "keymill: this key is already stored under the kid '2024-01'; nothing was changed\n" {
			t.Errorf("%v: code %d, %s", args, code, errs)
		}
	}
	for _, args := range [][]string{{}, {"--kid", "2024-02"}} {
		_, errs, code := p.run(append([]string{"key", "import", file}, args...)...)
		if code != 1 || !strings.HasPrefix(errs, "keymill: this key is already stored under the kid '2024-01'; a key has only one kid") {
			t.Errorf("%v: code %d, %s", args, code, errs)
		}
	}
}

// TestInitWritesTheConfiguration that its flags begin: a server starts with it.
func TestInitWritesTheConfiguration(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	env := environment("KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.dir, "master.key"))
	file := filepath.Join(p.dir, "keymill.yaml")
	out, errs, code := p.runWith(env, "init", "--data", p.data, "--issuer", testIssuer, "--listen", "127.0.0.1:0")
	if code != 0 {
		t.Fatalf("code %d, %s", code, errs)
	}
	if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	p.startWith(env, "serve", "--config", file).stop()

	for name, args := range map[string][]string{
		"the same values":    {"--issuer", testIssuer, "--listen", "127.0.0.1:0"},
		"another directory":  {"--issuer", testIssuer, "--data", filepath.Join(p.dir, "second")},
		"an address of IPv6": {"--listen", "[::1]:8420"},
	} {
		text := "issuer: " + testIssuer + "\n"
		if name == "the same values" {
			text += "listen: 127.0.0.1:0\ndata: " + filepath.Join(p.dir, "third") + "\n"
		}
		if name == "an address of IPv6" {
			text += "data: " + filepath.Join(p.dir, "fourth") + "\n"
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, code := p.runWith(env, append([]string{"init", "--config", file}, args...)...)
		if code != 0 {
			t.Errorf("%s: code %d, %s", name, code, errs)
			continue
		}
		if err := os.WriteFile(file, []byte(text+out), 0o600); err != nil {
			t.Fatal(err)
		}
		if checks, _ := p.diagnosisWith(env, "--config", file); !checks["identity"].OK {
			t.Errorf("%s: %+v with\n%s", name, checks, text+out)
		}
	}
	before := snapshot(t, p.dir)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--issuer", "https://other.example"}, 2, "--issuer is \"https://other.example\", and " + file + " has \"" + testIssuer + "\"\n  hint: change it in the file"},
		{[]string{"--issuer", "http://id.example.com"}, 1, "--issuer: issuer \"http://id.example.com\" must use https"},
		{[]string{"--listen", "8420"}, 1, "--listen: \"8420\" is not an address"},
	} {
		_, errs, code := p.runWith(env, append([]string{"init", "--config", file, "--data", filepath.Join(p.dir, "fifth")}, tt.args...)...)
		if code != tt.code || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: code %d, %s", tt.args, code, errs)
		}
	}
	if after := snapshot(t, p.dir); after != before {
		t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
	}
}

// TestInitComparesFlagsWithTheFile, which it reads once: also if the file is a pipe, or a variable has a setting as well.
func TestInitComparesFlagsWithTheFile(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const other, text = "https://other.example", "issuer: " + testIssuer + "\n"
	file := filepath.Join(p.dir, "keymill.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for n, path := range []string{"/dev/stdin", "/dev/fd/3", file} {
		for i, tt := range []struct {
			variable, flag, want string
			code                 int
		}{
			{"", testIssuer, "", 0},
			{other, testIssuer, "", 0}, // the flag replaces the variable
			{"", other, "--issuer is \"" + other + "\", and " + path + " has \"" + testIssuer + "\"", 2},
			{other, other, "--issuer is \"" + other + "\", and " + path + " has \"" + testIssuer + "\"", 2},
		} {
			env := environment("KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.dir, "master.key"))
			if tt.variable != "" {
				env = append(env, "KEYMILL_ISSUER="+tt.variable)
			}
			data := filepath.Join(p.dir, fmt.Sprintf("init%d-%d", n, i))
			out, errs, code := p.runPiped(env, path, text, "init", "--config", path, "--data", data, "--issuer", tt.flag)
			if code != tt.code || !strings.Contains(errs, tt.want) || strings.Contains(out, "issuer:") || tt.code == 0 != strings.Contains(out, "\ndata: "+data+"\n") {
				t.Errorf("%s, %+v: code %d, %s%s", path, tt, code, out, errs)
			}
		}
	}
}

// TestInitQuotesWhatYAMLTakesForNoText: the line of a directory names that directory.
func TestInitQuotesWhatYAMLTakesForNoText(t *testing.T) {
	terminaltest.ClearEnvironment(t) // config.Load reads it, so this test is not parallel
	p := newPlace(t)
	env := environment("KEYMILL_MASTER_KEY_FILE=" + filepath.Join(p.dir, "master.key"))
	for _, name := range []string{"null", "Null", ".nan", ".inf", ".hidden", "true", "007", "1.5", "2026-01-01", "a b", "a: b", "-", "x", "a#b", "ü", "\"", "'"} {
		out, errs, code := p.runWith(env, "init", "--data", name)
		if code != 0 {
			t.Errorf("%s: code %d, %s", name, code, errs)
			continue
		}
		file := filepath.Join(p.dir, "keymill.yaml")
		if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := config.Load(file, nil, false); err != nil || c.Data != name {
			t.Errorf("%s: %v with\n%s", name, err, out)
		}
	}
}

// TestAWeakKeyThatIsTheWrongOneIsWrongFirst: to change it is no help, because the store has another key.
func TestAWeakKeyThatIsTheWrongOneIsWrongFirst(t *testing.T) {
	t.Parallel()
	p := made(t)
	for name, key := range weakKeys() {
		env := environment("KEYMILL_DATA="+p.data, "KEYMILL_MASTER_KEY_FILE="+p.writeKey("weak.key", key))
		for _, args := range [][]string{p.serveArgs(), {"init"}} {
			_, errs, code := p.runWith(env, args...)
			if code != 1 || !strings.HasPrefix(errs, "keymill: "+keystore.ErrMasterKey.Error()+"; besides, ") || strings.Contains(errs, "hint: change it") {
				t.Errorf("%s, %s: code %d, %s", name, args[0], code, errs)
			}
		}
		checks, code := p.diagnosisWith(env)
		if found := checks["master key"]; code != 1 || found.OK || !strings.HasPrefix(found.Detail, keystore.ErrMasterKey.Error()) || strings.Contains(found.Detail, "change it") {
			t.Errorf("%s, doctor: code %d, %+v", name, code, found)
		}
	}
}

// TestAPortThatTheSameServerHasIsSaid, and any other program is another program.
func TestAPortThatTheSameServerHasIsSaid(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	args := p.serveArgs("--listen", c.address)
	_, errs, code := p.run(args...)
	if want := "hint: a Keymill server of the same data directory is running, because " + p.at("admin.sock") + " answers; stop it first\n"; code != 1 || !strings.HasSuffix(errs, want) {
		t.Errorf("the same directory: code %d, %s", code, errs)
	}
	_, errs, code = p.run(append(args, "--data", filepath.Join(p.dir, "other"))...)
	if code != 1 || !strings.Contains(errs, "hint: another program has the port") {
		t.Errorf("another directory: code %d, %s", code, errs)
	}
}

// TestAnEmptyFileIsALostStore, and not the advice to make a new one.
func TestAnEmptyFileIsALostStore(t *testing.T) {
	t.Parallel()
	p := made(t)
	p.overwrite("")
	for _, args := range [][]string{p.serveArgs(), p.serveArgs("--init"), {"init"}, {"doctor"}, {"audit", "tail", "--store", p.store()}} {
		out, errs, code := p.run(args...)
		if code != 1 || !strings.Contains(out+errs, "the store in it is lost; restore a backup; only if it never held data, remove the file and run keymill init") {
			t.Errorf("%v: code %d, %s%s", args, code, out, errs)
		}
	}
	if _, err := bolt.OpenReadOnly(p.store()); err == nil {
		t.Error("it can be opened")
	}
}
