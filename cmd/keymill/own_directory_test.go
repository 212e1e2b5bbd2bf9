package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAStoreIsNotCreatedAmongOtherFiles: a mistyped directory keeps its mode and its files, and every other
// user keeps access to it.
func TestAStoreIsNotCreatedAmongOtherFiles(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	if err := os.Mkdir(p.data, 0o700); err != nil {
		t.Fatal(err)
	}
	dev := []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", p.data}
	for _, name := range []string{"passwd", ".profile", "keymill", "my file", "lib/"} {
		path := filepath.Join(p.data, name)
		create := func() error { return os.WriteFile(path, nil, 0o644) }
		if strings.HasSuffix(name, "/") {
			create = func() error { return os.Mkdir(path, 0o755) }
		}
		if err := create(); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []fs.FileMode{0o755, fs.ModeSticky | 0o777} {
			if err := os.Chmod(p.data, mode); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, p.dir)
			for _, args := range [][]string{{"init"}, p.serveArgs("--init"), dev} {
				env := p.env()
				if len(args) > 1 && args[1] == "--dev" {
					env = environment()
				}
				out, errs, code := p.runWith(env, args...)
				if code != 1 || out != "" || !strings.Contains(errs, "holds other files, such as ") || !strings.Contains(errs, strings.Trim(name, "/")) ||
					!strings.Contains(errs, "\n  hint: no store is created there, because its directory becomes private; name a directory of its own, such as "+p.data+"/keymill\n") {
					t.Errorf("%q, %v: code %d, %s%s", name, args, code, out, errs)
				}
			}
			if after := snapshot(t, p.dir); after != before {
				t.Errorf("%q: the disk changed; before:\n%safter:\n%s", name, before, after)
			}
		}
		os.Remove(path)
	}
}

// TestAStoreIsCreatedInADirectoryOfItsOwn: what mkfs makes, what an earlier start left and what the
// configuration names may be there. A directory that holds a store is served with any files in it.
func TestAStoreIsCreatedInADirectoryOfItsOwn(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i, names := range [][]string{nil, {"lost+found"}, {"lock", ".new-123", "keymill.db.new-4", "dev-master-key.new-5", "keymill.revoked.new-6"}, {"own.key", "keymill.yaml"}} {
		p.data = filepath.Join(p.dir, fmt.Sprint("data", i))
		if err := os.Mkdir(p.data, 0o755); err != nil {
			t.Fatal(err)
		}
		key := filepath.Join(p.dir, "master.key")
		for _, name := range names {
			content := ""
			if name == "own.key" {
				key, content = filepath.Join(p.data, name), testKey("k")
			}
			if err := os.WriteFile(filepath.Join(p.data, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		env := environment("KEYMILL_DATA="+p.data, "KEYMILL_MASTER_KEY_FILE="+key)
		args := []string{"init"}
		if len(names) == 2 {
			args = append(args, "--config", filepath.Join(p.data, "keymill.yaml"))
		}
		if _, errs, code := p.runWith(env, args...); code != 0 {
			t.Errorf("%v: code %d, %s", names, code, errs)
		}
		p.checkMode("", uint32(os.Geteuid()), 0o700)
	}
	p.data = filepath.Join(p.dir, "data0")
	if err := os.WriteFile(filepath.Join(p.data, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := p.startWith(p.env(), p.serveArgs()...)
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
}
