package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/pages"
	"keymill/integration_test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// machineLimit is much longer than a machine runs, because tests share the cores.
const machineLimit = 15 * time.Minute

// A script is what a machine executes after its boot.
type script struct{ strings.Builder }

// add appends code. The script prints where before the code runs, so that a failure names its
// block.
func (s *script) add(where, code string) {
	fmt.Fprintf(s, "echo %s\n%s\n", quote("== "+where), code)
}

// page adds the blocks of a page that a machine can execute.
func (s *script) page(p pages.Page, wanted func(pages.Block) bool) {
	for _, b := range p.Blocks {
		where := fmt.Sprintf("%s:%d", p.Path, b.Line)
		if !wanted(b) {
			continue
		}
		if path := b.File(); path != "" {
			s.add(where, writeFile(path, b.Text))
		}
		switch b.Language {
		case "sh":
			s.add(where, background(b.Text))
		case "caddy": // a bare Debian has nginx alone
			s.add(where, writeFile("/etc/caddy/Caddyfile", b.Text)+"! command -v caddy || caddy adapt --config /etc/caddy/Caddyfile --validate >/dev/null")
		}
	}
}

func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

func writeFile(path, text string) string {
	return fmt.Sprintf("mkdir -p '%s'\ncat >'%s' <<'END OF BLOCK'\n%sEND OF BLOCK\n", filepath.Dir(path), path, text)
}

// background starts a server that a page runs in the foreground in the background, so that the next
// blocks can use it.
func background(code string) string {
	if strings.TrimSpace(code) != "scripts/run" {
		return code
	}
	return "scripts/run >run.log 2>&1 &\n" +
		"for i in {1..1200}; do curl -sf -o /dev/null http://127.0.0.1:8420/readyz && break; kill -0 $! || { cat run.log; exit 1; }; sleep 0.05; done\n"
}

// run executes the script on a machine of its own and returns what it printed.
func (s *script) run(t *testing.T) string {
	t.Helper()
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if binary, err = filepath.Abs(binary); err != nil {
		t.Fatal(err)
	}
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: its names are long, and a socket's path ends at 107 bytes.
	dir, err := os.MkdirTemp("", "kd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	work, file := filepath.Join(dir, "w"), filepath.Join(dir, "script")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("WORK=%s KEYMILL=%s ROOT=%s\n. \"$ROOT/integration_test/docs/machine/boot\"\n%s",
		quote(work), quote(binary), quote(root), s.String())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the server's user has to reach it
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
	defer cancel()
	// When the first process of a process namespace ends, the kernel kills all others.
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", file)
	cmd.Env = server.Environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// needs skips the test if a program is missing. If CI is set it fails the test.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "a machine of its own needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing(t, err.Error()+": run scripts/install-deps")
		}
	}
}

func needsFile(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		missing(t, err.Error()+": run scripts/install-deps")
	}
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func readPage(t *testing.T, path string) pages.Page {
	t.Helper()
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	p, err := pages.ReadOne(root, path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func everyBlock(pages.Block) bool { return true }

// installed adds the blocks of docs/operate.md up to the proxy in front of the server.
func installed(t *testing.T, s *script) {
	t.Helper()
	s.page(readPage(t, "docs/operate.md"), func(b pages.Block) bool {
		return slices.Contains([]string{"The archive, or the source", "Configure", "The systemd unit", "A proxy in front"}, b.Heading)
	})
	s.add("machine", "export KEYMILL_DATA=/var/lib/keymill")
}
