package integration_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keymill/jwks"
	"keymill/keystore"
)

// TestKeystoreAndJWKSKnowTheSameAlgorithms: each has a table of its own, because keystore must not link net/http,
// and jwks needs only the standard library.
func TestKeystoreAndJWKSKnowTheSameAlgorithms(t *testing.T) {
	rings, verified := keystore.SupportedAlgorithms(), jwks.Algorithms()
	slices.Sort(rings)
	slices.Sort(verified)
	if !slices.Equal(rings, verified) || len(slices.Compact(rings)) != len(verified) {
		t.Errorf("rings are of %v, tokens are verified of %v", rings, verified)
	}
}

// TestAlgorithmsAreListedOnce: an algorithm that is added to the tables works everywhere. In a second list it could be
// forgotten. No line of the product's code names two, but that of the table of jwks, and those of what other software
// knows; keystore's table has a line for each.
func TestAlgorithmsAreListedOnce(t *testing.T) {
	read := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "integration_test" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".."):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		read++
		for line, names := range namedAlgorithms(t, path) {
			table := path == "../jwks/jwks.go" && len(names) == len(jwks.Algorithms())
			if len(names) > 1 && !table && path != "../issuer/profile/profile.go" {
				t.Errorf("%s:%d lists algorithms", path, line)
			}
		}
		return nil
	})
	if err != nil || read < 200 {
		t.Errorf("read %d files, %v", read, err)
	}
}

// namedAlgorithms returns the algorithms that each line of a file has as identifiers or as whole strings.
func namedAlgorithms(t *testing.T, path string) map[int]map[string]bool {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		var name string
		switch n := n.(type) {
		case *ast.Ident:
			name = n.Name
		case *ast.BasicLit:
			name = strings.Trim(n.Value, "\"`")
		}
		if slices.Contains(jwks.Algorithms(), name) {
			line := files.Position(n.Pos()).Line
			if found[line] == nil {
				found[line] = map[string]bool{}
			}
			found[line][name] = true
		}
		return true
	})
	return found
}
