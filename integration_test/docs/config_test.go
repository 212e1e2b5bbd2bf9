package docs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	blocks = slices.DeleteFunc(blocks, pages.Block.IsManifest)
	dir := t.TempDir()
	for n, b := range blocks {
		file := filepath.Join(dir, fmt.Sprintf("%d.yaml", n))
		if err := os.WriteFile(file, []byte(b.Text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(binary, "doctor", "--config", file, "--data", dir)
		cmd.Env = server.Environment()
		want := "no store in " + dir
		if strings.Contains(b.Text, "\nstore: ") { // in a database, whose password is not here
			want = "FAILED  store  password of the store: "
		}
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), want) {
			t.Errorf("%s:%d: %s", b.Page, b.Line, out)
		}
	}
	if len(blocks) < 4 {
		t.Errorf("found %d blocks, want at least 4", len(blocks))
	}
}

// variablePattern matches a variable with its value, in a map (NAME: value) or in a list of Kubernetes
// ({name: NAME, value: value}).
var variablePattern = regexp.MustCompile(`(KEYMILL_[A-Z_]+)(?:: |, value: )"?([^"}\n]+)"?`)

// TestEveryManifestServesOnlyItsStore starts a server with the variables of each container manifest, on
// an empty volume. It accepts every variable and creates nothing.
func TestEveryManifestServesOnlyItsStore(t *testing.T) {
	t.Parallel()
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := pages.BlocksOf(root, "yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifests := 0
	for _, b := range blocks {
		if b.IsManifest() {
			manifests++
			wantNoStore(t, fmt.Sprintf("%s:%d", b.Page, b.Line), b.Text)
		}
	}
	if manifests < 1 {
		t.Errorf("found %d manifests, want at least 1", manifests)
	}
}

// wantNoStore starts a server with the variables of a manifest and wants it to create no store.
func wantNoStore(t *testing.T, where, manifest string) {
	t.Helper()
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	volume := t.TempDir()
	cmd := exec.Command(binary, "serve")
	cmd.Env = append(server.Environment(), "KEYMILL_MASTER_KEY=9d2f6b18e04c7735a1c95be8027f3dd64ab810e37c5962f4d80b91ae563fc27d")
	for _, v := range variablePattern.FindAllStringSubmatch(manifest, -1) {
		switch v[1] {
		case "KEYMILL_MASTER_KEY_FILE", "KEYMILL_LISTEN": // this machine has other files and ports
		case "KEYMILL_DATA":
			cmd.Env = append(cmd.Env, "KEYMILL_DATA="+filepath.Join(volume, "data"))
		default:
			cmd.Env = append(cmd.Env, v[1]+"="+v[2])
		}
	}
	cmd.Env = append(cmd.Env, "KEYMILL_LISTEN=127.0.0.1:0")
	out, _ := cmd.CombinedOutput()
	if !strings.Contains(string(out), "there is no store at "+volume) || !strings.Contains(string(out), "none is created, because database_id names") {
		t.Errorf("%s: %s", where, out)
	}
	if files, err := os.ReadDir(volume); err != nil || len(files) > 0 {
		t.Errorf("%s: the volume holds %v (%v)", where, files, err)
	}
}
