package config

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/keystore"
)

// A someSecret is one of the secrets, with a text that is valid for it.
type someSecret struct {
	places func(file string) secretPlaces
	text   string
	read   func(file string) (string, error)
}

// someSecrets returns every secret that the program reads.
func someSecrets(t *testing.T) map[string]someSecret {
	t.Helper()
	key := "9d2f6b18e04c7735a1c95be8027f3dd64ab810e37c5962f4d80b91ae563fc27d"
	parsed, err := keystore.ParseMasterKey([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]someSecret{
		"master key": {masterKeyPlaces, key, func(file string) (string, error) {
			got, err := (&Config{MasterKeyFile: file}).MasterKey()
			if err == nil && got == parsed { // a key is never printed
				return key, nil
			}
			return "another key", err
		}},
		"webhook secret": {webhookSecretPlaces, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=", func(file string) (string, error) {
			got, err := (&Config{WebhookURL: "https://hooks.example", WebhookSecretFile: file}).WebhookSecret()
			return string(got), err
		}},
		"password of the store": {storePasswordPlaces, "a long password", func(file string) (string, error) {
			c := &Config{Store: "postgres://keymill@db.example.com/keymill", StorePasswordFile: file}
			read, err := c.StorePassword()
			if err != nil || read == nil {
				return "", err
			}
			return read()
		}},
		"client secret": {clientSecretPlaces, "kms_billing", func(file string) (string, error) {
			got, err := ClientSecret(file, nil)
			return string(got), err
		}},
	}
}

// TestEverySecretHasTheSamePlacesAndEndings: a file, a credential of systemd and a variable. Editors,
// shells and "echo" add a newline, and editors of Windows a byte order mark.
func TestEverySecretHasTheSamePlacesAndEndings(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for name, s := range someSecrets(t) {
		for _, text := range []string{s.text, s.text + "\n", s.text + "\r\n", s.text + "\r", "\ufeff" + s.text, "\ufeff" + s.text + "\r\n"} {
			p := s.places(writeFile(t, s.places("").credential, text))
			check := func(place string, file string) {
				t.Helper()
				if got, err := s.read(file); got != s.text || err != nil {
					t.Errorf("%s %q in a %s: %q, %v", name, text, place, got, err)
				}
			}
			check("file", p.file)
			t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(p.file))
			check("credential", "")
			os.Unsetenv("CREDENTIALS_DIRECTORY")
			t.Setenv(p.variable, text)
			check("variable", "")
			if _, found := os.LookupEnv(p.variable); found {
				t.Errorf("%s is still in the environment", p.variable)
			}
		}
	}
}

// TestThePlacesOfASecretHaveAnOrder: a file before a credential before a variable. A credential of
// another name is none.
func TestThePlacesOfASecretHaveAnOrder(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for name, s := range someSecrets(t) {
		p := s.places("")
		good, bad := writeFile(t, p.credential, s.text), writeFile(t, p.credential, "wrong")
		for what, tt := range map[string]struct{ file, credential, variable string }{
			"file":                   {good, bad, "wrong"},
			"credential":             {"", good, "wrong"},
			"variable":               {"", filepath.Join(t.TempDir(), "keymill-other"), s.text},
			"variable, no directory": {"", "/nowhere/keymill", s.text},
		} {
			t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(tt.credential))
			t.Setenv(p.variable, tt.variable)
			if got, err := s.read(tt.file); got != s.text || err != nil {
				t.Errorf("%s: %s: %q, %v", name, what, got, err)
			}
		}
	}
}

