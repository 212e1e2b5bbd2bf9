package integration_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keymill/jwks"
	"keymill/keystore"
)

// TestEveryRingCanBeVerified: keystore and jwks have a table each, because keystore must not link net/http, and jwks
// needs only the standard library.
func TestEveryRingCanBeVerified(t *testing.T) {
	for _, alg := range keystore.SupportedAlgorithms() {
		if !slices.Contains(jwks.Algorithms(), alg) {
			t.Errorf("rings can be of %s, which jwks does not verify", alg)
		}
	}
}

// listsOfAlgorithms are the lines that may name two algorithms: the tables, and what has a reason not to be complete.
var listsOfAlgorithms = map[string]string{
	"jwks/jwks.go":                          "var algorithms =",
	"cmd/keymill/internal/config/config.go": `key:"keys.algorithms"`, // what a server has by default
	"cmd/keymill/audience.go":               "--alg is empty",        // advice
}

// TestAlgorithmsAreListedOnce: an algorithm that is added to the tables works everywhere. In a second list it could be
// forgotten.
func TestAlgorithmsAreListedOnce(t *testing.T) {
	comment, name := regexp.MustCompile(`^\s*//|\s// .*`), regexp.MustCompile(`\b(RS256|EdDSA|ES256)\b`)
	read := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		path = strings.TrimPrefix(filepath.ToSlash(path), "../")
		if err != nil || path == "integration_test" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			if err == nil && d.IsDir() {
				return fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		read++
		text, err := os.ReadFile(filepath.Join("..", path))
		for n, line := range bytes.Split(text, []byte("\n")) {
			allowed, listed := listsOfAlgorithms[path]
			if listed && bytes.Contains(line, []byte(allowed)) || comment.Match(line) && comment.FindIndex(line)[0] == 0 {
				continue
			}
			names := map[string]bool{}
			for _, found := range name.FindAll(comment.ReplaceAll(line, nil), -1) {
				names[string(found)] = true
			}
			if len(names) > 1 {
				t.Errorf("%s:%d lists algorithms: %s", path, n+1, bytes.TrimSpace(line))
			}
		}
		return err
	})
	if err != nil || read < 200 {
		t.Errorf("read %d files, %v", read, err)
	}
}
