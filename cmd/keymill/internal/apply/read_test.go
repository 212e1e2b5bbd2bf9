package apply

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/terminal"
)

// writeFile writes a file in dir and returns its path.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestABadFileIsNamedWithItsLine.
func TestABadFileIsNamedWithItsLine(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	for text, want := range map[string]string{
		"":                        "the files name no audience, client, verifier or user",
		"audiences: []":           "the files name no audience, client, verifier or user",
		"# nothing\n---\n---\n":   "the files name no audience, client, verifier or user",
		"a: [":                    "FILE:1: not YAML",
		"- a":                     `FILE:1: a file of entries must be lines like "name: value"`,
		"\n\naudience: []":        `FILE:3: unknown key "audience"; did you mean "audiences"?`,
		"keys: []":                `FILE:1: unknown key "keys"`,
		"audiences: {name: a}":    "FILE:1: audiences must be a list",
		"audiences: orders":       "FILE:1: audiences must be a list",
		"audiences: [orders]":     `FILE:1: each audience must be lines like "name: value"`,
		"audiences:\n  - ttl: 5m": "FILE:2: this audience has no name",
		"clients: [{}]":           "FILE:1: this client has no id",
		"users: [{claims: {}}]":   "FILE:1: this user has no user",
		"users: [{user: a}]":      "FILE:1: user a has no claims; write claims: {} for none",
		"verifiers: [{name: a}]\nverifiers: [{name: b}]":      `FILE:2: not YAML: mapping key "verifiers" already defined`,
		"audiences:\n  - name: a\n    name: b":                `FILE:3: not YAML: mapping key "name" already defined`,
		"audiences:\n  - name: a\n    nmae: b":                `FILE:3: unknown key "nmae"; did you mean "name"?`,
		"verifiers: [{name: a}]\n# caf\xe9":                   "FILE:2: the text is not UTF-8",
		"users: [{user: a, claims: {x: \"\xff\"}}]":           "FILE:1: the text is not UTF-8",
		"verifiers:\n\t- name: a":                             `FILE:2: not YAML: found character '\t' that`,
		"clients: [{id: a, " + hash + ": x}]":                 "FILE:1: unknown key of 64 bytes; known keys: ",
		"root:*:20228:0:99999:7:::\nbin:*:20228:0:99999:7:::": "FILE:1: ",
		"clients: [{id: a, scopes: [keys:read]}]":             "FILE:1: scopes must be a list of plain values; put a value with a colon in quotes",
		"clients: [{id: a, secret_sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}]": "FILE:1: secret_sha256 is the SHA-256 of nothing",
		"audiences: [{name: a, ttl: soon}]":                                                        `FILE:1: ttl: "soon" is not a duration like 30s, 15m, 12h or 30d`,
		"audiences: [{name: a, ttl: -1s}]":                                                         `FILE:1: ttl: "-1s" is not a duration`,
		"audiences: [{name: a, scopes: read}]":                                                     "FILE:1: scopes must be a list",
		"audiences: [{name: a, scopes: [[read]]}]":                                                 "FILE:1: scopes must be a list of plain values",
		"audiences: [{name: [a]}]":                                                                 "FILE:1: name must be one plain value",
		"audiences: [{name: &x a}]":                                                                "FILE:1: name must be one plain value",
		"audiences: [{name: !!str a}]":                                                             "FILE:1: name must be one plain value",
		"x: &x {name: a}\naudiences: [*x]":                                                         `FILE:1: unknown key "x"`,
		"audiences: [{<<: {name: a}}]":                                                             "FILE:1: ",
		"clients: [{id: a, public: yes}]":                                                          "FILE:1: public must be true or false",
		"clients: [{id: a, disabled: true}]":                                                       `FILE:1: unknown key "disabled"`,
		"clients: [{id: a, secret: x}]":                                                            `FILE:1: unknown key "secret"; did you mean "secret_`,
		"clients: [{id: a, secret_sha256: abc}]":                                                   "FILE:1: secret_sha256 must be 64 hex digits",
		"clients: [{id: a, secret_sha256: '" + hash + "ff'}]":                                      "FILE:1: secret_sha256 must be 64 hex digits",
		"clients: [{id: a, public: true, secret_sha256: '" + hash + "'}]":                          "FILE:1: client a is public and has no secret",
		"clients: [{id: a, secret_sha256: '" + hash + "', secret_file: s}]":                        "FILE:1: secret_",
		"clients: [{id: a, secret_file: none}]":                                                    "FILE:1: secret_file: ",
		"users: [{user: a, claims: {n: 0x10}}]":                                                    "FILE:1: a claim has a number that is not written as JSON does",
		"users: [{user: a, claims: {n: .inf}}]":                                                    "FILE:1: a claim must be text",
		"users: [{user: a, claims: {x: {a: 1, a: 2}}}]":                                            `FILE:1: not YAML: mapping key "a" already defined`,
		"users: [{user: a, claims: " + strings.Repeat("{x: ", 30) + strings.Repeat("}", 30) + "}]": "FILE:1: a claim is nested deeper than 20 levels",
		"audiences: [{name: a}]\n---\n\naudiences: [{name: a}]":                                    "FILE:4: audience a is there twice, first in FILE:1",
		"audiences: [{name: \"\\ud800\"}]\xff\xfe":                                                 "FILE:",
		"\x00\x00\xfe\xffa":                                                                        "FILE:1: the text is in UTF-32",
		strings.Repeat("#", maxFileBytes+1):                                                        "FILE is too long",
	} {
		dir := t.TempDir()
		writeFile(t, dir, "s", strings.Repeat("a", 64))
		path := writeFile(t, dir, "entries.yaml", text)
		_, err := Read(nil, path)
		if err == nil {
			t.Errorf("%.100q is accepted", text)
		} else if got := strings.ReplaceAll(err.Error(), path, "FILE"); !strings.HasPrefix(got, want) {
			t.Errorf("%.100q: %s\nwant %s", text, got, want)
		}
	}
}

