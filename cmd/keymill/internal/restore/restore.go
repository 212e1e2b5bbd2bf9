// Package restore makes a data directory of a backup.
//
//	backup ──▶ keymill.db.restore-…: built, its keys renewed, its sessions ended
//	                    │ a rename, when all of it is durable
//	                    ▼
//	              keymill.db      the store that was there stays as keymill.db.before-…
//
// With the setting store, the file is written to an empty database instead, see shared.go.
//
// What happens in the new file no server sees before the rename. So after a crash the directory holds
// the old store or the new one, and perhaps a file keymill.db.restore-…, which the next restore removes.
package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/datadir"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/keystore"
	"keymill/storage/backup"
	"keymill/storage/durable"
	"keymill/storage/sealed"
)

// Options say what to restore and how.
type Options struct {
	Config       *config.Config
	Master       keystore.MasterKey
	Name         string    // of the backup, for messages
	In           io.Reader // the backup, decrypted
	Replace      bool      // a store that is there
	AcceptDamage bool      // of records of the copy, which stay damaged
	TrustKeys    bool      // all keys of the copy stay trusted
	Set          [][]byte  // JWKs that stay trusted too
	KeepSessions bool
	By           string // for the audit log

	step func(name string) error     // called before each change of the directory; nil except in tests
	link func(from, to string) error // durable.Link, except in tests
}

// A Report says what was done.
type Report struct {
	Header   backup.Header      `json:"header"`
	Trailer  backup.Trailer     `json:"trailer"`
	Renewal  keystore.Renewal   `json:"keys"`
	Before   string             `json:"before,omitempty"`  // where the store is that was there
	Created  string             `json:"created,omitempty"` // the data directory, if it was made
	Sessions bool               `json:"sessions_kept"`
	Ended    bool               `json:"sessions_ended_since"` // after the copy all sessions were ended
	Damage   []diagnose.Finding `json:"damage,omitempty"`     // what the checks of the copy found

	maxAge time.Duration // of the key set in caches
}

// Restore makes the store of o.Config of a backup. An error with a Report means that the store is restored,
// but not all that belongs to it.
func Restore(ctx context.Context, o Options) (*Report, error) {
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	if o.link == nil {
		o.link = durable.Link
	}
	c := o.Config
	if err := mayUse(c.Data); err != nil {
		return nil, err
	}
	if err := cmp.Or(datadir.Check(c.Data), datadir.CheckOwn(c)); err != nil {
		return nil, err
	}
	_, missing := os.Lstat(c.Data)
	dir, err := datadir.Open(c.Data, true)
	var inUse *datadir.InUseError
	if errors.As(err, &inUse) {
		return nil, terminal.WithHint(err, "stop the server first")
	}
	if err != nil {
		return nil, err
	}
	defer dir.Undo() // it leaves what is not its own: a store, or a lock file that was there
	b := &builder{Options: o, path: c.Path(fmt.Sprintf("%s%x", building, time.Now().UnixNano()))}
	if c.IsShared() {
		if b.target, err = b.openTarget(ctx); err != nil {
			return nil, err
		}
		defer b.target.Close()
	} else if err := o.mayReplace(); err != nil {
		return nil, err
	}
	old, err := sealed.OpenMark(c.MarkPath()) // an error if it is another file, or that of a running server
	if err != nil {
		return nil, err
	}
	defer old.Close()
	if err := removeLeft(c.Data); err != nil {
		return nil, err
	}
	defer os.Remove(b.path) // fails after the rename, as it should
	if err := b.build(ctx); err != nil && ctx.Err() != nil {
		return nil, interrupted(c)
	} else if err != nil {
		return nil, err
	}
	if missing != nil {
		b.report.Created = c.Data
	}
	if err := b.place(ctx); err != nil && b.placed {
		return &b.report, err
	} else if err != nil && ctx.Err() != nil {
		return nil, interrupted(c)
	} else if err != nil {
		return nil, err
	}
	return &b.report, nil
}

func interrupted(c *config.Config) error {
	if c.IsShared() {
		return fmt.Errorf("interrupted; %s holds no store, and the next restore removes what was written", c.StorePlace())
	}
	return fmt.Errorf("interrupted; %s is as it was", c.Data)
}

// mayUse refuses a directory of another user. The errors of a start would name another place for a new store.
func mayUse(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK) == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	what := fmt.Errorf("data directory %s: permission denied for uid %d", dir, os.Geteuid())
	if err == nil {
		what = fmt.Errorf("%w; it %s", what, namedfile.Described(info))
	}
	return terminal.WithHint(what, "run it as the server's user, or as root")
}

// removeLeft removes what an interrupted restore left.
func removeLeft(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), building) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	building = "keymill.db.restore-"
	before   = "keymill.db.before-"
)

// mayReplace returns an error if the directory holds a store that must stay.
func (o *Options) mayReplace() error {
	path := o.Config.Path("keymill.db")
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	case !o.Replace:
		return terminal.WithHint(fmt.Errorf("%s already holds a store", o.Config.Data),
			"to replace it, add --replace; it stays beside the new one, as keymill.db.before-TIME")
	}
	return nil
}
