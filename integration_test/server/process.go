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

// A process is a child process that ends with this process.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended
	err  error         // result of cmd.Wait; read it after done is closed
}

// launch starts cmd so that the kernel kills it when this process ends, even by SIGKILL. The kernel
// kills the child when the thread that started it ends, not the process. So the goroutine that
// started it keeps its thread until the child has ended.
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

// stop sends SIGTERM and returns an error unless the process ends with exit code 0 within limit.
// After limit it sends SIGKILL.
func (p *process) stop(limit time.Duration) error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		p.kill()
		return fmt.Errorf("the process is still running %v after SIGTERM", limit)
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// A Companion is another program that a test runs beside the server, such as a verifier of another
// project.
type Companion struct{ process *process }

// Launch starts cmd. The program ends with this process.
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
		t.Fatalf("%s did not print its address but %q (%v)", cmd, lines.Text(), lines.Err())
	}
	go io.Copy(io.Discard, stdout)
	return lines.Text()
}

// Close kills the companion and waits until it has ended.
func (c *Companion) Close() error {
	c.process.kill()
	var exit *exec.ExitError
	if errors.As(c.process.err, &exit) {
		return nil // it ended by the signal of Close
	}
	return c.process.err
}

// Done returns a channel that is closed when the companion has ended.
func (c *Companion) Done() <-chan struct{} { return c.process.done }
