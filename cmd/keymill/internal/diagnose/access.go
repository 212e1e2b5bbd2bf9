package diagnose

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// Root can open every file, and the server's user cannot: after root put a copy back, the store belongs to
// root. So root asks a process of the server's user. It is this program with AccessVerb. It gets a list
// of namedfile.Need on stdin, tries each without changing anything, and writes the list of
// namedfile.Fault to stdout.
const AccessVerb = "check-access"

// CheckAccess is that process.
func CheckAccess(in io.Reader, out io.Writer) error {
	var needs []namedfile.Need
	if err := json.NewDecoder(in).Decode(&needs); err != nil {
		return err
	}
	faults := []*namedfile.Fault{}
	for _, n := range needs {
		if f := namedfile.Check(n); f != nil {
			faults = append(faults, f)
		}
	}
	return json.NewEncoder(out).Encode(faults)
}

// checkAccess finds what the server's user cannot open, if doctor runs as root.
func (d *Doctor) checkAccess(ctx context.Context) {
	if os.Geteuid() != 0 {
		return // what this user cannot open, the other checks have said
	}
	server, err := d.serverUser()
	if err == nil {
		faults := d.foreignFiles(server)
		var more []*namedfile.Fault
		if more, err = d.tryAs(ctx, server, d.needs()); err == nil {
			d.reportAccess(server, append(faults, more...))
		}
	}
	d.findings.check("access", err)
}

// reportAccess adds a finding for each line to type: what is wrong with a directory concerns all its files.
func (d *Doctor) reportAccess(server account, faults []*namedfile.Fault) {
	seen := map[string]bool{}
	for _, f := range faults {
		line := cmp.Or(f.Hint, f.Path)
		if !seen[line] {
			err := fmt.Errorf("the server's user, %s: %s", server, f.What)
			if f.Hint != "" {
				err = terminal.WithHint(err, "type: %s", f.Hint)
			}
			d.findings.add("access", "", err)
		}
		seen[line] = true
	}
	if len(faults) == 0 {
		d.findings.add("access", fmt.Sprintf("the server's user, %s, can open its files", server), nil)
	}
}

// An account is the user that a server runs as.
type account struct{ uid, gid int }

func (a account) String() string {
	if u, err := user.LookupId(strconv.Itoa(a.uid)); err == nil {
		return fmt.Sprintf("%s (uid %d)", terminal.Printable(u.Username), a.uid)
	}
	return fmt.Sprintf("uid %d", a.uid)
}

// serverUser returns the owner of the data directory. A mounted volume may belong to another user and be
// writable by a group. Then the server is the owner of the files that it has made there.
func (d *Doctor) serverUser() (account, error) {
	info, err := os.Stat(d.Config.Data)
	if err != nil {
		return account{}, err
	}
	uid, gid := namedfile.Owner(info)
	if info.Mode().Perm()&0o020 == 0 {
		return account{uid, gid}, nil
	}
	var owners []int
	for _, name := range []string{"lock", "keymill.mark", "admin.sock", "keymill.db"} {
		if info, err := os.Lstat(d.Config.Path(name)); err == nil {
			owner, _ := namedfile.Owner(info)
			owners = append(owners, owner)
		}
	}
	if uid != 0 && slices.Contains(owners, uid) {
		return account{uid, gid}, nil
	}
	if i := slices.IndexFunc(owners, func(owner int) bool { return owner != 0 }); i >= 0 {
		return account{owners[i], gid}, nil
	}
	return account{uid, gid}, nil
}

// foreignFiles finds the files that a server takes only from its own user.
func (d *Doctor) foreignFiles(server account) (faults []*namedfile.Fault) {
	if server.uid == 0 {
		return nil
	}
	for _, name := range []string{"keymill.db", "lock"} {
		path := d.Config.Path(name)
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if uid, _ := namedfile.Owner(info); uid != server.uid {
			hint := namedfile.Chown(path, info, server.uid)
			faults = append(faults, &namedfile.Fault{Path: path, What: path + " " + namedfile.Described(info), Hint: hint})
		}
	}
	return faults
}

