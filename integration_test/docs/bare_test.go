package docs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/pages"
	"keymill/integration_test/server"
)

// bareLimit is what docs/operate.md promises.
const bareLimit = 15 * time.Minute

// TestABareDebianServesAfterThePage: on a Debian with nothing but its required packages, every command
// of docs/operate.md is executed as it stands. The server then serves behind nginx with TLS, and a copy was
// restored.
func TestABareDebianServesAfterThePage(t *testing.T) {
	needs(t, "unshare", "ip", "openssl", "mmdebstrap")
	t.Parallel()
	page := readPage(t, "docs/operate.md")
	begin := time.Now()
	debian := bareDebian(t, page)
	prepared := time.Since(begin)
	var s script
	s.page(page, everyBlock)
	s.add("the restored server knows its client and signs with new keys", `curl -sf https://id.example.com/token -u "billing:$SECRET" -d grant_type=client_credentials | grep -o access_token`)
	begin = time.Now()
	s.runOn(t, debian)
	took := time.Since(begin)
	t.Logf("counted: a bare Debian was made in %d s; after docs/operate.md it served in %d s", int(prepared.Seconds()), int(took.Seconds()))
	if took > bareLimit {
		t.Errorf("the page took %v, want at most %v", took, bareLimit)
	}
}

// bareDebian returns the root directory of a Debian like this one, which has its required packages and apt.
// The packages that the page installs are in apt's cache, because the machine has no network.
func bareDebian(t *testing.T, page pages.Page) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	debian := filepath.Join(dir, "debian")
	args := []string{"--quiet", "--variant=minbase", "--mode=root", "--skip=cleanup/apt"}
	for _, command := range installs(page) {
		// mmdebstrap turns recommended packages off while it runs hooks.
		args = append(args, `--customize-hook=chroot "$1" `+command+" -o APT::Install-Recommends=true --download-only >/dev/null")
	}
	codename, err := exec.CommandContext(t.Context(), "sh", "-c", `. /etc/os-release && printf %s "$VERSION_CODENAME"`).Output()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(args, string(codename), debian)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	return debian
}

// installs returns the commands of the page that install packages of Debian.
func installs(page pages.Page) (commands []string) {
	for _, b := range page.Blocks {
		for line := range strings.Lines(b.Text) {
			if b.Language == "sh" && strings.HasPrefix(line, "apt-get install ") {
				commands = append(commands, strings.TrimSpace(line))
			}
		}
	}
	return commands
}

// runOn executes the script on the bare Debian with that root directory.
func (s *script) runOn(t *testing.T, debian string) {
	t.Helper()
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"usr/local/bin/keymill": read(t, binary), "root/script": s.String()} {
		if err := os.WriteFile(filepath.Join(debian, path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), machineLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
		"bash", filepath.Join(root, "integration_test/docs/machine/bare"))
	cmd.Env = append(server.Environment(), "DEBIAN="+debian, "ROOT="+root)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
