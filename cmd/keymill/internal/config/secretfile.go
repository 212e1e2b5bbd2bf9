package config

import (
	"fmt"
	"io/fs"
	"os"
	"slices"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
)

// trusted holds the users who may own a file with a secret, and the groups that may read it.
type trusted struct{ users, groups []int }

// trustedOn returns who is trusted on the machine of a data directory: root, and this process with
// all its groups. If this process is root, it may be a command on the directory of a server that runs
// as another user. Then the user and the group of that directory are trusted as the server trusts them.
func trustedOn(data string) trusted {
	t := trusted{users: []int{0, os.Geteuid()}, groups: []int{os.Getegid()}}
	if more, err := os.Getgroups(); err == nil {
		t.groups = append(t.groups, more...)
	}
	if os.Geteuid() == 0 && data != "" {
		if info, err := os.Stat(data); err == nil {
			uid, gid := namedfile.Owner(info)
			t.users, t.groups = append(t.users, uid), append(t.groups, gid)
		}
	}
	return t
}

// mountHint says how an orchestrator gives a secret to this process and to no other.
const mountHint = "of a mounted secret: in Kubernetes defaultMode: 0440 with fsGroup, in Compose mode: 0400 with uid"

// readFile reads the secret in a file that only trusted users can read. Links are followed:
// Kubernetes mounts every key of a Secret as a link.
func (t trusted) readFile(what, path string) ([]byte, error) {
	return readChecked(what, path, t.check)
}

// readCredential reads a credential of systemd. Its group means nothing: systemd gives the server
// access by a list (acl(5)), and such a file has the mode 0440 and the group root.
func readCredential(what, path string) ([]byte, error) {
	return readChecked(what, path, checkOthers)
}

func readChecked(what, path string, check func(string, fs.FileInfo) error) ([]byte, error) {
	f, err := namedfile.Open(path)
	if err != nil {
		err = namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToRead}, fmt.Errorf("%s: %w", what, err))
		if hint := terminal.HintOf(err); hint != "" {
			err = terminal.WithHint(err, "%s; %s", hint, mountHint)
		}
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := check(path, info); err != nil {
		return nil, err
	}
	raw, err := readSecret(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", what, path, err)
	}
	return raw, nil
}

// check refuses a file that users can read who are not trusted, or that one of them owns.
func (t trusted) check(path string, info fs.FileInfo) error {
	if err := checkOthers(path, info); err != nil {
		return err
	}
	uid, gid := namedfile.Owner(info)
	if mode := info.Mode().Perm(); mode&0o070 != 0 && !slices.Contains(t.groups, gid) {
		return terminal.WithHint(fmt.Errorf("%s may be read by group %d, which is not a group of this process (mode %04o)", path, gid, mode),
			"chmod 600 %s; %s", terminal.ShellWord(path), mountHint)
	}
	// A pipe belongs to the user who wrote the command line, also behind sudo.
	if info.Mode().IsRegular() && !slices.Contains(t.users, uid) {
		return terminal.WithHint(fmt.Errorf("%s belongs to uid %d, which is neither root nor the user of this process", path, uid),
			"chown %d %s", os.Geteuid(), terminal.ShellWord(path))
	}
	return nil
}

// checkOthers refuses a file that every user of the machine can read or write.
func checkOthers(path string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return terminal.WithHint(fmt.Errorf("%s may be read by others (mode %04o)", path, mode),
			"chmod 600 %s; %s", terminal.ShellWord(path), mountHint)
	}
	return nil
}
