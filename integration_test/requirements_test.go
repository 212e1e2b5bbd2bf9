package integration_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the column of tests in docs/security.md from the code")

const requirementsPage = "../docs/security.md"

// TestRequirementsNameTheirTests compares the list in docs/security.md with the numbers in
// the doc comments of the tests, in both directions. With -update it rewrites the list's
// last column instead.
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
			t.Errorf("%s is listed twice", number)
		}
		listed[number] = true
		if strings.TrimSpace(row[2]) == "" {
			t.Errorf("%s has no sentence or source", number)
		}
		if want := testsCell(held[number]); cell != want {
			t.Errorf("%s names %s\nand the code has %s\nrun: go test ./integration_test -run Requirements -update", number, cell, want)
		}
		if len(held[number]) == 0 {
			t.Errorf("%s is held by no test", number)
		}
	}
	for _, number := range slices.Sorted(maps.Keys(held)) {
		if !listed[number] {
			t.Errorf("%v carry %s, which is not in the list", held[number], number)
		}
	}
	if len(listed) < 50 {
		t.Errorf("read %d requirements only: the test reads the wrong table", len(listed))
	}
}

// A requirement's row: number, sentence and source, tests.
var requirementRow = regexp.MustCompile(`(?m)^\| ([RI][0-9]+) \| (.+ \| .+) \|(.*)\|$`)

func requirementRows(page string) [][]string {
	rows := requirementRow.FindAllStringSubmatch(page, -1)
	for _, row := range rows {
		row[3] = strings.TrimSpace(row[3])
	}
	return rows
}

func withTests(page string, held map[string][]numbered) string {
	return requirementRow.ReplaceAllStringFunc(page, func(line string) string {
		row := requirementRow.FindStringSubmatch(line)
		return fmt.Sprintf("| %s | %s | %s |", row[1], row[2], testsCell(held[row[1]]))
	})
}

// A numbered is a test that carries a number.
type numbered struct{ file, name string } // file below the root of the repository

func testsCell(tests []numbered) string {
	var links []string
	for _, n := range tests {
		links = append(links, fmt.Sprintf("[`%s`](../%s)", n.name, n.file))
	}
	return strings.Join(links, "<br>")
}

// numberedTest is a doc comment line such as "// R86, R87." with the lines that follow it up
// to the function.
var numberedTest = regexp.MustCompile(`(?m)^// ((?:[RI][0-9]+, )*[RI][0-9]+)\.(?:\n//.*)*\n(?:func (Test\w+|Fuzz\w+)\()?`)

// numberedTests maps a number to its tests, in the order of files and names.
func numberedTests(t *testing.T) map[string][]numbered {
	t.Helper()
	held := map[string][]numbered{}
	for file := range strings.FieldsSeq(output(t, "..", "git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*_test.go")) {
		text, err := os.ReadFile(filepath.Join("..", file))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range numberedTest.FindAllStringSubmatch(string(text), -1) {
			if found[2] == "" {
				t.Errorf("%s: the number %s stands above no test", file, found[1])
			}
			for number := range strings.SplitSeq(found[1], ", ") {
				held[number] = append(held[number], numbered{file, found[2]})
			}
		}
	}
	for _, tests := range held {
		slices.SortFunc(tests, func(a, b numbered) int {
			return strings.Compare(a.file+" "+a.name, b.file+" "+b.name)
		})
	}
	return held
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
