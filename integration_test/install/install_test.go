package install

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keymill/integration_test/counts"
)

// limit is much longer than a command runs, because tests share the cores.
const limit = 15 * time.Minute

// version is that of the release under test. It is the newest in CHANGELOG.md.
const version = "0.1.0"

// work holds what tests share. TestMain removes it.
var work = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "ki") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := work(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// architectures returns those that this tier builds, the one of this machine first.
func architectures() []string {
	return []string{"amd64", "arm64"}[:counts.Of("released-architectures")]
}

// released returns a directory with a release of the working tree, tagged as version. All tests share it.
func released(t *testing.T) string {
	t.Helper()
	needs(t, "git", "jq", "dpkg-deb", "readelf")
	dir, err := firstRelease()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var firstRelease = sync.OnceValues(func() (string, error) {
	dir, err := work()
	if err != nil {
		return "", err
	}
	source := filepath.Join(dir, "source")
	if err := repository(source); err != nil {
		return "", err
	}
	return filepath.Join(source, "dist"), release(source, nil)
})

// repository makes a repository with the files of the working tree in one commit, which has the tag of
// version. Every repository has the same commit.
func repository(dir string) error {
	return shell(dir, nil, `
root=$(cd "$ROOT" && pwd)
git -C "$root" ls-files -z --cached --others --exclude-standard | (cd "$root" && while IFS= read -r -d '' file; do
	[ ! -e "$file" ] || printf '%s\0' "$file"
done | tar --null --files-from=- --create) | tar --extract --mode=u+w,a+rX
sed -i 's/^## `+version+` (.*/## `+version+` (2026-11-28)/' CHANGELOG.md
git init -q .
git add --all
export GIT_AUTHOR_DATE=2026-11-28T12:00:00Z GIT_COMMITTER_DATE=2026-11-28T12:00:00Z
git -c user.name=Test -c user.email=test@example.com commit -qm 'A commit'
git tag v`+version)
}

func release(source string, env []string) error {
	return shell(source, append(env, "KEYMILL_ARCHITECTURES="+strings.Join(architectures(), " ")), "scripts/release")
}

// shell runs a script of bash in dir, which is created if it is missing. ROOT is the working tree.
func shell(dir string, env []string, script string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	out, err := run(dir, append(env, "ROOT="+root), "bash", "-euo", "pipefail", "-c", script)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// run runs a program in dir and returns what it printed. After limit it ends its process group.
func run(dir string, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KEYMILL_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// onMachine runs a script of the directory machine on a machine of its own, which finds the files of the
// release in /run/share.
func onMachine(t *testing.T, script string) string {
	t.Helper()
	needs(t, "unshare", "curl", "systemctl", "adduser")
	share := t.TempDir()
	if err := os.CopyFS(share, os.DirFS(released(t))); err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile("../../scripts/deploy/keymill.service")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(share, "keymill.service"), unit, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := run("", nil, "machine/run", "machine/"+script, share)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// needs skips the test if it cannot run here. If CI is set it fails the test.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	var errs []error
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("a machine of its own needs root"))
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			errs = append(errs, err)
		}
	}
	err := errors.Join(errs...)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%v: run scripts/install-deps", err)
	default:
		t.Skipf("%v: run scripts/install-deps", err)
	}
}

// unpacked returns the files of a tar archive, by their names.
func unpacked(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if _, err := io.Copy(&text, archive); err != nil {
			t.Fatal(err)
		}
		files[path.Clean(h.Name)] = text.Bytes()
	}
}
