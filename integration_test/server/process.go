package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process is a child that cannot outlive this one.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the child is gone
	err  error         // how it ended; read after done
}

// launch starts cmd so that the kernel kills it when this process dies, however it
// dies. The kernel ties that promise to the thread that forked, not to the process,
// so the goroutine keeps its thread until the child is gone.
func launch(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// stop sends SIGTERM and wants exit code 0 within limit; SIGKILL comes after it.
func (p *process) stop(limit time.Duration) error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		p.kill()
		return fmt.Errorf("still running %v after SIGTERM", limit)
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// A Companion is another program that a test runs beside the server: a verifier
// that somebody else wrote.
type Companion struct{ process *process }

// Launch starts cmd, which dies with this process.
func Launch(cmd *exec.Cmd) (*Companion, error) {
	p, err := launch(cmd)
	return &Companion{p}, err
}

// Serving launches a program that prints the address it listens on, and returns that
// address. The program ends with the test.
func Serving(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	stdout, w := io.Pipe()
	cmd.Stdout = w
	companion, err := Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { companion.Close() })
	go func() { <-companion.Done(); w.Close() }()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "http://127.0.0.1:") {
		t.Fatalf("%s did not say where it listens, but %q (%v)", cmd, lines.Text(), lines.Err())
	}
	go io.Copy(io.Discard, stdout)
	return lines.Text()
}

// Close ends the companion and waits until it is gone.
func (c *Companion) Close() error {
	c.process.kill()
	var exit *exec.ExitError
	if errors.As(c.process.err, &exit) {
		return nil // the signal was ours
	}
	return c.process.err
}

// Done is closed when the companion has ended.
func (c *Companion) Done() <-chan struct{} { return c.process.done }