// TestOneNewlineIsRemovedAndNoMore: a secret of another form is not repaired.
func TestOneNewlineIsRemovedAndNoMore(t *testing.T) {
	for text, want := range map[string]string{
		"x": "x", "x\n": "x", "x\r\n": "x", "x\n\n": "x\n", "x\r\n\r\n": "x\r\n", "x \n": "x ", " x": " x", "\ufeff\ufeffx\n": "\ufeffx", "\n": "", "": "",
	} {
		if got, err := secretText([]byte(text)); string(got) != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
	raw := []byte("\xff\xfe thirty-two random bytes ... \n") // its own last byte is a newline
	want, err := keystore.ParseMasterKey(raw)
	if err != nil || len(raw) != rawMasterKeyBytes {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	for _, end := range []string{"", "\n", "\r\n"} {
		if got, err := ParseMasterKey("x", append(bytes.Clone(raw), end...)); got != want || err != nil {
			t.Errorf("a raw key and %q: %v", end, err)
		}
	}
}

// TestASecretThatIsNoneIsNamedByItsPlace, and never shown.
func TestASecretThatIsNoneIsNamedByItsPlace(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for name, s := range someSecrets(t) {
		for text, want := range map[string]string{
			"":                                     "",
			strings.Repeat("hush", maxSecretBytes): "too long for a secret (over 4096 bytes)",
			"h\x00u\x00s\x00h\x00":                 "the text is in UTF-16 without a byte order mark",
			"\xff\xfe\x00\x00h":                    "the text is in UTF-32",
		} {
			path := writeFile(t, "secret", text)
			got, err := s.read(path)
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
				t.Errorf("%s %.8q: %q, %v, want %s", name, text, got, err, want)
			}
		}
	}
	if got, err := ClientSecret("", strings.NewReader("\n")); err == nil || !strings.Contains(err.Error(), "standard input is empty") {
		t.Errorf("an empty client secret on standard input: %q, %v", string(got), err)
	}
	if got, err := ClientSecret("", nil); got != "" || err != nil {
		t.Errorf("no client secret: %q, %v", string(got), err)
	}
}

// TestAWebhookNeedsASecretAndASecretAWebhook.
func TestAWebhookNeedsASecretAndASecretAWebhook(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	c := &Config{WebhookURL: "https://hooks.example", source: map[string]string{"webhook.url": "keymill.yaml:2"}}
	if _, err := c.WebhookSecret(); err == nil || !strings.HasPrefix(err.Error(), "keymill.yaml:2: webhook.url: webhook.secret_file is missing") {
		t.Errorf("no secret: %v", err)
	}
	if got, err := (&Config{}).WebhookSecret(); got != "" || err != nil {
		t.Errorf("no webhook: %q, %v", string(got), err)
	}
	t.Setenv("KEYMILL_WEBHOOK_SECRET", "whsec_x")
	if _, err := (&Config{}).WebhookSecret(); err == nil || err.Error() != "KEYMILL_WEBHOOK_SECRET is set, but webhook.url is missing" {
		t.Errorf("a secret without a webhook: %v", err)
	}
}

// A mountedFile is a file of any owner. Only root could make a real one.
type mountedFile struct {
	mode     fs.FileMode
	uid, gid uint32
}

func (f mountedFile) Name() string       { return "key" }
func (f mountedFile) Size() int64        { return 32 }
func (f mountedFile) Mode() fs.FileMode  { return f.mode }
func (f mountedFile) ModTime() time.Time { return time.Time{} }
func (f mountedFile) IsDir() bool        { return false }
func (f mountedFile) Sys() any           { return &syscall.Stat_t{Uid: f.uid, Gid: f.gid} }

// TestWhoMayOwnAndReadASecret is the table of owners, groups and modes, for the user 1001 with the
// groups 1001 and 2000.
func TestWhoMayOwnAndReadASecret(t *testing.T) {
	t.Parallel()
	us := trusted{users: []int{0, 1001}, groups: []int{1001, 2000}}
	for _, tt := range []struct {
		name string
		file mountedFile
		want string // of the error; "" if the file is accepted
	}{
		{"own", mountedFile{0o600, 1001, 1001}, ""},
		{"own, to read only", mountedFile{0o400, 1001, 1001}, ""},
		{"own, group readable", mountedFile{0o640, 1001, 1001}, ""},
		{"Kubernetes with fsGroup", mountedFile{0o440, 0, 2000}, ""},
		{"on a volume with fsGroup", mountedFile{0o660, 0, 2000}, ""},
		{"root's for our group", mountedFile{0o640, 0, 2000}, ""},
		{"root's alone", mountedFile{0o600, 0, 0}, ""},
		{"group without rights", mountedFile{0o600, 1001, 3000}, ""},
		{"Kubernetes without defaultMode", mountedFile{0o644, 0, 0}, "key may be read by others (mode 0644)"},
		{"Swarm without mode", mountedFile{0o444, 0, 0}, "key may be read by others (mode 0444)"},
		{"writable by others", mountedFile{0o602, 1001, 1001}, "key may be read by others (mode 0602)"},
		{"own, readable by others", mountedFile{0o604, 1001, 1001}, "key may be read by others (mode 0604)"},
		{"another group", mountedFile{0o440, 0, 3000}, "key may be read by group 3000, which is not a group of this process (mode 0440)"},
		{"own, another group", mountedFile{0o640, 1001, 3000}, "key may be read by group 3000"},
		{"group root is not ours", mountedFile{0o640, 0, 0}, "key may be read by group 0"},
		{"another owner, our group", mountedFile{0o440, 1002, 2000}, "key belongs to uid 1002, which is neither root nor the user of this process"},
		{"another owner, readable through a list of access", mountedFile{0o600, 1002, 1002}, "key belongs to uid 1002"},
		{"a pipe of another user", mountedFile{fs.ModeNamedPipe | 0o600, 1002, 1002}, ""},
		{"a pipe for everyone", mountedFile{fs.ModeNamedPipe | 0o666, 1001, 1001}, "key may be read by others (mode 0666)"},
	} {
		err := us.check("key", tt.file)
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestTheRefusalOfAMountedSecretSaysWhatMendsIt for each of the secrets.
func TestTheRefusalOfAMountedSecretSaysWhatMendsIt(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for name, s := range someSecrets(t) {
		path := writeFile(t, s.places("").credential, s.text)
		if err := os.Chmod(path, 0o444); err != nil {
			t.Fatal(err)
		}
		check := func(place string, err error) {
			t.Helper()
			var shown strings.Builder
			terminal.Report(&shown, err)
			want := "keymill: " + path + " may be read by others (mode 0444)\n  hint: chmod 600 " + path +
				"; of a mounted secret: in Kubernetes defaultMode: 0440 with fsGroup, in Compose mode: 0400 with uid\n"
			if shown.String() != want {
				t.Errorf("%s in a %s:\n%swant\n%s", name, place, shown.String(), want)
			}
		}
		_, err := s.read(path)
		check("file", err)
		t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
		_, err = s.read("")
		check("credential", err)
		os.Unsetenv("CREDENTIALS_DIRECTORY")
	}
}

// TestASecretIsReadThroughLinks, as Kubernetes mounts it: the file's name is a link into "..data",
// which is a link to a directory that is replaced as a whole.
func TestASecretIsReadThroughLinks(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	for name, s := range someSecrets(t) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "..2026_11_27"), 0o755); err != nil {
			t.Fatal(err)
		}
		real := filepath.Join(dir, "..2026_11_27", "secret")
		if err := os.WriteFile(real, []byte(s.text), 0o440); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "secret")
		for link, to := range map[string]string{filepath.Join(dir, "..data"): "..2026_11_27", path: "..data/secret"} {
			if err := os.Symlink(to, link); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.read(path); got != s.text || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err := os.Chmod(real, 0o444); err != nil { // the mode of the file counts, not that of the link
			t.Fatal(err)
		}
		if _, err := s.read(path); err == nil || !strings.Contains(err.Error(), "may be read by others") {
			t.Errorf("%s for everyone: %v", name, err)
		}
	}
}