// TestTheFilesOfADirectoryAreRead in the order of their names, and no others.
func TestTheFilesOfADirectoryAreRead(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.yaml": "audiences: [{name: b}]", "a.yml": "audiences: [{name: a}]", ".hidden.yaml": "bad", "README.md": "bad", "sub/c.yaml": "bad",
	} {
		writeFile(t, dir, name, text)
	}
	// As Kubernetes mounts a ConfigMap.
	writeFile(t, dir, "..2026/d.yaml", "verifiers: [{name: d}]")
	for _, link := range [][2]string{{"..2026", "..data"}, {"..data/d.yaml", "d.yaml"}} {
		if err := os.Symlink(link[0], filepath.Join(dir, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Read(nil, dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range f.entries {
		got = append(got, e.label())
	}
	if s := strings.Join(got, ", "); s != "audience a, audience b, verifier d" {
		t.Errorf("read %s", s)
	}
	out := writeFile(t, t.TempDir(), "out.yaml", "audiences: [{name: out}]")
	if err := os.Symlink(out, filepath.Join(dir, "e.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(nil, dir); err == nil || !strings.Contains(err.Error(), "e.yaml is a link out of its directory, to "+out) {
		t.Errorf("a link out of the directory: %v", err)
	}
	if _, err := Read(nil, filepath.Join(dir, "sub", "..")); err == nil {
		t.Error("the same directory under another name is read")
	}
	if _, err := Read(nil, t.TempDir()); err == nil || !strings.HasSuffix(err.Error(), "has no file *.yaml or *.yml") {
		t.Errorf("an empty directory: %v", err)
	}
	writeFile(t, filepath.Join(dir, "twice"), "a.yaml", "audiences: [{name: a}]")
	writeFile(t, filepath.Join(dir, "twice"), "b.yaml", "\naudiences: [{name: a}]")
	if _, err := Read(nil, filepath.Join(dir, "twice")); err == nil || !strings.Contains(err.Error(), "b.yaml:2: audience a is there twice, first in ") || !strings.HasSuffix(err.Error(), "a.yaml:1") {
		t.Errorf("an entry in two files: %v", err)
	}
}

// TestASecretIsReadBesideItsFile, and only its hash is kept. No error quotes it.
func TestASecretIsReadBesideItsFile(t *testing.T) {
	secret := strings.Repeat("Kx7", 20)
	dir := t.TempDir()
	writeFile(t, dir, "keys/web.secret", secret+"\r\n")
	entries := "clients: [{id: web, secret_file: keys/web.secret}]"
	path := writeFile(t, dir, "clients.yaml", entries)
	sum := sha256.Sum256([]byte(secret))
	f, err := Read(nil, path)
	if err != nil || f.entries[0].client.SecretSHA256 != hex.EncodeToString(sum[:]) {
		t.Fatalf("got %+v, %v", f, err)
	}
	t.Chdir(dir)
	if f, err := Read(strings.NewReader(entries), "-"); err != nil || *f.entries[0].secret != sum {
		t.Errorf("from standard input: %v", err)
	}
	for _, bad := range []string{"", "\n", secret[:42], secret + "\n" + secret, secret + " ", secret + "é", strings.Repeat("x", 2000)} {
		writeFile(t, dir, "keys/web.secret", bad)
		_, err := Read(nil, path)
		if err == nil || !strings.Contains(err.Error(), "clients.yaml:1: ") || bad != "" && strings.Contains(err.Error(), strings.TrimSpace(bad + " x")[:len(bad)]) && len(bad) > 1 {
			t.Errorf("%q: %v", bad, err)
		}
		if err != nil && len(bad) < 1000 && !strings.Contains(terminal.HintOf(err), "openssl rand -hex 32") {
			t.Errorf("%q has hint %q", bad, terminal.HintOf(err))
		}
	}
}

// TestASecretFileIsAFileOfItsOwn: others cannot read it, and a FIFO is an error at once.
func TestASecretFileIsAFileOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	secret := writeFile(t, dir, "s", strings.Repeat("a", 64))
	path := writeFile(t, dir, "clients.yaml", "clients: [{id: web, secret_file: s}]")
	for mode, want := range map[os.FileMode]string{0o604: "s may be read by others (mode 0604)", 0o666: "s may be read by others (mode 0666)", 0o640: ""} {
		if err := os.Chmod(secret, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Read(nil, path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "clients.yaml:1: ") || !strings.HasSuffix(err.Error(), want) || !strings.Contains(terminal.HintOf(err), "chmod 600 ")) {
			t.Errorf("mode %o: %v, hint %q", mode, err, terminal.HintOf(err))
		}
	}
	if err := errors.Join(os.Remove(secret), unix.Mkfifo(secret, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(nil, path); err == nil || !strings.HasSuffix(err.Error(), "s is not a regular file") {
		t.Errorf("a FIFO: %v", err)
	}
}

// TestSeveralFilesAreReadTogether: the last one does not stand for all, because --prune would remove the entries of the
// others.
func TestSeveralFilesAreReadTogether(t *testing.T) {
	dir := t.TempDir()
	a, b := writeFile(t, dir, "a.yaml", "audiences: [{name: a}]"), writeFile(t, dir, "b/b.yaml", "%YAML 1.2\n---\nverifiers: [{name: b}]")
	f, err := Read(strings.NewReader("verifiers: [{name: c}]"), a, filepath.Dir(b), "-")
	if err != nil || len(f.entries) != 3 {
		t.Errorf("read %+v, %v", f, err)
	}
	if _, err := Read(nil, a, a); err == nil || !strings.Contains(err.Error(), "audience a is there twice") {
		t.Errorf("the same file twice: %v", err)
	}
}

// TestWhatIsNoFileIsAnError, at once.
func TestWhatIsNoFileIsAnError(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"clients.yaml.d", "clients.yaml.d/a.yaml", "fifo"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo", "a.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, link := range [][2]string{{"nowhere", "links/a.yaml"}, {"a.yaml", "loop/a.yaml"}} {
		writeFile(t, dir, filepath.Dir(link[1])+"/b.yaml", "verifiers: [{name: b}]")
		if err := os.Symlink(link[0], filepath.Join(dir, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"links": "links/a.yaml is a link that leads to no file", "loop": "loop/a.yaml is a link that leads to no file",
		"none.yaml": "no such file", "clients.yaml.d": "is a directory", "fifo": "a.yaml is not a regular file", "/dev/zero": "too long",
	} {
		path := name
		if !filepath.IsAbs(name) {
			path = filepath.Join(dir, name)
		}
		if _, err := Read(nil, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range maxFiles + 1 {
		writeFile(t, filepath.Join(dir, "many"), fmt.Sprintf("%d.yaml", n), "")
	}
	if _, err := Read(nil, filepath.Join(dir, "many")); err == nil || !strings.Contains(err.Error(), "at most 500") {
		t.Errorf("many files: %v", err)
	}
	many := "verifiers:\n" + strings.Repeat("- {name: a}\n", maxEntries+1)
	if _, err := Read(strings.NewReader(many), "-"); err == nil || !strings.Contains(err.Error(), "5000 entries") {
		t.Errorf("many entries: %v", err)
	}
}

// FuzzRead: whatever a file has, an error is one line that can be printed and names the file.
func FuzzRead(f *testing.F) {
	f.Add("audiences: [{name: a, ttl: 5m, scopes: [read]}]\n---\nusers: [{user: a, claims: {x: [1, {y: null}]}}]")
	f.Add("clients:\n  - id: web\n    public: true\n    secret_sha256: \"00\"\n")
	f.Add("x: &a [*a]")
	f.Add("a: |\n  b\n? c\n: d")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "secret_file") {
			return // it would read files of this machine
		}
		files, err := Read(strings.NewReader(text), "-")
		if err != nil {
			if line := terminal.OneLine(terminal.Plain(err)); line == "" || len(line) > 2000 {
				t.Errorf("error %q", line)
			}
			return
		}
		for _, e := range files.entries {
			if e.name == "" || e.at.Line < 1 {
				t.Errorf("entry %+v", e)
			}
		}
	})
}
