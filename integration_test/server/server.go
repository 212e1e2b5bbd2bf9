// Package server runs the real keymill binary for tests that look at it from
// outside: they speak HTTP to it, type its verbs, and kill it.
//
//	func TestMain(m *testing.M) { server.Main(m) }
//
//	srv := server.Start(t, server.Options{})
//	srv.Run(t, "audience", "add", "orders", "--alg", "EdDSA")
//	token, err := srv.Token(ctx, client, "orders")
//
// A server has a directory of its own with everything in it, so that one os.RemoveAll
// leaves nothing behind:
//
//	keymill.yaml   its configuration (none under --dev)
//	master.key     32 random bytes in base64
//	data/          the data directory
//	log            what every run of it printed
//
// Nothing here is shared between servers. A server dies with the test process, even
// if that one is killed.
package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// How long a server may take. They are generous because tests share the machine.
const (
	startLimit = 5 * time.Minute
	stopLimit  = 5 * time.Minute // the server gives up after 9 s, with an exit code that Stop returns
	verbLimit  = 5 * time.Minute
)

// Options say how a server differs from the plain one.
type Options struct {
	Dev    bool     // serve --dev, without a configuration file
	Config string   // further lines of keymill.yaml
	Issuer string   // what a proxy in front of it is called; "" for the server's own address
	Args   []string // further arguments of serve
	Dir    string   // an existing directory; "" makes one and removes it at the end
}

// A Server is one keymill on one directory. Its methods are for one goroutine,
// except Token, Verb and Get.
type Server struct {
	Issuer string // Options.Issuer or URL
	URL    string // http://127.0.0.1:port, the same for every run
	Dir    string
	Data   string

	options Options
	binary  string
	address string
	http    *http.Client
	process *process // nil while it does not run
}

// Start makes a server, waits until it is ready and ends it with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.Log())
		}
		if err := s.Close(); err != nil {
			t.Errorf("end of the server: %v", err)
		}
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// New prepares a server and does not start it. Close removes what it made.
func New(o Options) (*Server, error) {
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	// Not t.TempDir: its names are long, and a socket's path ends at 107 bytes.
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "km"); err != nil {
			return nil, err
		}
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	s := &Server{
		Issuer: o.Issuer, URL: "http://" + address, Dir: dir, Data: filepath.Join(dir, "data"),
		options: o, binary: binary, address: address,
		http: &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	if s.Issuer == "" {
		s.Issuer = s.URL
	}
	if !o.Dev {
		err = s.configure()
	}
	return s, err
}

// configure writes the configuration and the master key.
func (s *Server) configure() error {
	key := make([]byte, 32)
	rand.Read(key)
	master := filepath.Join(s.Dir, "master.key")
	line := base64.StdEncoding.EncodeToString(key) + "\n"
	if err := os.WriteFile(master, []byte(line), 0o600); err != nil {
		return err
	}
	// Behind a named issuer stands a proxy, and the server has to hold the strict rules.
	insecure := s.options.Issuer == ""
	yaml := fmt.Sprintf("listen: %s\nissuer: %s\ninsecure: %t\ndata: %s\nmaster_key_file: %s\n%s\n",
		s.address, s.Issuer, insecure, s.Data, master, s.options.Config)
	return os.WriteFile(s.config(), []byte(yaml), 0o600)
}

func (s *Server) config() string { return filepath.Join(s.Dir, "keymill.yaml") }

// Start runs the server on its directory and returns once it is ready.
func (s *Server) Start() error {
	if s.process != nil {
		return errors.New("the server runs already")
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"serve", "--config", s.config()}
	if s.options.Dev {
		args = []string{"serve", "--dev", "--data", s.Data, "--listen", s.address}
	}
	cmd := exec.Command(s.binary, append(args, s.options.Args...)...)
	cmd.Env = Environment()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := launch(cmd)
	if err != nil {
		return err
	}
	s.process = p
	if err := s.awaitReady(); err != nil {
		p.kill()
		s.process = nil
		return fmt.Errorf("%w; its log:\n%s", err, s.Log())
	}
	return nil
}

func (s *Server) awaitReady() error {
	deadline := time.After(startLimit)
	for {
		if status, _, err := s.Get(context.Background(), "/readyz"); err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-s.process.done:
			return fmt.Errorf("the server ended instead of getting ready: %v", s.process.err)
		case <-deadline:
			return fmt.Errorf("the server is not ready after %v", startLimit)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// PID is the process id of the running server.
func (s *Server) PID() int { return s.process.cmd.Process.Pid }

// Stop asks the server to end (SIGTERM) and insists that it does so cleanly.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return p.stop(stopLimit)
}

// Kill ends the server at once (SIGKILL) and waits until it is gone.
func (s *Server) Kill() {
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Close stops the server and removes its directory, if New made it.
func (s *Server) Close() error {
	err := s.Stop()
	s.http.CloseIdleConnections()
	if s.options.Dir == "" {
		err = errors.Join(err, os.RemoveAll(s.Dir))
	}
	return err
}

// Log is what the server printed so far.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// Verb runs one command line against this server, as its operator would type it.
// err is an *exec.ExitError if the verb said no.
func (s *Server) Verb(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	return s.VerbWith(ctx, "", args...)
}

// VerbWith is Verb for one that reads its input, such as a password.
func (s *Server) VerbWith(ctx context.Context, in string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(ctx, verbLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Env = append(Environment(), "KEYMILL_DATA="+s.Data)
	if !s.options.Dev {
		cmd.Env = append(cmd.Env, "KEYMILL_CONFIG="+s.config())
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// FreeAddress finds a loopback address that nobody listens on. It stays below the
// ports that the system gives to outgoing connections, so that none of those can
// take it between two runs of a server: the issuer has to stay the same.
func FreeAddress() (string, error) {
	const lowest, count = 20_000, 10_000
	for range 100 {
		var b [2]byte
		rand.Read(b[:])
		port := lowest + (int(b[0])<<8|int(b[1]))%count
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		return l.Addr().String(), l.Close()
	}
	return "", errors.New("no free loopback port after 100 tries")
}
