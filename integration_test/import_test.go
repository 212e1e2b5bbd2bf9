package integration_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/pages"
)

// TestAnotherModuleCanImportJWKS uses a require line and a replace line, because no host can serve
// the module path. The program gets jwks and what jwks needs, and no other package of this module.
func TestAnotherModuleCanImportJWKS(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), fmt.Sprintf(
		"module service\n\ngo 1.26\n\nrequire keymill v0.0.0\n\nreplace keymill => %s\n", root))
	write(t, filepath.Join(dir, "main.go"), `package main

import (
	"fmt"

	"keymill/jwks"
)

func main() {
	set, err := jwks.Parse([]byte(`+"`"+`{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"k","use":"sig",
		"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`+"`"+`))
	fmt.Println(len(set.Keys()), err)
}
`)
	// The go.sum of the main module has all sums. Without it the go command would download them.
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go.sum"), string(sums))

	if got := goCommand(t, dir, "run", "."); got != "1 <nil>" {
		t.Errorf("the program printed %q", got)
	}
	for dep := range strings.FieldsSeq(goCommand(t, dir, "list", "-deps", ".")) {
		if strings.HasPrefix(dep, "keymill/") && dep != "keymill/jwks" && !strings.HasPrefix(dep, "keymill/jwks/internal/") {
			t.Errorf("a program that imports jwks also gets %s", dep)
		}
	}
}

// TestTheProgramInREADMERefusesARequestWithoutAToken builds and runs the program as it is in README.
// Only its address is replaced.
func TestTheProgramInREADMERefusesARequestWithoutAToken(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := pages.ReadOne(root, "README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, ok := readme.Find("go", "jwks.NewRemote")
	if !ok || !strings.Contains(program.Text, `"127.0.0.1:8000"`) {
		t.Fatal("README has no program that listens on 127.0.0.1:8000")
	}
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), fmt.Sprintf(
		"module service\n\ngo 1.26\n\nrequire keymill v0.0.0\n\nreplace keymill => %s\n", root))
	write(t, filepath.Join(dir, "main.go"), strings.Replace(program.Text, "127.0.0.1:8000", address, 1))
	goCommand(t, dir, "build", "-o", "service", ".")

	service := exec.CommandContext(t.Context(), filepath.Join(dir, "service"))
	service.Stderr = t.Output()
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Process.Kill(); service.Wait() })
	for {
		answer, err := http.Get("http://" + address + "/orders")
		if errors.Is(err, syscall.ECONNREFUSED) { // it does not listen yet
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got := answer.Header.Get("WWW-Authenticate"); answer.StatusCode != http.StatusUnauthorized || got != `Bearer realm="orders"` {
			t.Errorf("the program in README answered %d, %s", answer.StatusCode, got)
		}
		return
	}
}

func goCommand(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
