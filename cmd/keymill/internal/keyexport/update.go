package keyexport

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"keymill/cmd/keymill/internal/terminal"
)

// changes says what an export did to its directory.
type changes struct {
	written, removed []string
	edited           []string // of written: they had been changed by hand
	kept             []string // no longer published, but changed by hand and so not removed
	resumed          bool     // the export before did not end, so its changes may be unknown to the readers
	path             string
}

// any reports whether the readers of the directory should read it again.
func (c changes) any() bool { return c.resumed || len(c.written)+len(c.removed) > 0 }

func (c changes) warnings() (lines []string) {
	for _, name := range c.edited {
		lines = append(lines, fmt.Sprintf("%s was changed by hand; it has the published key again", filepath.Join(c.path, name)))
	}
	for _, name := range c.kept {
		lines = append(lines, fmt.Sprintf("%s was changed by hand, so it is not removed; its key is no longer published: remove it", filepath.Join(c.path, name)))
	}
	return lines
}

// update brings the directory to these files, and reports what it did. New files are written before old ones are
// removed, so that a reader always finds the keys that sign. If report fails, its caller may not learn of
// the changes. The manifest stays unfinished then, and so the next export reports a change.
func (d *directory) update(want manifest, files map[string][]byte, report func(changes) error) (changes, error) {
	if err := d.remove(tempName); err != nil {
		return changes{}, err
	}
	old, err := d.manifest()
	if err != nil {
		return changes{}, err
	}
	if len(old.Files) > 0 && (old.Format != want.Format || old.Alg != want.Alg) {
		return changes{}, terminal.WithHint(fmt.Errorf("%s has an export with %s, not with %s", d.path, old.flags(), want.flags()), "name another directory, or remove this one first")
	}
	c, err := d.plan(old, files)
	if err != nil {
		return changes{}, err
	}
	want.Files = map[string][]string{}
	for name, content := range files {
		want.Files[name] = []string{digest(content)}
	}
	for _, name := range c.kept {
		want.Files[name] = old.Files[name]
	}
	if c.any() {
		during := old.with(files)
		during.Format, during.Alg = want.Format, want.Alg
		if err := d.change(during, c, files); err != nil {
			return changes{}, err
		}
	}
	if err := report(c); err != nil {
		return changes{}, err
	}
	if !c.any() && string(want.encode()) == string(old.encode()) {
		return c, nil
	}
	// From here on the files and the manifest agree. A crash before this leaves a manifest that is unfinished.
	if err := d.replace(manifestName, want.encode()); err != nil {
		return changes{}, err
	}
	return c, d.sync()
}

// manifest reads the manifest; that of an export that never was is empty.
func (d *directory) manifest() (manifest, error) {
	f, err := d.look(manifestName)
	if err != nil || f.absent {
		return manifest{}, err
	}
	m, err := parseManifest(f.content)
	if err != nil || !f.regular {
		return m, terminal.WithHint(fmt.Errorf("%s is damaged, so it is not known which files an export wrote", filepath.Join(d.path, manifestName)),
			"name another directory, or remove this one first")
	}
	return m, nil
}

// flags returns the flags of the export.
func (m manifest) flags() string {
	if m.Alg == "" {
		return fmt.Sprintf("--format %s", m.Format)
	}
	return fmt.Sprintf("--format %s --alg %s", m.Format, terminal.Printable(m.Alg))
}

// plan compares the directory with the files. It refuses to replace a file that no export wrote, before anything
// is changed.
func (d *directory) plan(old manifest, files map[string][]byte) (changes, error) {
	c := changes{resumed: old.Unfinished, path: d.path}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		have, err := d.look(name)
		switch _, ours := old.Files[name]; {
		case err != nil:
			return c, err
		case !have.absent && !ours:
			return c, terminal.WithHint(fmt.Errorf("%s exists, and no export wrote it", filepath.Join(d.path, name)), "move it away, or name another directory")
		case have.regular && string(have.content) == string(files[name]):
			continue
		case !have.absent && !old.wrote(name, have.content):
			c.edited = append(c.edited, name)
		}
		c.written = append(c.written, name)
	}
	for _, name := range slices.Sorted(maps.Keys(old.Files)) {
		if _, wanted := files[name]; wanted {
			continue
		}
		have, err := d.look(name)
		switch {
		case err != nil:
			return c, err
		case have.absent:
		case have.regular && old.wrote(name, have.content):
			c.removed = append(c.removed, name)
		default:
			c.kept = append(c.kept, name)
		}
	}
	return c, nil
}

// change writes and removes the files of c. The manifest is durable before the first of them, and the new
// files are before an old one goes.
func (d *directory) change(during manifest, c changes, files map[string][]byte) error {
	if err := d.replace(manifestName, during.encode()); err != nil {
		return err
	}
	if err := d.sync(); err != nil {
		return err
	}
	for _, name := range c.written {
		if err := d.replace(name, files[name]); err != nil {
			return err
		}
	}
	if err := d.sync(); err != nil {
		return err
	}
	for _, name := range c.removed {
		if err := d.remove(name); err != nil {
			return err
		}
	}
	return d.sync()
}
