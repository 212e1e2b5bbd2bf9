package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"keymill/cmd/keymill/internal/terminal"
)

// CheckMark refuses a store.mark_file that cannot be a mark, or that is another file of the server. A start
// would write over that file, or would find out with its first heartbeat that it cannot make the mark.
func (c *Config) CheckMark() error {
	path := c.MarkFile
	if path == "" {
		return nil
	}
	fault := c.ownFileFault(path, c.usedFiles())
	if fault == "" {
		return nil
	}
	return terminal.WithHint(c.SettingError("store.mark_file", "%s %s", terminal.Printable(path), fault),
		"name a file of its own in a directory that exists, such as /var/lib/keymill-mark/keymill.mark")
}

// ownFileFault says why path cannot be a file of its own that the server writes, beside the used ones: "" if it can.
func (c *Config) ownFileFault(path string, used []usedFile) string {
	fault := kindFault(path)
	if fault == "" && !c.willMake(path) {
		fault = directoryFault(path)
	}
	for _, other := range used {
		if fault == "" && sameFile(path, other.path) {
			fault = "is " + other.what
		}
	}
	return fault
}

// kindFault says why what is at path cannot be such a file: "" if it can, or if opening it says what is wrong.
func kindFault(path string) string {
	info, err := os.Lstat(path)
	switch name := filepath.Base(path); {
	case err == nil && info.IsDir(), os.IsPathSeparator(path[len(path)-1]), name == ".", name == "..":
		return "is a directory"
	case err == nil && info.Mode().Type() == fs.ModeSymlink:
		return "is a symbolic link, which is not followed"
	case err == nil && !info.Mode().IsRegular():
		return "is not a regular file"
	}
	return ""
}

// directoryFault says why a file cannot be made in the directory of path.
func directoryFault(path string) string {
	dir := dirOf(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "" // opening the file says who may
	case errors.Is(err, fs.ErrNotExist):
		return "cannot be made: its directory " + terminal.Printable(dir) + " does not exist"
	case errors.Is(err, syscall.ENOTDIR), err == nil && !info.IsDir():
		return "cannot be made: " + terminal.Printable(dir) + " is not a directory"
	case err != nil:
		return "cannot be made: " + terminal.Plain(err)
	}
	return ""
}

// dirOf returns the directory of path as it is written. filepath.Dir would drop "missing/..", which the
// system refuses.
func dirOf(path string) string {
	dir, _ := filepath.Split(path)
	if dir == "" {
		return "."
	}
	return dir
}

// willMake reports whether path is directly in a data directory that is still to be made.
func (c *Config) willMake(path string) bool {
	_, err := os.Lstat(c.Data)
	return errors.Is(err, fs.ErrNotExist) && sameName(filepath.Dir(path), c.Data)
}

// A usedFile is a file that the server reads or writes, besides the mark.
type usedFile struct{ path, what string }

func (c *Config) usedFiles() (list []usedFile) {
	for _, name := range []string{"keymill.db", "lock", "admin.sock", "dev-master-key", "dev-credentials"} {
		list = append(list, usedFile{c.Path(name), "the file " + name + " of the data directory"})
	}
	for _, named := range []usedFile{
		{c.RevokedPath(), "the list of revoked keys beside the mark"},
		{c.file, "the configuration"}, {c.MasterKeyFile, "the file of master_key_file"}, {c.WebhookSecretFile, "the file of webhook.secret_file"}, {c.StorePasswordFile, "the file of store.password_file"},
		{c.TLSCertFile, "the file of tls.cert_file"}, {c.TLSKeyFile, "the file of tls.key_file"},
	} {
		if named.path != "" {
			list = append(list, named)
		}
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		for _, places := range []secretPlaces{masterKeyPlaces(""), webhookSecretPlaces(""), storePasswordPlaces("")} {
			list = append(list, usedFile{filepath.Join(dir, places.credential), "the credential " + places.credential})
		}
	}
	for _, path := range []string{"/dev/stdin", "/dev/stdout", "/dev/stderr"} {
		list = append(list, usedFile{path, path + " of this process"})
	}
	return list
}

// sameFile reports whether both paths lead to one file, by links, "..", a relative path or a second name. Of
// files that are missing it compares the names and the directories.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil || errB == nil {
		return errA == nil && errB == nil && os.SameFile(infoA, infoB)
	}
	if filepath.Base(a) != filepath.Base(b) {
		return false
	}
	infoA, errA = os.Stat(dirOf(a))
	infoB, errB = os.Stat(dirOf(b))
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	return sameName(a, b)
}

// sameName reports whether both paths are the same without looking at the disk.
func sameName(a, b string) bool {
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	return errA == nil && errB == nil && absA == absB
}
