// Package server runs the real keymill binary for tests. They send HTTP requests to it, run its
// verbs, and kill it.
//
//	func TestMain(m *testing.M) { server.Main(m) }
//
//	srv := server.Start(t, server.Options{})
//	srv.Run(t, "audience", "add", "orders", "--alg", "EdDSA")
//	token, err := srv.Token(ctx, client, "orders")
//
// Each server has a directory of its own with all its files, so that one os.RemoveAll removes
// everything:
//
//	keymill.yaml   its configuration; missing with --dev
//	master.key     32 random bytes in base64
//	data/          the data directory
//	log            the output of all its runs
//
// Servers share nothing. A server ends with the test process, even if that is killed.
package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/freeport"
)

// Time limits of a server. They only end a test that hangs, so they are long enough for a busy
// machine.
const (
	startLimit = 5 * time.Minute
	stopLimit  = 5 * time.Minute // the server itself gives up after 9 s, with an exit code that Stop returns
	verbLimit  = 5 * time.Minute
)

// Options configure a server. The zero value is a server with its own keymill.yaml.
type Options struct {
	Dev    bool     // run serve --dev, without a configuration file
	HTTPS  bool     // Config has a certificate, which no client of the server verifies
	Config string   // more lines for keymill.yaml
	Issuer string   // URL of the issuer, if a proxy is in front of the server; "" means its own address
	Args   []string // more arguments of serve
	Dir    string   // an existing directory; "" means a new one, which Close removes
	Binary string   // another build of keymill; "" means the binary under test
}

// A Server is a keymill process with its directory. Only Token, Verb, VerbWith, Get, Login, Refresh
// and Revoke may be called by several goroutines at once.
type Server struct {
	Issuer string // Options.Issuer, or URL if that is empty
	URL    string // http://127.0.0.1:port, or https:// with Options.HTTPS; the same in every run
	Dir    string // directory with all files of the server
	Data   string // its data directory, below Dir

	options Options
	binary  string
	address string
	http    *http.Client
	process *process // nil while the server does not run
}

// Start starts a new server and waits until it is ready. The server ends with the test.
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

// New prepares a server without starting it. Close removes its files.
func New(o Options) (*Server, error) {
	binary, err := o.Binary, error(nil)
	if binary == "" {
		binary, err = Binary()
	}
	if err != nil {
		return nil, err
	}
	// t.TempDir has too long names: a socket's path has at most 107 bytes.
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "km"); err != nil {
			return nil, err
		}
	}
	address, err := freeport.Address()
	if err != nil {
		return nil, err
	}
	s := &Server{
		Issuer: o.Issuer, URL: "http://" + address, Dir: dir, Data: filepath.Join(dir, "data"),
		options: o, binary: binary, address: address,
		http: &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	if o.HTTPS {
		s.URL = "https://" + address
		s.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
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
	// A server behind a proxy must keep the rules that hold in production.
	insecure := s.options.Issuer == ""
	yaml := fmt.Sprintf("listen: %s\nissuer: %s\ninsecure: %t\ndata: %s\nmaster_key_file: %s\n%s\n",
		s.address, s.Issuer, insecure, s.Data, master, s.options.Config)
	return os.WriteFile(s.config(), []byte(yaml), 0o600)
}

// Config returns the path of its configuration.
func (s *Server) Config() string { return s.config() }

// Binary returns the path of the binary that it runs.
func (s *Server) Binary() string { return s.binary }

func (s *Server) config() string { return filepath.Join(s.Dir, "keymill.yaml") }

// Start runs the server on its directory and returns once it is ready. Before the first start it
// creates the store, unless the server is a trial server.
func (s *Server) Start() error {
	if s.process != nil {
		return errors.New("the server is already running")
	}
	if err := s.createStore(); err != nil {
		return err
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

// createStore runs keymill init if there is no store yet.
func (s *Server) createStore() error {
	if _, err := os.Stat(filepath.Join(s.Data, "keymill.db")); s.options.Dev || err == nil {
		return nil
	}
	if _, errs, err := s.Verb(context.Background(), "init"); err != nil {
		return fmt.Errorf("keymill init: %w: %s", err, errs)
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
			return fmt.Errorf("the server ended before it was ready: %v", s.process.err)
		case <-deadline:
			return fmt.Errorf("the server is not ready after %v", startLimit)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// PID returns the process id of the running server.
func (s *Server) PID() int { return s.process.cmd.Process.Pid }

// Stop sends SIGTERM and waits. It returns an error unless the server ends with exit code 0.
func (s *Server) Stop() error {
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return p.stop(stopLimit)
}

// Kill sends SIGKILL and waits until the server has ended.
func (s *Server) Kill() {
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Close stops the server. It removes the directory if New created it.
func (s *Server) Close() error {
	err := s.Stop()
	s.http.CloseIdleConnections()
	if s.options.Dir == "" {
		err = errors.Join(err, os.RemoveAll(s.Dir))
	}
	return err
}

// Log returns the output of the server so far.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// Verb runs one command line with this server, as its operator would. err is an *exec.ExitError if
// the verb ended with an exit code other than 0.
func (s *Server) Verb(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	return s.VerbWith(ctx, "", args...)
}

// VerbWith is Verb with a standard input, such as a password.
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
