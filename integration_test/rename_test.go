package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestATeamCanHostItsOwnCopy runs scripts/rename-module on a copy of the repository. Then all
// modules, with their tests, must compile under the new path, and no package may keep the old one.
func TestATeamCanHostItsOwnCopy(t *testing.T) {
	root := strings.TrimSpace(output(t, ".", "git", "rev-parse", "--show-toplevel"))
	dir := t.TempDir()
	for file := range strings.SplitSeq(strings.TrimSpace(output(t, root, "git", "ls-files")), "\n") {
		b, err := os.ReadFile(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue // removed in the work tree only
		}
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	output(t, dir, "git", "init", "-q")
	output(t, dir, "git", "add", "-A")
	output(t, dir, "scripts/rename-module", "git.example.com/platform/keymill")
	for _, module := range modulesBelow(t, dir) {
		output(t, filepath.Join(dir, module), "go", "vet", "./...")
		for pkg := range strings.FieldsSeq(output(t, filepath.Join(dir, module), "go", "list", "./...")) {
			if !strings.HasPrefix(pkg, "git.example.com/platform/keymill") {
				t.Errorf("package %s kept the old path", pkg)
			}
		}
		if mod, err := os.ReadFile(filepath.Join(dir, module, "go.mod")); err != nil || strings.Contains(string(mod), "\ntool keymill/") {
			t.Errorf("a tool of %s kept the old path (%v)", module, err)
		}
	}
	for page, line := range map[string]string{
		"README.md":              `"git.example.com/platform/keymill/jwks"`,
		"docs/verify/go-jwks.md": "require git.example.com/platform/keymill v0.0.0",
	} {
		if text, err := os.ReadFile(filepath.Join(dir, page)); err != nil || !strings.Contains(string(text), line) {
			t.Errorf("%s has no line %s (%v)", page, line, err)
		}
	}
}

// modulesBelow lists the directories with a go.mod that git knows.
func modulesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var modules []string
	for file := range strings.FieldsSeq(output(t, dir, "git", "ls-files", "--", "go.mod", "*/go.mod")) {
		modules = append(modules, filepath.Dir(file))
	}
	if len(modules) < 4 {
		t.Fatalf("found the modules %v only, want at least 4", modules)
	}
	return modules
}

func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, b)
	}
	return string(b)
}
