package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree writes files into a temporary directory and returns its path.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestEveryBoundIsChecked(t *testing.T) {
	long := strings.Repeat("\t_ = 1\n", maxFunctionLines)
	root := tree(t, map[string]string{"p/p.go": `package p

var table = map[string]int{}

func init() { table["x"] = 1 }

func many(a, b, c, d, e, f int) {}

func Bare() {}

// Long is too long.
func Long() {
` + long + `}
`, "p/long.go": "package p\n" + strings.Repeat("\n", maxFileLines), "p/longer.go": "package p\n" + strings.Repeat("\n", maxFileLines)})
	t.Chdir(root)
	packages, err := measureTree(".")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(problems(packages), "\n")
	for _, want := range []string{
		"no package comment", "table is changed", "an init function", "many has 6 parameters", "Bare is exported",
		"Long has 82 lines", "long.go has 501 lines", "the median file has",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the problem %q is missing in\n%s", want, got)
		}
	}
}

func TestLinesWithCodeAndWithCommentsAreCounted(t *testing.T) {
	code, comments := countLines([]byte("package p // one\n\n/* two\nlines */\n// three\nvar s = `a\n\nb`\n"))
	if code != 4 || comments != 4 {
		t.Errorf("%d code and %d comment lines, want 4 and 4", code, comments)
	}
}

func TestChangesOfLocalVariablesAreAllowed(t *testing.T) {
	root := tree(t, map[string]string{"p/p.go": `// Package p is a test.
package p

var n = 1

func local() { n := 2; n++ }

func parameter(n int) { n = 3 }
`})
	packages, err := measureTree(root)
	if err != nil || len(packages) != 1 || len(packages[0].faults) != 0 {
		t.Errorf("%v, %v", packages[0].faults, err)
	}
}

func TestDiscouragedWordsAreFound(t *testing.T) {
	root := tree(t, map[string]string{
		"a.go": "// Nobody knows.\n", "b.md": "runs as `nobody`\nnot any more\n",
		"body.go": "var body = http.NoBody\n", "metrics/c.go": "// anew\n",
	})
	found, err := discouragedWords(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(root, "a.go") + `:1: "Nobody" has a plainer word`, filepath.Join(root, "b.md") + `:2: "any more" has a plainer word`}
	if !slices.Equal(found, want) {
		t.Errorf("got %q, want %q", found, want)
	}
}

func TestPercentiles(t *testing.T) {
	list := []int{5, 1, 4, 2, 3}
	for p, want := range map[int]int{50: 3, 90: 5, 100: 5, 1: 1} {
		if got := percentile(list, p); got != want {
			t.Errorf("percentile %d is %d, want %d", p, got, want)
		}
	}
	if percentile(nil, 50) != 0 {
		t.Error("the percentile of an empty list is not 0")
	}
}
