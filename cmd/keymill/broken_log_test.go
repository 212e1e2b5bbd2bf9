package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// brokenOutputs are ways in which standard output and standard error cannot be written from
// the start. Each returns the file for both, nil if they are closed.
var brokenOutputs = map[string]func(t *testing.T) *os.File{
	"closed": func(*testing.T) *os.File { return nil },
	"a full disk": func(t *testing.T) *os.File {
		f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		return opened(t, f, err)
	},
	"a pipe without a reader": func(t *testing.T) *os.File {
		r, w, err := os.Pipe()
		opened(t, r, err).Close()
		return opened(t, w, err)
	},
	"a full pipe": func(t *testing.T) *os.File {
		_, w := fullPipe(t)
		return w
	},
	"a socket without a reader": func(t *testing.T) *os.File {
		ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Close(ends[0])
		return opened(t, os.NewFile(uintptr(ends[1]), "socket"), nil)
	},
}

// opened returns f and closes it when the test ends.
func opened(t *testing.T, f *os.File, err error) *os.File {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// fullPipe returns a reader, and a writer that blocks until the reader reads.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	opened(t, r, err)
	w, err = os.OpenFile(path, os.O_WRONLY, 0)
	opened(t, w, err)
	fill(t, path)
	return r, w
}

// fill writes to the FIFO until it is full.
func fill(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	for size := 1 << 16; size > 0; { // down to single bytes
		if _, err := syscall.Write(fd, make([]byte, size)); errors.Is(err, syscall.EAGAIN) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// startBroken starts a server with out as standard output and standard error and waits until it
// serves. If out is nil, both are closed.
func (p *place) startBroken(out *os.File, env []string, args ...string) *child {
	p.t.Helper()
	c := &child{t: p.t, address: freeAddress(p.t), ended: make(chan struct{}), out: &terminaltest.Buffer{}, errs: &terminaltest.Buffer{}}
	args = append(p.firstStart(args), "--listen", c.address)
	if out == nil {
		c.cmd = exec.Command("/bin/sh", append([]string{"-c", `exec "$@" >&- 2>&-`, "sh", p.binary}, args...)...)
	} else {
		c.cmd = exec.Command(p.binary, args...)
		c.cmd.Stdout, c.cmd.Stderr = out, out
	}
	c.cmd.Env, c.cmd.Dir = env, p.dir
	p.launch(c)
	if !eventually(failsafe, func() bool {
		resp, err := http.Get(c.url("/readyz"))
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK || isClosed(c.ended)
	}) || isClosed(c.ended) {
		p.t.Fatalf("it does not serve: %v", c.cmd.ProcessState)
	}
	return c
}

// strays sends n requests for a path that does not exist. Their lines are of level DEBUG, which are all
// logged; lines of refused requests are limited.
func (c *child) strays(n int) {
	c.t.Helper()
	client := &http.Client{Timeout: failsafe}
	for range n {
		resp, err := client.Get(c.url("/no-such-path"))
		if err != nil {
			c.t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			c.t.Fatalf("status %d", resp.StatusCode)
		}
	}
}

// refusals sends n requests that are refused and logged.
func (c *child) refusals(n int) {
	c.t.Helper()
	client := &http.Client{Timeout: failsafe}
	for range n {
		status, body, err := requestToken(client, c.address, "no-such-client", "wrong")
		if err != nil || status < 400 || status > 499 {
			c.t.Fatalf("status %d, %v, %s", status, err, body)
		}
	}
}

// TestAServerServesWhenItCannotPrint: neither the log, nor the audit records in it, nor the text of --dev is worth an outage.
// It also ends as usual.
func TestAServerServesWhenItCannotPrint(t *testing.T) {
	t.Parallel()
	for name, output := range brokenOutputs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c := p.startBroken(output(t), append(p.env(), "KEYMILL_LOG_LEVEL=debug", "KEYMILL_AUDIT_LOG=stderr"), "serve", "--data", p.data, "--issuer", testIssuer)
			c.refusals(20)
			p.must(nil, "audience", "add", "orders", "--alg", "EdDSA")
			c.signal(syscall.SIGTERM)
			if code := c.wait(failsafe); code != 0 {
				t.Errorf("exit code %d (%v)", code, c.cmd.ProcessState)
			}
			p.must(nil, "doctor")
		})
		t.Run(name+", with --dev", func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			c := p.startBroken(output(t), environment("KEYMILL_LOG_LEVEL=debug"), "serve", "--dev", "--data", p.data)
			c.refusals(20)
			c.signal(syscall.SIGINT)
			if code := c.wait(failsafe); code != 0 {
				t.Errorf("exit code %d (%v)", code, c.cmd.ProcessState)
			}
		})
		t.Run(name+", and the start fails", func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.start()
			out := output(t)
			cmd := exec.Command(p.binary, p.serveArgs()...)
			cmd.Env, cmd.Stdout, cmd.Stderr = p.env(), out, out
			if out == nil {
				cmd.Args = append([]string{"sh", "-c", `exec "$@" >&- 2>&-`, "sh"}, cmd.Args...)
				cmd.Path = "/bin/sh"
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(failsafe, func() { cmd.Process.Kill() })
			defer late.Stop()
			if cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("a second server in the same directory: %v", cmd.ProcessState)
			}
		})
	}
}

// TestALogReaderThatEndsDoesNotEndTheServer: after "keymill serve 2>&1 | (read x; sleep 1)",
// the next line of the log ended the server with SIGPIPE.
func TestALogReaderThatEndsDoesNotEndTheServer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r, w, err := os.Pipe()
	opened(t, r, err)
	opened(t, w, err)
	c := p.startBroken(w, p.env(), "serve", "--data", p.data, "--issuer", testIssuer)
	w.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || !strings.Contains(line, "msg=") {
		t.Fatalf("the first line: %q, %v", line, err)
	}
	r.Close()
	c.refusals(3)
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d (%v)", code, c.cmd.ProcessState)
	}
}

// TestALogThatIsReadAgainSaysWhatIsMissing: while no one reads, every request is answered. Each
// of them is in the log later, or is counted in it.
func TestALogThatIsReadAgainSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r, w := fullPipe(t)
	c := p.startBroken(w, append(p.env(), "KEYMILL_LOG_LEVEL=debug"), "serve", "--data", p.data, "--issuer", testIssuer)
	w.Close()
	const requests = 1200
	c.strays(requests)
	dropped, lines := 0, 0
	log := bufio.NewReader(r)
	for dropped == 0 {
		line, err := log.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d lines: %v", lines, err)
		}
		if _, n, ok := strings.Cut(line, `msg="log lines were dropped, because the log could not be written" lines=`); ok {
			fmt.Sscan(n, &dropped)
		} else if strings.Contains(line, "path=/no-such-path") {
			lines++
		}
	}
	// Some of what was dropped can be lines of background work.
	if missing := requests - lines; lines < 900 || missing > dropped || dropped > missing+20 {
		t.Errorf("%d requests: the log has %d and says that %d lines were dropped", requests, lines, dropped)
	}
	c.strays(1)
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
	rest, err := io.ReadAll(log)
	if text := string(rest); err != nil || !strings.Contains(text, "path=/no-such-path") || !strings.HasSuffix(text, "msg=stopped\n") {
		t.Errorf("the rest of the log, %v:\n%s", err, text)
	}
}
