package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// CheckOwn refuses to create a store in a directory that holds anything else: a start makes its directory
// private, and a mistyped one, such as /etc, would be closed to every other user. It changes nothing. A
// directory that holds a store is not looked at.
func CheckOwn(c *config.Config) error {
	if c.IsShared() && !missing(c.Path("keymill.mark")) && !missing(c.Path("lock")) {
		return nil // a server of a shared store has used it
	}
	if !missing(c.Path("keymill.db")) {
		return nil
	}
	entries, err := os.ReadDir(c.Data)
	if err != nil {
		return nil // it is missing, or Open says what is wrong
	}
	for _, e := range entries {
		if isOurs(e.Name()) || c.NamesFile(filepath.Join(c.Data, e.Name())) {
			continue
		}
		return terminal.WithHint(c.SettingError("data", "%s holds other files, such as %s, and no store", terminal.Printable(c.Data), terminal.ShellWord(e.Name())),
			"no store is created there, because its directory becomes private; name a directory of its own, such as %s",
			terminal.ShellWord(filepath.Join(c.Data, "keymill")))
	}
	return nil
}

func missing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// isOurs reports whether a file of this name may be in a directory in which a store is created: the
// files of a store, what an interrupted write left, and what mkfs makes in a new volume.
func isOurs(name string) bool {
	names := append(dataFiles[:], "lock", "admin.sock", "lost+found")
	left := []string{".new-", "keymill.db.restore-", "keymill.db.before-", "keymill.mark.before-", "keymill.backup-"}
	of, _, _ := strings.Cut(name, ".new-") // see durable.Replace
	return slices.Contains(names, of) || slices.ContainsFunc(left, func(begin string) bool { return strings.HasPrefix(name, begin) })
}
