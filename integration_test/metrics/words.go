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

// discouraged finds words that docs/CONTRIBUTING.md asks not to use: each has a plainer one. Only the
// first letter may be a capital, so a Go identifier such as http.NoBody does not match.
var discouraged = regexp.MustCompile(`\b([Ww]hoever|[Nn]obody|[Aa]new|[Mm]eanwhile|[Aa]ny more|[Jj]ust now|[Ss]urely|[Aa] stranger)\b`)

// nobodyUser finds the use that is allowed: the system user of that name.
var nobodyUser = regexp.MustCompile("`nobody`|\"nobody\"|\\bnobody(:|/| user)")

var textFiles = []string{".go", ".md", ".txtar", ".py", ".js", ".html", ".sh", ""}

// discouragedWords lists the places below root that use such a word. It skips this directory and
// CONTRIBUTING.md, because they quote the words.
func discouragedWords(root string) ([]string, error) {
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
			return nil
		}
		places, err := discouragedLines(path)
		found = append(found, places...)
		return err
	})
	return found, err
}

func discouragedLines(path string) ([]string, error) {
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
		if word := discouraged.FindString(text); word != "" {
			found = append(found, fmt.Sprintf("%s:%d: %q has a plainer word", path, n, word))
		}
	}
	return found, lines.Err()
}
