package verifiers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keymill/integration_test/pages"
	"keymill/integration_test/server"
)

// TestGoProgramsOfThePagesCompile compiles every Go block of README and docs without a change, in a
// module with the requirements of this one.
func TestGoProgramsOfThePagesCompile(t *testing.T) {
	t.Parallel()
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := pages.BlocksOf(root, "go")
	if err != nil || len(programs) < 6 {
		t.Fatalf("found %d programs, want at least 6; %v", len(programs), err)
	}
	dir := t.TempDir()
	for _, b := range programs {
		name := fmt.Sprintf("%s_line_%d", strings.NewReplacer("/", "_", ".", "_", "-", "_").Replace(b.Page), b.Line)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, name, "page.go"), b.Text)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "go.mod"), strings.ReplaceAll(string(mod), "=> ../..", "=> "+root))
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "go.sum"), string(sum))
	cmd := exec.Command("go", "vet", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
