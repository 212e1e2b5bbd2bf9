package docs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keymill/integration_test/pages"
	"keymill/integration_test/server"
)

// TestEveryYAMLBlockIsAConfiguration: doctor reads the configuration as serve does. It accepts each
// block and then reports that there is no store.
func TestEveryYAMLBlockIsAConfiguration(t *testing.T) {
	t.Parallel()
	binary, err1 := server.Binary()
	root, err2 := server.Root()
	blocks, err3 := pages.BlocksOf(root, "yaml")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for n, b := range blocks {
		file := filepath.Join(dir, fmt.Sprintf("%d.yaml", n))
		if err := os.WriteFile(file, []byte(b.Text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(binary, "doctor", "--config", file, "--data", dir)
		cmd.Env = server.Environment()
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "no store in "+dir) {
			t.Errorf("%s:%d: %s", b.Page, b.Line, out)
		}
	}
	if len(blocks) < 4 {
		t.Errorf("found %d blocks, want at least 4", len(blocks))
	}
}
