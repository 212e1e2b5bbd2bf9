package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAStrangerImportsJWKS: the module path is nobody's to serve, so a program that
// wants our verifier names it with a require and a replace line. It gets jwks and
// what jwks needs, and nothing of the server.
func TestAStrangerImportsJWKS(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), fmt.Sprintf(
		"module stranger\n\ngo 1.26\n\nrequire keymill v0.0.0\n\nreplace keymill => %s\n", root))
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
	// The sums are those of the main module; a stranger's go command would look them up.
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go.sum"), string(sums))

	if got := stranger(t, dir, "run", "."); got != "1 <nil>" {
		t.Errorf("the stranger's program printed %q", got)
	}
	for dep := range strings.FieldsSeq(stranger(t, dir, "list", "-deps", ".")) {
		if strings.HasPrefix(dep, "keymill/") && dep != "keymill/jwks" {
			t.Errorf("jwks brings %s along", dep)
		}
	}
}

// TestTheReadmeGuardsAService: the lines that README gives for our verifier are a program
// as they stand, but for the handler and the mux that a service has anyway.
func TestTheReadmeGuardsAService(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var lines string // of the one block that makes a Remote
	for block := range strings.SplitSeq(string(readme), "```go\n") {
		if code, _, _ := strings.Cut(block, "```"); strings.Contains(code, "jwks.NewRemote") {
			lines += code
		}
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), fmt.Sprintf(
		"module stranger\n\ngo 1.26\n\nrequire keymill v0.0.0\n\nreplace keymill => %s\n", root))
	write(t, filepath.Join(dir, "main.go"), `package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"keymill/jwks"
)

func main() {
	mux, orders := http.NewServeMux(), http.NotFoundHandler()
`+lines+`
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/orders", nil))
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"), err)
}
`)
	if got := stranger(t, dir, "run", "."); got != `401 Bearer realm="orders" <nil>` {
		t.Errorf("the program of the README printed %q", got)
	}
}

func stranger(t *testing.T, dir string, args ...string) string {
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
