package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A pathPlace is a place where an operator gives the path of a file.
type pathPlace struct {
	name string
	args func(p *place, path string) (env, args []string)
}

// pathPlaces lists them all. Those that need a server get the one of p.
func pathPlaces() []pathPlace {
	command := func(args ...string) func(p *place, path string) (env, args []string) {
		return func(p *place, path string) ([]string, []string) { return p.env(), append(args, path) }
	}
	variable := func(name string, args ...string) func(p *place, path string) (env, args []string) {
		return func(p *place, path string) ([]string, []string) {
			return append(p.env(), "KEYMILL_WEBHOOK_URL=https://hooks.example", name+"="+path), p.serveArgs()
		}
	}
	return []pathPlace{
		{"the configuration of serve", func(p *place, path string) ([]string, []string) { return p.env(), p.serveArgs("--config", path) }},
		{"the configuration of init", command("init", "--config")},
		{"the configuration of doctor", command("doctor", "--config")},
		{"the configuration in a variable", variable("KEYMILL_CONFIG")},
		{"the master key", variable("KEYMILL_MASTER_KEY_FILE")},
		{"the webhook's secret", variable("KEYMILL_WEBHOOK_SECRET_FILE")},
		{"a client's secret", command("token", "--client", "billing", "--issuer", "http://127.0.0.1:1", "--client-secret-file")},
		{"a key", command("key", "import")},
		{"users in JSON", command("user", "import", "--format", "django-json")},
		{"users in CSV", command("user", "import", "--format", "django-csv")},
		{"a store", command("audit", "tail", "--store")},
	}
}

// TestAPathThatIsNoFileIsOneLine, and the program neither waits nor fills the memory.
func TestAPathThatIsNoFileIsOneLine(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	socket, fifo := filepath.Join(p.dir, "socket"), filepath.Join(p.dir, "fifo")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	endless := exec.Command("sh", "-c", "while :; do yes >"+fifo+" 2>/dev/null; done")
	endless.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := endless.Start(); err != nil {
		t.Fatal(err)
	}
	defer endless.Wait()
	defer syscall.Kill(-endless.Process.Pid, syscall.SIGKILL)
	for _, at := range pathPlaces() {
		for _, path := range []string{p.data, socket, "/dev/zero", fifo} {
			if at.name == "a key" && path == fifo {
				continue // "y" in lines is text of a bounded length, which the server refuses
			}
			env, args := at.args(p, path)
			_, errs, code := p.runWith(env, args...)
			lines := strings.Count(errs, "\n")
			if code != 1 || !strings.HasPrefix(errs, "keymill: ") || lines > 2 || lines == 2 && !strings.Contains(errs, "\n  hint: ") || len(errs) > 600 {
				t.Errorf("%s, %s: code %d, %.1000s", at.name, path, code, errs)
			}
		}
	}
}

// TestAPipeIsAFileThatIsReadOnce: what <(command) of a shell and /dev/stdin give works wherever a file is read once.
func TestAPipeIsAFileThatIsReadOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start()
	settings := "issuer: " + testIssuer + "\ndata: " + filepath.Join(p.dir, "other") + "\nkeys: {algorithms: [EdDSA]}\n"
	key, err := exec.Command("openssl", "genpkey", "-algorithm", "ed25519").Output()
	if err != nil {
		t.Fatal(err)
	}
	second, err := exec.Command("openssl", "genpkey", "-algorithm", "ed25519").Output()
	if err != nil {
		t.Fatal(err)
	}
	const users = "id,username,password,is_active\n%,ann%,!,1\n"
	for i, path := range []string{"/dev/stdin", "/dev/fd/3"} {
		number := string(rune('1' + i))
		for _, tt := range []struct {
			content string
			env     []string
			args    []string
		}{
			{settings, p.env(), []string{"init", "--json", "--data", filepath.Join(p.dir, "new"+number), "--config", path}},
			{testKey("piped"), environment("KEYMILL_MASTER_KEY_FILE=" + path), []string{"init", "--data", filepath.Join(p.dir, "key"+number)}},
			{string([][]byte{key, second}[i]), p.env(), []string{"key", "import", path}},
			{strings.ReplaceAll(users, "%", number), p.env(), []string{"user", "import", "--format", "django-csv", path}},
		} {
			if out, errs, code := p.runPiped(tt.env, path, tt.content, tt.args...); code != 0 {
				t.Errorf("%s of %s: code %d\n%s%s", tt.args, path, code, out, errs)
			}
		}
	}
}

// runPiped runs a command line with content in a pipe at path.
func (p *place) runPiped(env []string, path, content string, args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := exec.Command(p.binary, args...)
	cmd.Env, cmd.Dir = env, p.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if path == "/dev/stdin" {
		cmd.Stdin = r
	} else {
		cmd.ExtraFiles = []*os.File{r}
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	r.Close()
	io.WriteString(w, content)
	w.Close()
	cmd.Wait()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
