package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/issuer/api"
)

const testIssuer = "https://id.example.com"

// environment returns the environment of this process without the variables that keymill
// reads, and with extra. It makes this test binary run as keymill. A program built with the race
// detector sleeps for a second before it exits, unless GORACE says otherwise.
func environment(extra ...string) []string {
	env := []string{"RUN_AS_KEYMILL=1", "GORACE=atexit_sleep_ms=0"}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "KEYMILL_") && !strings.HasPrefix(e, "CREDENTIALS_DIRECTORY=") {
			env = append(env, e)
		}
	}
	return append(env, extra...)
}

func program(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A place is a directory with a master key, in which a data directory can be created. Its
// name is short, because the path of a socket has at most 107 bytes.
type place struct {
	t      testing.TB
	dir    string
	data   string
	binary string
	shared string              // URL of the database that holds the store; "" for a file
	as     *syscall.Credential // nil: the user who runs the test
	keys   []api.Key           // as a test listed them last
}

func newPlace(t testing.TB) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "km")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &place{t: t, dir: dir, data: filepath.Join(dir, "data"), binary: program(t)}
	p.writeKey("master.key", testKey("k"))
	return p
}

// testKey returns a master key in base64, the same for the same name.
func testKey(name string) string {
	sum := sha256.Sum256([]byte("a master key of the tests: " + name))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (p *place) writeKey(name, key string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// unprivileged makes the program run as a user who is not root, and gives the place to that
// user. Permissions do not restrict root, so some promises cannot be tested as root.
func (p *place) unprivileged() {
	p.t.Helper()
	if os.Getuid() == 0 {
		p.runAs(syscall.Credential{Uid: 65534, Gid: 65534})
	}
}

// runAs makes the program run as another user, and gives the place to that user. Only root can.
func (p *place) runAs(user syscall.Credential) {
	p.t.Helper()
	p.as = &user
	raw, err := os.ReadFile(p.binary)
	if err != nil {
		p.t.Fatal(err)
	}
	p.binary = filepath.Join(p.dir, "keymill") // where that user can read it
	// A process that another test starts in the meantime would inherit the open file, and Linux
	// does not execute a file that is open for writing (ETXTBSY). The lock keeps forks away.
	syscall.ForkLock.RLock()
	err = os.WriteFile(p.binary, raw, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, path := range []string{p.dir, p.binary, filepath.Join(p.dir, "master.key")} {
		if err := os.Chown(path, int(p.as.Uid), int(p.as.Gid)); err != nil {
			p.t.Fatal(err)
		}
	}
}

// needStrace returns the path of strace, which makes system calls fail, wait or end the program. Without it the test is
// skipped, and fails if CI is set.
func needStrace(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("with CI set this test must run: ", err)
		}
		t.Skip("scripts/install-deps installs strace: ", err)
	}
	return path
}

// serveArgs returns the arguments of a start that succeeds if there is a store, with more appended.
func (p *place) serveArgs(more ...string) []string {
	return append([]string{"serve", "--data", p.data, "--listen", "127.0.0.1:0", "--issuer", testIssuer}, more...)
}

func (p *place) env() []string {
	env := environment("KEYMILL_MASTER_KEY_FILE="+filepath.Join(p.dir, "master.key"), "KEYMILL_DATA="+p.data)
	if p.shared != "" {
		env = append(env, "KEYMILL_STORE="+p.shared)
	}
	return env
}

// run runs one command line and waits for its end.
func (p *place) run(args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	return p.runWith(p.env(), args...)
}

func (p *place) runWith(env []string, args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := exec.Command(p.binary, args...)
	cmd.Env, cmd.Dir = env, p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	done := time.AfterFunc(failsafe, func() { cmd.Process.Kill() })
	defer done.Stop()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs a command line that has to succeed. It decodes the output into into, unless that
// is nil.
func (p *place) must(into any, args ...string) string {
	p.t.Helper()
	out, errs, code := p.run(args...)
	if code != 0 {
		p.t.Fatalf("keymill %s: code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(out), into); err != nil {
			p.t.Fatalf("keymill %s: %v in %s", strings.Join(args, " "), err, out)
		}
	}
	return out
}

// A child is a running server.
type child struct {
	t       testing.TB
	cmd     *exec.Cmd
	address string // of the public listener
	out     *terminaltest.Buffer
	errs    *terminaltest.Buffer
	ended   chan struct{}
}

// start starts a server and waits until it serves.
func (p *place) start(more ...string) *child {
	p.t.Helper()
	return p.startWith(p.env(), p.serveArgs(more...)...)
}

// firstStart adds --init to the arguments of a start on a directory without a store.
func (p *place) firstStart(args []string) []string {
	if _, err := os.Stat(p.store()); err == nil || p.shared != "" || args[0] != "serve" || slices.Contains(args, "--dev") {
		return args
	}
	return append(slices.Clone(args), "--init")
}

func (p *place) startWith(env []string, args ...string) *child {
	p.t.Helper()
	c := &child{t: p.t, cmd: exec.Command(p.binary, p.firstStart(args)...), out: &terminaltest.Buffer{}, errs: &terminaltest.Buffer{}, ended: make(chan struct{})}
	c.cmd.Env, c.cmd.Dir = env, p.dir
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.errs
	p.launch(c)
	if !eventually(failsafe, func() bool {
		_, rest, ok := strings.Cut(c.errs.String(), "msg=serving listen=")
		c.address, _, _ = strings.Cut(rest, " ")
		return ok || isClosed(c.ended)
	}) || c.address == "" {
		p.t.Fatalf("the server did not start:\n%s", c.errs)
	}
	return c
}

func (c *child) url(path string) string { return "http://" + c.address + path }

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// failsafe bounds a hang. Every wait takes far less, even on a slow and busy machine, so it is
// no statement about how long something may take.
const failsafe = 5 * time.Minute

// wait returns the exit code, which must come within limit.
func (c *child) wait(limit time.Duration) int {
	c.t.Helper()
	select {
	case <-c.ended:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
		c.cmd.Process.Signal(syscall.SIGQUIT) // prints its goroutines to the log
		eventually(time.Minute, func() bool { return isClosed(c.ended) })
		c.t.Fatalf("still running after %v:\n%.200s", limit, status)
		return 0
	}
}

// launch starts the process of c and ends it after the test.
func (p *place) launch(c *child) {
	p.t.Helper()
	// No server outlives the tests, even if they are killed.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: p.as}
	if err := c.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		c.cmd.Wait()
		close(c.ended)
	}()
	p.t.Cleanup(func() {
		c.cmd.Process.Kill()
		<-c.ended
		if p.t.Failed() {
			p.t.Logf("the server's log:\n%s", c.errs)
		}
	})
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func eventually(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

// snapshot returns name, mode and a hash of the content of every file below dir.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s", strings.TrimPrefix(path, dir), info.Mode())
		if info.Mode().IsRegular() {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			h := sha256.New()
			if _, err := io.Copy(h, f); err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %s", info.Size(), hex.EncodeToString(h.Sum(nil)))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return b.String()
}

// requestToken asks for a token with the client_credentials grant.
func requestToken(client *http.Client, address, id, secret string) (status int, body []byte, err error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	req, err := http.NewRequest("POST", "http://"+address+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}
