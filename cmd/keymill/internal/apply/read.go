package apply

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/namedfile"
)

// Bounds of what is read.
const (
	maxFileBytes = 256 << 10
	maxFiles     = 500
	maxEntries   = 5000
)

// stdinName is how places call standard input.
const stdinName = "standard input"

// Files are the entries that the files name.
type Files struct{ entries []*entry }

// Read reads all names together. Each is a file, a directory whose files *.yaml and *.yml are read in the order of
// their names, or "-" for in. The errors begin with the file and the line.
func Read(in io.Reader, names ...string) (*Files, error) {
	f := &Files{}
	for _, name := range names {
		if err := f.read(in, name); err != nil {
			return nil, err
		}
	}
	return f.finish()
}

func (f *Files) read(in io.Reader, name string) error {
	if name == "-" {
		text, err := io.ReadAll(namedfile.Bounded(in, stdinName, maxFileBytes))
		if err != nil {
			return err
		}
		return f.add(stdinName, text)
	}
	paths, err := filesOf(name)
	if err != nil {
		return err
	}
	read := namedfile.ReadRegular // a FIFO in a directory is there by mistake
	if len(paths) == 1 && paths[0] == name {
		read = namedfile.Read // it can be <(command) of a shell
	}
	for _, path := range paths {
		text, err := read(path, maxFileBytes)
		if err == nil {
			err = f.add(path, text)
		}
		if err != nil {
			return namedfile.Denied(namedfile.Need{Path: path, Use: namedfile.ToShare}, err)
		}
	}
	return nil
}

// filesOf returns the files to read: name itself unless it is a directory.
func filesOf(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, namedfile.Denied(namedfile.Need{Path: name, Use: namedfile.ToShare}, err)
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	listed, err := os.ReadDir(name) // sorted
	if err != nil {
		return nil, namedfile.Denied(namedfile.Need{Path: name, Use: namedfile.ToShare}, err)
	}
	var paths []string
	for _, e := range listed {
		ext := filepath.Ext(e.Name())
		if strings.HasPrefix(e.Name(), ".") || ext != ".yaml" && ext != ".yml" {
			continue
		}
		path := filepath.Join(name, e.Name())
		if err := checkLink(name, path, e); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	switch {
	case len(paths) == 0:
		return nil, fmt.Errorf("%s has no file *.yaml or *.yml", name)
	case len(paths) > maxFiles:
		return nil, fmt.Errorf("%s has %d files *.yaml and *.yml; at most %d are read", name, len(paths), maxFiles)
	}
	return paths, nil
}

// checkLink refuses a link that leads out of the directory: what is applied must be what the directory
// shows. Kubernetes mounts each file of a ConfigMap as a link to one within the directory.
func checkLink(dir, path string, e fs.DirEntry) error {
	if e.Type()&fs.ModeSymlink == 0 {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("%s is a link that leads to no file: %w", path, err)
	}
	within, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(within, real); err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("%s is a link out of its directory, to %s; put the file itself there", path, real)
	}
	return nil
}

// add reads the entries of one file.
func (f *Files) add(file string, text []byte) error {
	bodies, err := documents(file, text)
	if err != nil {
		return err
	}
	for _, body := range bodies {
		entries, err := readEntries(file, body)
		if err != nil {
			return err
		}
		f.entries = append(f.entries, entries...)
	}
	if len(f.entries) > maxEntries {
		return fmt.Errorf("%s: the files have more than %d entries, which is the limit", file, maxEntries)
	}
	return nil
}

// finish refuses an entry that is there twice, and brings the entries into the order in which they are
// applied.
func (f *Files) finish() (*Files, error) {
	seen := map[[2]string]Place{}
	for _, e := range f.entries {
		key := [2]string{e.kind, e.name}
		if first, twice := seen[key]; twice {
			return nil, e.at.wrong("%s is there twice, first in %s", e.label(), first)
		}
		seen[key] = e.at
	}
	slices.SortStableFunc(f.entries, func(a, b *entry) int { return slices.Index(kinds, a.kind) - slices.Index(kinds, b.kind) })
	if len(f.entries) == 0 {
		return nil, errors.New("the files name no audience, client, verifier or user")
	}
	return f, nil
}
