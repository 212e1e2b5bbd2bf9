package forwardauth

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Traefik's module, from which testdata/traefik is built.
const (
	traefikModule  = "github.com/traefik/traefik/v3"
	traefikVersion = "v3.7.13"
	traefikSum     = "h1:T8wy9KuaFzCkmXCqAzDy7t73pBDR1DHrJe3pqXpNXTw="
)

// leftOut are files of Traefik that import its providers, its web pages, plugins, and a module that has no version.
var leftOut = []string{
	"pkg/config/static/experimental.go", "pkg/config/static/plugins.go", "pkg/config/static/static_config.go",
	"pkg/middlewares/auth/auth.go", "pkg/middlewares/auth/basic_auth.go", "pkg/middlewares/auth/digest_auth.go",
	"pkg/server/aggregator.go", "pkg/server/configurationwatcher.go", "pkg/server/routerfactory.go",
	"pkg/server/server.go", "pkg/server/server_entrypoint_udp.go", "pkg/server/server_signals.go",
	"pkg/server/middleware/middlewares.go", "pkg/server/middleware/plugins.go", "pkg/server/router/tcp/manager.go",
	"pkg/server/service/internalhandler.go", "pkg/server/service/managerfactory.go",
}

// putIn are files of testdata/traefik, by their places below the directory of the build.
var putIn = map[string]string{
	"main.go": "main.go", "main.mod": "go.mod", "main.sum": "go.sum",
	"slim/static.go":      "traefik/pkg/config/static/static.go",
	"slim/k8sdetector.go": "traefik/pkg/types/k8sdetector.go",
	"slim/ext.go":         "traefik/ext/ext.go",
}

// buildTraefik returns the program of testdata/traefik, built with the packages of Traefik as they are but for leftOut and
// putIn.
var buildTraefik = sync.OnceValues(func() ([]byte, error) {
	source, err := downloadTraefik()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "traefik")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := copySource(source, filepath.Join(dir, "traefik")); err != nil {
		return nil, err
	}
	for from, to := range putIn {
		if err := copyFile(filepath.Join("testdata/traefik", from), filepath.Join(dir, to)); err != nil {
			return nil, err
		}
	}
	for path, module := range map[string]string{"traefik": traefikModule, "traefik/ext": "github.com/traefik/traefik/dynamic/ext"} {
		if err := os.WriteFile(filepath.Join(dir, path, "go.mod"), []byte("module "+module+"\n\ngo 1.26.0\n"), 0o644); err != nil {
			return nil, err
		}
	}
	if _, err := goCommand(dir, "build", "-ldflags=-s -w", "-o", "program", "."); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "program"))
})

// downloadTraefik returns the directory of the module.
func downloadTraefik() (string, error) {
	out, err := goCommand("", "mod", "download", "-json", traefikModule+"@"+traefikVersion)
	if err != nil {
		return "", err
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", err
	}
	if module.Sum != traefikSum {
		return "", fmt.Errorf("the sum of %s %s is %s, want %s", traefikModule, traefikVersion, module.Sum, traefikSum)
	}
	return module.Dir, nil
}

func goCommand(dir string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", cmd, err, out, errs.String())
	}
	return out, nil
}

// copySource copies the packages of Traefik without their tests.
func copySource(from, to string) error {
	err := fs.WalkDir(os.DirFS(from), "pkg", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		return copyFile(filepath.Join(from, path), filepath.Join(to, path))
	})
	for _, path := range leftOut {
		if err == nil {
			err = os.Remove(filepath.Join(to, path))
		}
	}
	return err
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}

// traefik starts Traefik with both files of its page.
func (w *world) traefik(name, address string, change func(string) string) *proxy {
	w.t.Helper()
	built, err := buildTraefik()
	if err != nil {
		missing(w.t, err.Error())
	}
	program := filepath.Join(w.dir, name)
	if err := os.WriteFile(program, built, 0o755); err != nil {
		w.t.Fatal(err)
	}
	dynamic := w.write(name+"-orders.yml", change(w.block("traefik.md", "text", "forwardAuth", "orders.example.com", "127.0.0.1",
		"127.0.0.1:8423", w.verify, "127.0.0.1:9000", w.service)))
	config := w.write(name+".yml", change(w.block("traefik.md", "text", "entryPoints", ":443", address, "/etc/traefik/orders.yml", dynamic)))
	return w.run(name, address, program, config)
}

// TestTraefikOfTheDocuments with the configuration of its page. It asks Keymill on loopback, because it takes no socket.
func TestTraefikOfTheDocuments(t *testing.T) {
	w := newWorld(t, false)
	unchanged := func(text string) string { return text }
	p := w.traefik("traefik", w.free(), unchanged)
	w.checks(p)
	good := w.token(w.billing, "orders")
	p.letsIn("no header but the token", p.ask("/", bearer(good), "Connection: Upgrade, X-Auth-Session"), ofBilling)
	for _, method := range []string{"PUT", "OPTIONS", "DELETE", "PATCH", "VERSION-CONTROL"} {
		p.keepsOut(method+" without a token", p.send(method+" /", nil, ""), 401)
		p.letsIn(method, p.send(method+" /", []string{bearer(good)}, ""), ofBilling)
	}

	// The lines of the page that are needed, and those that the entry point makes unnecessary.
	bare := w.traefik("bare", w.free(), func(text string) string {
		return strings.ReplaceAll(strings.ReplaceAll(text, "aliasHeadersStrategy: delete", "aliasHeadersStrategy: keep"), "[strip, keymill]", "[keymill]")
	})
	for _, name := range []string{"X_auth_session", "X.auth.session"} {
		if a := bare.ask("/", bearer(good), name+": 1"); a.received.Get(name) != "1" {
			t.Errorf("%s: the service got %v", name, a.received)
		}
	}
	bare.letsIn("forged", bare.ask("/", bearer(good), "X-Auth-Subject: root", "Connection: X-Auth-Scope, X-Auth-Session"), ofBilling)
	mistyped := w.traefik("mistyped", w.free(), func(text string) string { return strings.ReplaceAll(text, "audience=orders", "audience=ordres") })
	mistyped.keepsOut("another audience", mistyped.ask("/", bearer(good)), http.StatusBadRequest)
}
