// Package backupfile writes backups of a running server to files, and opens such files.
//
//	server ──▶ Copy: checked while it passes, encrypted ──▶ File ──▶ its name, once it is whole
//
//	file ──▶ Open: decrypted ──▶ package backup
package backupfile

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"filippo.io/age"
	"filippo.io/age/armor"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/storage/backup"
	"keymill/storage/durable"
)

// Make copies the store of a server to w, see Copy. It shows on errs how far it is.
func Make(ctx context.Context, server *adminapi.Client, w io.Writer, recipients []age.Recipient, errs io.Writer) (h backup.Header, t backup.Trailer, err error) {
	status, _, err := adminapi.Ask[api.Status](ctx, server, http.MethodGet, "status", nil)
	if err != nil {
		return h, t, err
	}
	body, err := server.Stream(ctx, "backup")
	if err != nil {
		return h, t, err
	}
	defer body.Close()
	p := terminal.NewProgress(errs)
	defer p.End()
	h, t, err = Copy(w, &counter{in: body, shown: p, total: status.StoreBytes}, recipients)
	if errors.Is(err, backup.ErrTruncated) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = terminal.WithHint(errors.New("the server ended the backup before it was whole"), "it was stopped, or its log says why")
	}
	return h, t, err
}

// Copy copies a backup from a server to w, encrypted to the recipients if there are any. It checks the
// whole backup, so what it wrote is complete if it returns nil.
func Copy(w io.Writer, server io.Reader, recipients []age.Recipient) (backup.Header, backup.Trailer, error) {
	out := nopCloser(w)
	if len(recipients) > 0 {
		var err error
		if out, err = age.Encrypt(w, recipients...); err != nil {
			return backup.Header{}, backup.Trailer{}, err
		}
	}
	tee := &tee{in: server, out: out}
	r, err := readAll(tee)
	if tee.failed != nil {
		err = full(fmt.Errorf("write the backup: %w", tee.failed))
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return backup.Header{}, backup.Trailer{}, err
	}
	return r.Header(), *r.Trailer(), nil
}

func readAll(in io.Reader) (*backup.Reader, error) {
	r, err := backup.NewReader(in)
	for err == nil {
		_, err = r.Next()
	}
	if err != io.EOF {
		return nil, err
	}
	return r, nil
}

// A tee is an io.TeeReader that tells errors of out from those of in.
type tee struct {
	in     io.Reader
	out    io.Writer
	failed error // of out
}

// Read implements io.Reader.
func (t *tee) Read(p []byte) (n int, err error) {
	n, err = t.in.Read(p)
	if n > 0 {
		if _, t.failed = t.out.Write(p[:n]); t.failed != nil {
			return 0, t.failed
		}
	}
	return n, err
}

type writeCloser struct{ io.Writer }

func (writeCloser) Close() error { return nil }

func nopCloser(w io.Writer) io.WriteCloser { return writeCloser{w} }

// A File is a new file that has its name only once it is whole and durable.
type File struct {
	*os.File
	path    string
	replace bool
}

// Create begins the file at path. It is readable by its user only. A file that exists is an error,
// unless it is to be replaced.
func Create(path string, replace bool) (*File, error) {
	info, err := os.Lstat(path)
	switch {
	case path == "":
		return nil, terminal.Usage("FILE is empty; is a variable not set?")
	case err == nil && info.Mode().Type() == fs.ModeSymlink:
		return nil, terminal.WithHint(fmt.Errorf("%s is a symbolic link", path), "name the file that it points to")
	case err == nil && info.IsDir():
		return nil, terminal.WithHint(fmt.Errorf("%s is a directory", path), "name a file in it, such as %s", filepath.Join(path, "keymill.backup"))
	case err == nil && !info.Mode().IsRegular():
		return nil, terminal.WithHint(fmt.Errorf("%s is not a regular file", path), "name \"-\" to write to standard output")
	case err == nil && replace && !isBackup(path):
		return nil, terminal.WithHint(fmt.Errorf("%s is not a backup and was not replaced", path), "choose another name")
	case err == nil && !replace:
		return nil, terminal.WithHint(fmt.Errorf("%s exists", path), "choose another name, or replace it with --overwrite")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return nil, uncreated(path, err)
	}
	return &File{f, path, replace}, nil
}