// needs lists what a server opens.
func (d *Doctor) needs() []namedfile.Need {
	c := d.Config
	needs := []namedfile.Need{
		{Path: c.Data, Use: namedfile.ToCreate},
		{Path: c.Path("lock"), Use: namedfile.ToWrite},
		{Path: c.MarkPath(), Use: namedfile.ToWrite},
	}
	if !c.IsShared() {
		needs = append(needs, namedfile.Need{Path: c.Path("keymill.db"), Use: namedfile.ToWrite})
	}
	if dir := filepath.Dir(c.MarkPath()); missing(c.MarkPath()) && dir != filepath.Clean(c.Data) {
		needs = append(needs, namedfile.Need{Path: dir, Use: namedfile.ToCreate})
	}
	if c.AuditLog != "" && c.AuditLog != "stderr" {
		needs = append(needs, namedfile.Need{Path: c.AuditLog, Use: namedfile.ToWrite})
		if missing(c.AuditLog) {
			needs = append(needs, namedfile.Need{Path: filepath.Dir(c.AuditLog), Use: namedfile.ToCreate})
		}
	}
	if path := c.VerifySocket(); path != "" {
		needs = append(needs, namedfile.Need{Path: filepath.Dir(path), Use: namedfile.ToCreate})
	}
	if c.Dev {
		for _, name := range []string{"dev-master-key", "dev-credentials"} {
			needs = append(needs, namedfile.Need{Path: c.Path(name), Use: namedfile.ToRead})
		}
	}
	if c.File() != "" {
		needs = append(needs, namedfile.Need{Path: c.File(), Use: namedfile.ToShare})
	}
	if c.InFile("tls.cert_file") {
		needs = append(needs, namedfile.Need{Path: c.TLSCertFile, Use: namedfile.ToShare})
	}
	for _, path := range d.secretFiles() {
		needs = append(needs, namedfile.Need{Path: path, Use: namedfile.ToRead})
	}
	for i, n := range needs {
		if abs, err := filepath.Abs(n.Path); err == nil {
			needs[i].Path = abs
		}
	}
	return needs
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// secretFiles lists the files with secrets that the server reads itself: those that its configuration or its
// unit names. A credential is read by systemd, as root. A variable of root's shell names a file for doctor
// alone, which only root may have to read.
func (d *Doctor) secretFiles() (paths []string) {
	c := d.Config
	if c.WebhookURL != "" && c.InFile("webhook.secret_file") {
		paths = append(paths, c.WebhookSecretFile)
	}
	if c.InFile("store.password_file") {
		paths = append(paths, c.StorePasswordFile)
	}
	if c.InFile("tls.key_file") {
		paths = append(paths, c.TLSKeyFile)
	}
	if c.Dev {
		return paths
	}
	if c.InFile("master_key_file") {
		return append(paths, c.MasterKeyFile)
	}
	if u, err := readUnit(unitDirs()); err == nil && u.environment["KEYMILL_MASTER_KEY_FILE"] != "" {
		paths = append(paths, filepath.Join("/", u.environment["KEYMILL_MASTER_KEY_FILE"]))
	}
	return paths
}

// tryAs runs the process as the server's user, and returns what that user cannot open.
func (d *Doctor) tryAs(ctx context.Context, server account, needs []namedfile.Need) (faults []*namedfile.Fault, err error) {
	in, err := json.Marshal(needs)
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, d.Program, AccessVerb)
	c.Env, c.Stdin = withoutSettings(os.Environ()), bytes.NewReader(in)
	var stderr beginning
	c.Stderr = &stderr
	if server.uid != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: server.credential()}
	}
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("whether %s can open its files was not checked: this program cannot be run as that user: %w %s", server, err, stderr.reason())
	}
	return faults, json.Unmarshal(out, &faults)
}

// credential adds to the groups of the user the group of the data directory, which an orchestrator may add.
// A user of a container is often unknown outside it, and then has the group of its own number.
func (a account) credential() *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: []uint32{uint32(a.gid)}}
	u, err := user.LookupId(strconv.Itoa(a.uid))
	if err != nil {
		c.Groups = append(c.Groups, uint32(a.uid))
		return c
	}
	if gid, err := strconv.ParseUint(u.Gid, 10, 32); err == nil {
		c.Gid = uint32(gid)
	}
	ids, _ := u.GroupIds() // without them the group of the directory is left
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(gid))
		}
	}
	return c
}
