package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startLimit is how long a server may take to start, with the recovery after a crash.
const startLimit = 60 * time.Second

// Modes of stopping a server.
const (
	Fast      = syscall.SIGINT  // transactions are rolled back
	Immediate = syscall.SIGQUIT // as a crash
)

// program returns the path of a program of PostgreSQL.
func program(name string) (string, error) {
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // Debian
	if err == nil && len(installed) > 0 {
		slices.Sort(installed)
		return installed[len(installed)-1], nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", errMissing
	}
	return path, nil
}

// command returns a command that runs as the user of the cluster, and that ends with this process.
func (c *Cluster) command(name string, args ...string) (*exec.Cmd, error) {
	path, err := program(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + c.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as, Pdeathsig: syscall.SIGQUIT}
	return cmd, nil
}

func (c *Cluster) run(name string, args ...string) error {
	cmd, err := c.command(name, args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// write makes a file that belongs to the user of the cluster.
func (c *Cluster) write(name, text string, mode os.FileMode) error {
	if err := os.WriteFile(c.file(name), []byte(text), mode); err != nil {
		return err
	}
	if c.as == nil {
		return nil
	}
	return os.Chown(c.file(name), int(c.as.Uid), int(c.as.Gid))
}

func (c *Cluster) append(name, text string) error {
	f, err := os.OpenFile(c.file(name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// start starts the server and waits until it accepts connections.
func (c *Cluster) start() error {
	log, err := os.OpenFile(c.file("log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	if c.server, err = c.command("postgres", "-D", c.data()); err != nil {
		return err
	}
	c.server.Stdout, c.server.Stderr = log, log
	if err := c.server.Start(); err != nil {
		return err
	}
	server, ended := c.server, make(chan struct{})
	c.ended = ended
	go func() {
		_ = server.Wait() // the log tells why
		close(ended)
	}()
	deadline := time.Now().Add(startLimit)
	for {
		err := c.connect(Superuser, func(context.Context, *pgx.Conn) error { return nil })
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("PostgreSQL ended at once:\n%s", c.lastLines())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL did not start: %w\n%s", err, c.lastLines())
		}
	}
}

func (c *Cluster) lastLines() string {
	text, err := os.ReadFile(c.file("log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Stop stops the server.
func (c *Cluster) Stop(mode syscall.Signal) {
	_ = c.server.Process.Signal(mode) // it may have ended already
	<-c.ended
}

// Begin starts a server that was stopped.
func (c *Cluster) Begin(t testing.TB) {
	t.Helper()
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
}

// Restart stops the server and starts it again.
func (c *Cluster) Restart(t testing.TB, mode syscall.Signal) {
	t.Helper()
	c.Stop(mode)
	c.Begin(t)
}

// Log returns what the server has logged.
func (c *Cluster) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(c.file("log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Remove stops the server and removes its directory.
func (c *Cluster) Remove() {
	if c.ended != nil {
		c.Stop(Immediate)
	}
	_ = os.RemoveAll(c.dir) // in the directory for temporary files
}

// Standby starts a standby of the cluster with the name "standby" until the test ends.
func (c *Cluster) Standby(t testing.TB) *Cluster {
	t.Helper()
	s, err := prepare()
	need(t, err)
	t.Cleanup(s.Remove)
	if err := s.run("pg_basebackup", "-D", s.data(), "-R", "-c", "fast", "-X", "stream", "--no-sync",
		"-d", fmt.Sprintf("host=127.0.0.1 port=%d user=%s application_name=standby", c.Port, Superuser)); err != nil {
		t.Fatal(err)
	}
	s.CA = c.CA
	if err := s.append("data/postgresql.conf", fmt.Sprintf("\nport=%d\nunix_socket_directories='%s'\n", s.Port, s.dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Promote makes a primary of a standby.
func (c *Cluster) Promote(t testing.TB) {
	t.Helper()
	c.SQL(t, Superuser, "SELECT pg_promote()")
}

// Set changes a setting of the server that needs no restart.
func (c *Cluster) Set(t testing.TB, name, value string) {
	t.Helper()
	c.SQL(t, Superuser, "ALTER SYSTEM SET "+name+" = '"+value+"'", "SELECT pg_reload_conf()")
	deadline := time.Now().Add(startLimit)
	for c.Value(t, Superuser, "current_setting('"+name+"')") != value {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not become %s", name, value)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// SmallDisk mounts a disk of that size for a tablespace, until the test ends. It needs root.
func (c *Cluster) SmallDisk(t testing.TB, size string) string {
	t.Helper()
	dir := c.file("disk")
	options := "size=" + size
	if c.as != nil {
		options += fmt.Sprintf(",uid=%d,gid=%d,mode=700", c.as.Uid, c.as.Gid)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v %s", err, out)
	}
	t.Cleanup(func() {
		c.Stop(Immediate) // it has files open there
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// ProcessorTime returns the processor time that the server and its processes have used. That of connections that
// have ended is not in it.
func (c *Cluster) ProcessorTime() (sum time.Duration) {
	pid := c.server.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	for _, process := range append(strings.Fields(string(children)), fmt.Sprint(pid)) {
		var ns int64
		if text, err := os.ReadFile("/proc/" + process + "/schedstat"); err == nil {
			fmt.Sscan(string(text), &ns)
		}
		sum += time.Duration(ns)
	}
	return sum
}