// uncreated says what to do if there can be no file at path.
func uncreated(path string, err error) error {
	dir := filepath.Dir(path)
	what := fmt.Errorf("create %s: %w", path, durable.WithoutPath(err))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return terminal.WithHint(what, "the directory %s does not exist; create it first", terminal.ShellWord(dir))
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return terminal.WithHint(namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToWrite}, what), "name a file in a directory in which uid %d may write", os.Geteuid())
	}
	return full(what)
}

// full says what to do if a disk is full.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return terminal.WithHint(err, "free space there, or name a file on another disk; a backup needs about as much as the store")
	}
	return err
}

// isBackup reports whether a file is empty, or begins as a backup or an encrypted file does. Nothing else is
// replaced: the name may be mistyped, and be that of the store or of the master key.
func isBackup(path string) bool {
	f, err := namedfile.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len(ageMagic))
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	return n == 0 || string(head[:n]) == ageMagic || bytes.HasPrefix(head[:n], []byte(backup.Magic))
}

// CheckPlace refuses a file in the data directory: its name may be that of a file of the server, and what
// takes the store takes the backup too.
func CheckPlace(path, data string) error {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil // Create says what is wrong
	}
	if own, err := os.Stat(data); err == nil && os.SameFile(dir, own) {
		return terminal.WithHint(fmt.Errorf("%s is in the data directory of the server", path), "name a file in another directory, best on another disk")
	}
	return nil
}

// Commit gives the file its name.
func (f *File) Commit() error {
	err := f.Sync()
	if err == nil {
		err = f.Close()
	}
	if err == nil && f.replace {
		err = os.Rename(f.Name(), f.path)
	} else if err == nil {
		err = durable.Link(f.Name(), f.path) // a file that was made in the meantime stays
	}
	if err != nil {
		return full(fmt.Errorf("write %s: %w", f.path, durable.WithoutPath(err)))
	}
	return durable.SyncDir(filepath.Dir(f.path))
}

// Remove removes what was not committed. After Commit it only removes the second name.
func (f *File) Remove() {
	f.Close()
	os.Remove(f.Name())
}

const (
	ageMagic   = "age-encryption.org/"
	armorMagic = armor.Header
)

// Open returns the backup in a file that may be encrypted, also as text.
func Open(in io.Reader, identities []age.Identity) (io.Reader, error) {
	b := bufio.NewReader(in)
	head, err := b.Peek(len(armorMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var encrypted io.Reader = b
	switch {
	case bytes.HasPrefix(head, []byte(armorMagic)):
		encrypted = armor.NewReader(b)
	case !bytes.HasPrefix(head, []byte(ageMagic)):
		return b, nil
	}
	if len(identities) == 0 {
		return nil, terminal.WithHint(errors.New("the backup is encrypted with age, so nothing in it can be checked without a key"),
			"name the file with the age identity: --identity FILE")
	}
	plain, err := age.Decrypt(encrypted, identities...)
	if none := new(age.NoIdentityMatchError); errors.As(err, &none) {
		return nil, terminal.WithHint(errors.New("the backup is encrypted to other recipients: none of the identities opens it"),
			"name the identity whose public key was the --recipient; age-keygen -y FILE prints the public key of one")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	return decrypted{plain}, nil
}

// A decrypted reader calls what age finds wrong in the middle of a file damage.
type decrypted struct{ in io.Reader }

// Read implements io.Reader.
func (d decrypted) Read(p []byte) (int, error) {
	n, err := d.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	return n, err
}
