package docs

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

// TestEveryYAMLBlockIsAConfiguration: doctor reads the configuration as serve does. It accepts each
// block and then reports that there is no store.
func TestEveryYAMLBlockIsAConfiguration(t *testing.T) {
	t.Parallel()
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	all, err := pages.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	dir, blocks := t.TempDir(), 0
	for _, p := range all {
		for _, b := range p.Blocks {
			if b.Language != "yaml" {
				continue
			}
			blocks++
			file := filepath.Join(dir, fmt.Sprintf("%d.yaml", blocks))
			if err := os.WriteFile(file, []byte(b.Text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(binary, "doctor", "--config", file, "--data", dir)
			cmd.Env = server.Environment()
			if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), "no store in "+dir) {
				t.Errorf("%s:%d: %s", p.Path, b.Line, out)
			}
		}
	}
	if blocks < 4 {
		t.Errorf("found %d blocks, want at least 4", blocks)
	}
}