// TestRootReadsTheSecretsOfAServerThatIsAnotherUser: root runs doctor on its data directory.
func TestRootReadsTheSecretsOfAServerThatIsAnotherUser(t *testing.T) {
	terminaltest.NeedRoot(t)
	terminaltest.ClearEnvironment(t)
	key := "9d2f6b18e04c7735a1c95be8027f3dd64ab810e37c5962f4d80b91ae563fc27d"
	path, data := writeFile(t, "master.key", key), t.TempDir()
	own := func(uid, gid int, mode fs.FileMode) {
		t.Helper()
		if os.Chown(path, uid, gid) != nil || os.Chmod(path, mode) != nil {
			t.Fatal("cannot give the file away")
		}
	}
	if err := os.Chown(data, 1001, 2000); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		uid, gid int
		mode     fs.FileMode
		good     bool
	}{
		{1001, 1001, 0o600, true}, {0, 2000, 0o640, true}, {1001, 2000, 0o440, true}, {0, 0, 0o640, true},
		{1002, 2000, 0o600, false}, {0, 3000, 0o640, false}, {1001, 2000, 0o444, false},
	} {
		own(tt.uid, tt.gid, tt.mode)
		if _, err := (&Config{MasterKeyFile: path, Data: data}).MasterKey(); (err == nil) != tt.good {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	own(1001, 2000, 0o600)
	if _, err := (&Config{MasterKeyFile: path}).MasterKey(); err == nil {
		t.Error("the key of another user was accepted without a data directory of that user")
	}
}

// TestTheWebhookSecretIsReadAgainOnlyWhereItStays: a FIFO and a variable can be read once, so the secret of before stays.
func TestTheWebhookSecretIsReadAgainOnlyWhereItStays(t *testing.T) {
	terminaltest.ClearEnvironment(t)
	const before, now = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=", "whsec_AAKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"": before, fifo: before, writeFile(t, "hook", now): now} {
		c := &Config{WebhookURL: "https://hooks.example", WebhookSecretFile: file}
		if got, err := c.WebhookSecretAgain(before); err != nil || string(got) != want {
			t.Errorf("%q: another secret, %v", file, err)
		}
	}
	if _, err := (&Config{WebhookURL: "https://hooks.example", WebhookSecretFile: "/none"}).WebhookSecretAgain(before); err == nil {
		t.Error("a file that is missing was passed over")
	}
}
