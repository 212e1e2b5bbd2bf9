package config

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestTheMarkIsAFileOfItsOwn: every file that the server uses is refused at store.mark_file, however it is
// written, and so is what cannot be a mark. Nothing is written.
func TestTheMarkIsAFileOfItsOwn(t *testing.T) {
	top := t.TempDir()
	t.Chdir(top)
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Join(top, "credentials"))
	for _, dir := range []string{"data", "credentials", "elsewhere"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"data/keymill.db", "data/lock", "data/dev-master-key", "data/dev-credentials", "keymill.yaml", "master.key", "webhook.secret",
		"credentials/keymill-master-key", "credentials/keymill-webhook-secret",
	} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", "data/admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	os.Symlink("data", "link")
	os.Symlink("data/keymill.db", "store")
	os.Symlink("nowhere", "dangling")
	os.Link("data/keymill.db", "elsewhere/second")
	syscall.Mkfifo("fifo", 0o600)

	c := &Config{Data: "data", MasterKeyFile: "master.key", WebhookSecretFile: "webhook.secret", file: "keymill.yaml", source: map[string]string{}}
	store := "is the file keymill.db of the data directory"
	for path, want := range map[string]string{
		"data/keymill.db":                     store,
		"./data/../data//keymill.db":          store,
		"link/keymill.db":                     store,
		filepath.Join(top, "data/keymill.db"): store,
		"/proc/self/cwd/data/keymill.db":      store,
		"elsewhere/second":                    store,
		"data/lock":                           "is the file lock of the data directory",
		"link/../data/lock":                   "is the file lock of the data directory",
		"data/admin.sock":                     "is not a regular file",
		"data/dev-master-key":                 "is the file dev-master-key of the data directory",
		"data/dev-credentials":                "is the file dev-credentials of the data directory",
		"elsewhere/../keymill.yaml":           "is the configuration",
		"master.key":                          "is the file of master_key_file",
		filepath.Join(top, "webhook.secret"):  "is the file of webhook.secret_file",
		"credentials/keymill-master-key":      "is the credential keymill-master-key",
		"credentials/keymill-webhook-secret":  "is the credential keymill-webhook-secret",
		"data":                                "is a directory",
		"data/":                               "is a directory",
		"data/mark/":                          "is a directory",
		".":                                   "is a directory",
		"data/..":                             "is a directory",
		"missing/keymill.mark":                "cannot be made: its directory missing/ does not exist",
		"missing/../keymill.mark":             "cannot be made: its directory missing/../ does not exist",
		"data/missing/../keymill.mark":        "cannot be made: its directory data/missing/../ does not exist",
		"master.key/keymill.mark":             "cannot be made: master.key/ is not a directory",
		"dangling":                            "is a symbolic link, which is not followed",
		"store":                               "is a symbolic link, which is not followed",
		"fifo":                                "is not a regular file",
		"/dev/null":                           "is not a regular file",
		"data/keymill.mark":                   "",
		"data/other.mark":                     "",
		"elsewhere/keymill.mark":              "",
		"elsewhere/lock":                      "",
		"keymill.mark":                        "",
		filepath.Join(top, "elsewhere/../keymill.mark2"): "",
	} {
		c.MarkFile = path
		err := c.CheckMark()
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), "store.mark_file: "+path+" "+want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for path, want := range map[string]string{
		"data/keymill.db": store, "link/keymill.db": store, "master.key": "is the file of master_key_file", "./keymill.yaml": "is the configuration",
		"data/keymill.mark": "is the mark of the store", "data/../data/keymill.mark": "is the mark of the store",
		"fifo": "is not a regular file", "dangling": "is a symbolic link", "data": "is a directory", "missing/audit.log": "cannot be made: its directory missing/ does not exist",
		"elsewhere/audit.log": "", "audit.log": "", "": "", "stderr": "", "./stderr": "",
	} {
		c.MarkFile, c.AuditLog = "", path
		err := c.checkAuditLog()
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), "audit.log: "+path+" "+want)) {
			t.Errorf("audit.log %s: %v, want %q", path, err, want)
		}
	}
	for path, want := range map[string]string{
		"first/keymill.db":   store,
		"first/lock":         "is the file lock of the data directory",
		"./first/admin.sock": "is the file admin.sock of the data directory",
		"first/keymill.mark": "",
		"first/other.mark":   "",
		"first/x/other.mark": "cannot be made: its directory first/x/ does not exist",
	} {
		c.Data, c.MarkFile = "first", path
		err := c.CheckMark()
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), "store.mark_file: "+path+" "+want)) {
			t.Errorf("before the directory is made, %s: %v, want %q", path, err, want)
		}
	}
}
