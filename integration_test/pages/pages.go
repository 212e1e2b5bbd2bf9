// Package pages reads README.md, CHANGELOG.md and the pages below docs, and splits off their
// fenced blocks. Tests use it to run the blocks and to compare the pages with the code.
package pages

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Page is one Markdown file.
type Page struct {
	Path   string // relative to the root of the repository, with slashes
	Text   string
	Blocks []Block
}

// A Block is a fenced block of a page.
type Block struct {
	Page     string // path of its page
	Language string // the word after the opening fence; may be empty
	Text     string
	Line     int    // line number of the opening fence, from 1
	Heading  string // the last heading above the block, without "#"
}

// File returns the path that the first line of the block names in a comment such as
// "# /etc/keymill/keymill.yaml". It returns "" if there is no such line.
func (b Block) File() string {
	first, _, _ := strings.Cut(b.Text, "\n")
	if path, ok := strings.CutPrefix(first, "# "); ok && strings.HasPrefix(path, "/") && !strings.Contains(path, " ") {
		return path
	}
	return ""
}

// IsManifest reports whether the block describes containers, so that it is YAML of another program.
func (b Block) IsManifest() bool {
	return b.Language == "yaml" && b.File() != "" && filepath.Base(b.File()) != "keymill.yaml"
}

// Read returns README.md, CHANGELOG.md and every page below docs, sorted by path.
func Read(root string) ([]Page, error) {
	paths := []string{"README.md", "CHANGELOG.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			below, _ := filepath.Rel(root, path)
			paths = append(paths, filepath.ToSlash(below))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var pages []Page
	for _, path := range paths {
		page, err := ReadOne(root, path)
		if err != nil {
			return nil, err
		}
		pages = append(pages, page)
	}
	return pages, nil
}

// ReadOne returns the page at path, which is relative to root.
func ReadOne(root, path string) (Page, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		return Page{}, err
	}
	p := Page{Path: path, Text: string(text)}
	p.Blocks, err = blocks(p.Text)
	if err != nil {
		return Page{}, fmt.Errorf("%s:%w", path, err)
	}
	for n := range p.Blocks {
		p.Blocks[n].Page = path
	}
	return p, nil
}

// BlocksOf returns the blocks of a language on all pages that Read returns.
func BlocksOf(root, language string) ([]Block, error) {
	all, err := Read(root)
	var list []Block
	for _, p := range all {
		for _, b := range p.Blocks {
			if b.Language == language {
				list = append(list, b)
			}
		}
	}
	return list, err
}

// Find returns the first block of a language that contains text.
func (p Page) Find(language, text string) (Block, bool) {
	for _, b := range p.Blocks {
		if b.Language == language && strings.Contains(b.Text, text) {
			return b, true
		}
	}
	return Block{}, false
}

func blocks(text string) ([]Block, error) {
	var list []Block
	var open *Block
	heading := ""
	for n, line := range strings.Split(text, "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &Block{Language: language, Line: n + 1, Heading: heading}
		case fence:
			list, open = append(list, *open), nil
		case open != nil:
			open.Text += line + "\n"
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimLeft(line, "# ")
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%d: the block has no closing fence", open.Line)
	}
	return list, nil
}
