package integration_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keymill/integration_test/pages"
)

// languages lists the languages that a block can have. docs/CONTRIBUTING.md says what a test does
// with each.
var languages = []string{"apache", "caddy", "go", "haproxy", "ini", "java", "js", "json", "nginx", "perl", "php", "python", "ruby", "sh", "text", "yaml"}

const maxReadmeLines = 200

func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(read(t, "../README.md"), "\n"); n > maxReadmeLines {
		t.Errorf("README.md has %d lines, at most %d are allowed", n, maxReadmeLines)
	}
}

// TestEveryBlockHasAKnownLanguage matters because no test reads a block of another language.
func TestEveryBlockHasAKnownLanguage(t *testing.T) {
	blocks := 0
	for _, p := range readPages(t) {
		for _, b := range p.Blocks {
			blocks++
			if !slices.Contains(languages, b.Language) {
				t.Errorf("%s:%d: language %q is not in %v; write text for a fragment", p.Path, b.Line, b.Language, languages)
			}
			if strings.TrimSpace(b.Text) == "" {
				t.Errorf("%s:%d: the block is empty", p.Path, b.Line)
			}
		}
	}
	if blocks < 50 {
		t.Errorf("read %d blocks only: the test reads the wrong pages", blocks)
	}
}

func TestJSONBlocksAreJSON(t *testing.T) {
	for _, p := range readPages(t) {
		for _, b := range p.Blocks {
			if b.Language == "json" && !json.Valid([]byte(b.Text)) {
				t.Errorf("%s:%d: the block is not valid JSON", p.Path, b.Line)
			}
		}
	}
}

func TestPythonBlocksCompile(t *testing.T) {
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	for _, p := range readPages(t) {
		for _, b := range p.Blocks {
			if b.Language != "python" {
				continue
			}
			cmd := exec.Command(python, "-I", "-c", "import sys; compile(sys.stdin.read(), sys.argv[1], 'exec')", p.Path)
			cmd.Stdin = strings.NewReader(b.Text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v\n%s", p.Path, b.Line, err, out)
			}
		}
	}
}

var (
	linkPattern    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingPattern = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// TestLinksPointToFilesAndHeadings follows the relative links of README, CHANGELOG and docs.
func TestLinksPointToFilesAndHeadings(t *testing.T) {
	anchors := map[string][]string{} // page → anchors of its headings
	all := readPages(t)
	for _, p := range all {
		for _, heading := range headingPattern.FindAllStringSubmatch(withoutBlocks(p), -1) {
			anchors[p.Path] = append(anchors[p.Path], anchor(heading[1]))
		}
	}
	links := 0
	for _, p := range all {
		for _, found := range linkPattern.FindAllStringSubmatch(withoutBlocks(p), -1) {
			target, fragment, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			links++
			file := p.Path
			if target != "" {
				file = path.Join(path.Dir(p.Path), target)
			}
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(file))); err != nil {
				t.Errorf("%s: the link %s points to no file", p.Path, found[1])
			} else if fragment != "" && !slices.Contains(anchors[file], fragment) {
				t.Errorf("%s: %s has no heading for #%s; it has %v", p.Path, file, fragment, anchors[file])
			}
		}
	}
	if links < 50 {
		t.Errorf("read %d links only: the test reads the wrong pages", links)
	}
}

// TestLinksFromREADMEReachEveryPage follows links from page to page.
func TestLinksFromREADMEReachEveryPage(t *testing.T) {
	all := map[string]pages.Page{}
	for _, p := range readPages(t) {
		all[p.Path] = p
	}
	found := map[string]bool{}
	for next := []string{"README.md"}; len(next) > 0; next = next[1:] {
		p, ok := all[next[0]]
		if !ok || found[next[0]] {
			continue
		}
		found[p.Path] = true
		for _, link := range linkPattern.FindAllStringSubmatch(p.Text, -1) {
			target, _, _ := strings.Cut(link[1], "#")
			next = append(next, path.Join(path.Dir(p.Path), target))
		}
	}
	for p := range all {
		if !found[p] {
			t.Errorf("no chain of links leads from README.md to %s", p)
		}
	}
}

// TestNamedTestsExist fails if a page names a test that was renamed or removed.
func TestNamedTestsExist(t *testing.T) {
	code := output(t, "..", "git", "grep", "-hoE", "--untracked", `^func (Test|Fuzz)\w+`, "--", "*_test.go")
	known := strings.Split(strings.ReplaceAll(code, "func ", ""), "\n")
	for _, p := range readPages(t) {
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(p.Text, -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s names the test %s, which does not exist", p.Path, name)
			}
		}
	}
}

// TestNamedFilesExist fails if a page names a file of the code that was moved or removed.
func TestNamedFilesExist(t *testing.T) {
	files := 0
	for _, p := range readPages(t) {
		for _, found := range filePattern.FindAllStringSubmatch(withoutBlocks(p), -1) {
			files++
			if _, err := os.Stat(filepath.Join("..", found[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", p.Path, found[1])
			}
		}
	}
	if files < 10 {
		t.Errorf("found %d names of files only: the test reads the wrong pages", files)
	}
}

// filePattern is a path in code style. A path with a placeholder, such as <name>, does not match.
var filePattern = regexp.MustCompile("`((?:cmd|issuer|jwks|keystore|storage|integration_test|scripts|docs)/[A-Za-z0-9_./-]+\\.[a-z]+)`")

// withoutBlocks returns the text of a page without its fenced blocks.
func withoutBlocks(p pages.Page) string {
	text := p.Text
	for _, b := range p.Blocks {
		text = strings.Replace(text, "```"+b.Language+"\n"+b.Text+"```", "", 1)
	}
	return text
}

// anchor returns the fragment that a link to a heading has: lower case, with dashes for spaces, and
// without punctuation other than dashes and underscores.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_':
			b.WriteRune(r)
		}
	}
	return b.String()
}

func readPages(t *testing.T) []pages.Page {
	t.Helper()
	all, err := pages.Read("..")
	if err != nil {
		t.Fatal(err)
	}
	return all
}
