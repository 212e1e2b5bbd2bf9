package integration_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the last column of the requirements in docs/security.md")

const requirementsPage = "../docs/security.md"

// TestRequirementsNameTheirTests compares the list in docs/security.md with the numbers in the doc
// comments of tests, in both directions. With -update it rewrites the last column of the list
// instead.
func TestRequirementsNameTheirTests(t *testing.T) {
	page := read(t, requirementsPage)
	held := numberedTests(t)
	if *update {
		write(t, requirementsPage, withTests(page, held))
		return
	}
	listed := map[string]bool{}
	for _, row := range requirementRows(page) {
		number, cell := row[1], row[3]
		if listed[number] {
			t.Errorf("%s is in the list twice", number)
		}
		listed[number] = true
		if strings.TrimSpace(row[2]) == "" {
			t.Errorf("%s has no sentence or source", number)
		}
		if want := testsCell(held[number]); cell != want {
			t.Errorf("%s: the list names %s\nthe code has %s\nrun: go test ./integration_test -run Requirements -update", number, cell, want)
		}
		if len(held[number]) == 0 {
			t.Errorf("no test has the number %s", number)
		}
	}
	for _, number := range slices.Sorted(maps.Keys(held)) {
		if !listed[number] {
			t.Errorf("%v have the number %s, which is not in the list", held[number], number)
		}
	}
	if len(listed) < 50 {
		t.Errorf("read %d requirements only: the test reads the wrong table", len(listed))
	}
}

// requirementRow matches a row of the list: number, sentence and source, tests.
var requirementRow = regexp.MustCompile(`(?m)^\| ([RI][0-9]+) \| (.+ \| .+) \|(.*)\|$`)

func requirementRows(page string) [][]string {
	rows := requirementRow.FindAllStringSubmatch(page, -1)
	for _, row := range rows {
		row[3] = strings.TrimSpace(row[3])
	}
	return rows
}

func withTests(page string, held map[string][]numberedTest) string {
	return requirementRow.ReplaceAllStringFunc(page, func(line string) string {
		row := requirementRow.FindStringSubmatch(line)
		return fmt.Sprintf("| %s | %s | %s |", row[1], row[2], testsCell(held[row[1]]))
	})
}

// A numberedTest is a test with a number in its doc comment.
type numberedTest struct{ file, name string } // file: relative to the root of the repository

func testsCell(tests []numberedTest) string {
	var links []string
	for _, n := range tests {
		links = append(links, fmt.Sprintf("[`%s`](../%s)", n.name, n.file))
	}
	return strings.Join(links, "<br>")
}

// numberedTests maps each number to its tests, sorted by file and name. The number is in the doc
// comment of the test: on a line of its own ("// R86, R87."), in parentheses, or in a range ("I8 to
// I12").
func numberedTests(t *testing.T) map[string][]numberedTest {
	t.Helper()
	held := map[string][]numberedTest{}
	for file := range strings.FieldsSeq(output(t, "..", "git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*_test.go")) {
		text, err := os.ReadFile(filepath.Join("..", file))
		if os.IsNotExist(err) {
			continue // removed in the work tree only
		}
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !testName.MatchString(f.Name.Name) {
				continue
			}
			for _, number := range numbersIn(f.Doc.Text()) {
				held[number] = append(held[number], numberedTest{file, f.Name.Name})
			}
		}
		for _, line := range numberLine.FindAllString(withoutDocs(parsed, string(text)), -1) {
			t.Errorf("%s: %q is not in the doc comment of a test", file, line)
		}
	}
	for _, tests := range held {
		slices.SortFunc(tests, func(a, b numberedTest) int {
			return strings.Compare(a.file+" "+a.name, b.file+" "+b.name)
		})
	}
	return held
}

var (
	testName      = regexp.MustCompile(`^(Test|Fuzz)[A-Z]`)
	numberPattern = regexp.MustCompile(`\b([RI])([0-9]{1,3})(?: to [RI]?([0-9]{1,3}))?\b`)
	numberLine    = regexp.MustCompile(`(?m)^// (?:[RI][0-9]+, )*[RI][0-9]+\.$`)
)

// numbersIn returns the numbers in a doc comment, without repetitions.
func numbersIn(doc string) []string {
	var numbers []string
	for _, found := range numberPattern.FindAllStringSubmatch(doc, -1) {
		first, _ := strconv.Atoi(found[2])
		last := first
		if found[3] != "" {
			last, _ = strconv.Atoi(found[3])
		}
		for n := first; n <= last; n++ {
			if number := found[1] + strconv.Itoa(n); !slices.Contains(numbers, number) {
				numbers = append(numbers, number)
			}
		}
	}
	return numbers
}

// withoutDocs returns the text of a file without the doc comments of its tests.
func withoutDocs(f *ast.File, text string) string {
	for _, d := range slices.Backward(f.Decls) {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Doc != nil && testName.MatchString(fn.Name.Name) {
			begin, end := int(fn.Doc.Pos()-f.FileStart), int(fn.Doc.End()-f.FileStart)
			text = text[:begin] + text[end:]
		}
	}
	return text
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
