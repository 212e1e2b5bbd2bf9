package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// unplain finds words that docs/CONTRIBUTING.md asks not to use: each has a plainer one.
var unplain = regexp.MustCompile(`(?i)\b(whoever|nobody|anew|meanwhile|any more|just now|surely|a stranger)\b`)

// nobodyUser finds the one use that has no other word: the system user of that name.
var nobodyUser = regexp.MustCompile("`nobody`|\"nobody\"|\\bnobody(:|/| user)")

var textFiles = []string{".go", ".md", ".txtar", ".py", ".js", ".html", ".sh", ""}

// unplainWords lists the places below root that use such a word. The list above is not one.
func unplainWords(root string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "bin" || len(path) > 1 && d.Name()[0] == '.'):
			return filepath.SkipDir
		case d.IsDir() || !d.Type().IsRegular() || !slices.Contains(textFiles, filepath.Ext(path)):
			return nil
		case filepath.Base(filepath.Dir(path)) == "metrics" || filepath.Base(path) == "CONTRIBUTING.md":
			return nil // they quote the words
		}
		places, err := unplainLines(path)
		found = append(found, places...)
		return err
	})
	return found, err
}

func unplainLines(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		text := nobodyUser.ReplaceAllString(lines.Text(), "")
		if word := unplain.FindString(text); word != "" {
			found = append(found, fmt.Sprintf("%s:%d: %q has a plainer word", path, n, word))
		}
	}
	return found, lines.Err()
}
