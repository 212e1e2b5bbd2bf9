// Package keyexport writes the published keys to files, for software that reads keys from files.
//
//	running server (admin API)  ──┐
//	                              ├──▶ key set ──▶ one file per key, or one of all ──▶ directory
//	any issuer (discovery)      ──┘                                                    or standard output
//
// The programs that read the files trust what is in them. So an export never replaces a set by an empty one,
// writes only into a directory that no other user can write to, and replaces each file as a whole. A failed
// fetch changes nothing.
//
// The directory also has the manifest .keymill-export.json: the names of the files that the export wrote, with the
// SHA-256 of what it wrote. Only those files are replaced or removed. The manifest names a file before the file is
// written, and until its removal is durable. So after a crash at any instant each file is whole, old or new, and
// the next export knows which files are its own. It also knows that the last one did not end, and says that
// something has changed. An export ends only after it has printed what it did.
package keyexport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

// Changed is the error of an export that has changed its directory. It has an exit code of its own and no text,
// so that a script reloads the programs that read the files.
var Changed error = &terminal.Error{Err: terminal.ErrSilent, Code: 10}

// An Export writes the keys of a Source once, or keeps them up to date.
type Export struct {
	Source Source
	Format Format
	Alg    string // only keys of this algorithm; "" for all
	Dir    string // "" for Out
	JSON   bool   // what it prints is JSON
	Out    io.Writer
	Errs   io.Writer // for warnings

	warned []string // by the last attempt
}

// Check refuses an export that cannot be done.
func (e *Export) Check() error {
	if slices.Contains(Formats, e.Format) {
		return nil
	}
	return terminal.WithHint(terminal.Usage("--format %q is not a format", e.Format), "the formats are %s", list(Formats))
}

// Run writes the keys once. It returns Changed if that has changed a file.
func (e *Export) Run(ctx context.Context) error {
	published, err := e.Source.Next(ctx)
	if err != nil {
		return err
	}
	chosen, err := e.choose(published)
	if err != nil {
		return err
	}
	e.warn(append(published.warnings(), e.plain(chosen)...))
	if e.Dir == "" {
		text, err := e.Format.text(chosen, e.JSON)
		if err == nil {
			_, err = e.Out.Write(text)
		}
		return err
	}
	done, err := e.update(ctx, chosen, func(done changes) error {
		e.warn(done.warnings())
		return e.print(done, len(chosen.Set.Keys()))
	})
	if err != nil || !done.any() {
		return err
	}
	return Changed
}

// Watch keeps the directory up to date until ctx ends, and returns nil then. The first attempt must find a directory
// that can be used. Every later error is a warning, and the files stay as they are.
func (e *Export) Watch(ctx context.Context) error {
	d, err := open(ctx, e.Dir)
	if err != nil {
		return err
	}
	d.close()
	for failing := false; ; {
		published, err := e.Source.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		warnings, err := e.follow(ctx, published, err)
		if err != nil {
			warnings = append(warnings, terminal.Plain(err)+"; the files stay as they are")
		} else if failing {
			fmt.Fprintln(e.Errs, "keymill: the keys are up to date again")
		}
		failing = err != nil
		e.warn(warnings)
	}
}

// follow is one attempt of Watch. failed is why there is no set.
func (e *Export) follow(ctx context.Context, published Published, failed error) (warnings []string, err error) {
	if failed != nil {
		return nil, failed
	}
	chosen, err := e.choose(published)
	if err != nil {
		return nil, err
	}
	warnings = append(published.warnings(), e.plain(chosen)...)
	_, err = e.update(ctx, chosen, func(done changes) error {
		warnings = append(warnings, done.warnings()...)
		if !done.any() {
			return nil
		}
		return e.print(done, len(chosen.Set.Keys()))
	})
	return warnings, err
}

// choose returns the keys that are to be written. Without a key it is an error: with an empty set the programs that
// read the files would refuse every token, and most often it is a mistake.
func (e *Export) choose(p Published) (Published, error) {
	all := p.Set.Keys()
	if len(all) == 0 {
		return p, errors.New("the key set has no key that can be used" + p.first())
	}
	if e.Alg == "" {
		return p, nil
	}
	var algs []string
	chosen := slices.DeleteFunc(slices.Clone(all), func(k jwks.Key) bool {
		algs = append(algs, k.Alg)
		return k.Alg != e.Alg
	})
	if len(chosen) == 0 {
		slices.Sort(algs)
		return p, terminal.WithHint(fmt.Errorf("the key set has no %s key", terminal.Printable(e.Alg)), "it has keys of %s", list(slices.Compact(algs)))
	}
	set, err := p.Set.Replace(chosen...)
	return Published{set, p.Certificates}, err
}

// plain names the keys that are written in PEM because they have no certificate.
func (e *Export) plain(p Published) (lines []string) {
	for _, k := range p.Set.Keys() {
		if e.Format == Cert && p.Certificates[k.KID] == "" {
			lines = append(lines, fmt.Sprintf("key %s has no certificate, because the server never had its private half or has erased it; it is written as with --format pem", terminal.Printable(k.KID)))
		}
	}
	return lines
}

// update brings the directory to what the set says, and reports what it did.
func (e *Export) update(ctx context.Context, p Published, report func(changes) error) (changes, error) {
	files, err := e.Format.files(p)
	if err != nil {
		return changes{}, err
	}
	d, err := open(ctx, e.Dir)
	if err != nil {
		return changes{}, err
	}
	defer d.close()
	return d.update(manifest{Format: e.Format, Alg: e.Alg}, files, report)
}

// print prints what an export did.
func (e *Export) print(c changes, keys int) error {
	if e.JSON {
		raw, err := terminal.MarshalJSON(map[string]any{
			"dir": e.Dir, "keys": keys, "changed": c.any(), "written": append([]string{}, c.written...), "removed": append([]string{}, c.removed...),
		})
		if err != nil {
			return err
		}
		return terminal.PrintJSON(e.Out, raw)
	}
	var text strings.Builder
	for _, name := range c.written {
		fmt.Fprintf(&text, "wrote %s\n", name)
	}
	for _, name := range c.removed {
		fmt.Fprintf(&text, "removed %s\n", name)
	}
	state := "unchanged"
	if c.any() {
		state = "changed"
	}
	fmt.Fprintf(&text, "%s: %s in %s\n", state, terminal.Count(keys, "key"), terminal.Printable(e.Dir))
	_, err := io.WriteString(e.Out, text.String())
	return err
}

// warn prints the warnings that the attempt before did not print: a Watch makes an attempt every few seconds.
func (e *Export) warn(warnings []string) {
	for _, w := range warnings {
		if !slices.Contains(e.warned, w) {
			terminal.Warn(e.Errs, "%s", w)
		}
	}
	e.warned = warnings
}

func list[S ~string](items []S) string {
	var text []string
	for _, item := range items {
		text = append(text, string(item))
	}
	return strings.Join(text, ", ")
}
