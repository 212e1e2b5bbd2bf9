package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
	"keymill/jwks"
)

func TestMain(m *testing.M) { server.Main(m) }

const failsafe = 3 * time.Minute // only bounds a hang

// A world is a cluster of scripts/cluster.
type world struct {
	script  string
	process *os.Process // of the script, which ends the cluster when it ends
	dir     string
	port    int
	verify  *jwks.Verifier
	client  *http.Client
}

// start runs a cluster until the test ends.
func start(t *testing.T) *world {
	t.Helper()
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	parent, err := os.MkdirTemp("", "kc") // short, for the sockets, and PostgreSQL's user must get in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	if err := os.Chmod(parent, 0o711); err != nil {
		t.Fatal(err)
	}
	w := &world{script: filepath.Join(root, "scripts/cluster"), dir: filepath.Join(parent, "c"), port: freePorts(t), client: &http.Client{Timeout: 20 * time.Second}}
	cmd := w.command()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	startOnThread(t, cmd)
	w.process = cmd.Process
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.logs())
		}
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, out)
		cmd.Wait()
	})
	ready := false
	for lines := bufio.NewScanner(out); !ready; ready = strings.Contains(lines.Text(), "Ctrl-C ends everything") {
		if !lines.Scan() {
			t.Fatalf("the cluster did not start: %s", &problems)
		}
	}
	w.fill(t)
	return w
}

// startOnThread starts a process that ends with this one. The kernel ends it with the thread that started it, so that
// thread stays until the test process ends.
func startOnThread(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		select {}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
}

// logs returns the last lines of each part, and those that say more than that a request was refused.
func (w *world) logs() string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		fmt.Fprintf(&all, "%s\n%s\n", filepath.Base(file), text[max(0, len(text)-3_000):])
	}
	return all.String()
}

// freePorts returns the first of eight free ports.
func freePorts(t *testing.T) int {
	t.Helper()
	first, err := freeport.Range(8)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.script, append([]string{"--dir", w.dir, "--port", strconv.Itoa(w.port)}, args...)...)
	if binary, err := server.Binary(); err == nil {
		cmd.Env = append(server.Environment(), "KEYMILL_BINARY="+binary)
	}
	return cmd
}

// do runs commands of the script, such as "kill node-2".
func (w *world) do(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if out, err := w.command(strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Fatalf("cluster %s: %v\n%s", command, err, out)
		}
	}
}

// keymill runs a verb at one of the nodes, 1 to 3.
func (w *world) keymill(t *testing.T, node int, in string, args ...string) string {
	t.Helper()
	out, err := w.verb(node, in, args...)
	if err != nil {
		t.Fatalf("keymill %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (w *world) verb(node int, in string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(w.dir, "keymill"), args...)
	cmd.Env = append(server.Environment(), fmt.Sprintf("KEYMILL_DATA=%s/node-%d/data", w.dir, node))
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// url returns the URL of nginx, or of a node, 1 to 3.
func (w *world) url(node int) string { return fmt.Sprintf("http://127.0.0.1:%d", w.port+node) }

const nginx = 0

// fill adds an audience and clients, each at another node, and a verifier of the tokens.
func (w *world) fill(t *testing.T) {
	t.Helper()
	w.keymill(t, 1, "", "audience", "add", "orders", "--alg", "EdDSA")
	w.keymill(t, 2, "", "client", "add", server.Web, "--public", "--grant", "refresh_token", "--audience", "orders")
	w.keymill(t, 3, server.Password+"\n", "user", "add", server.Person, "--id", "7", "--password-stdin")
	w.verify = w.verifier(t, 0)
}

// verifier returns a verifier of a service, which allows for a difference between its clock and those of the nodes.
func (w *world) verifier(t *testing.T, leeway time.Duration) *jwks.Verifier {
	t.Helper()
	keys, err := jwks.NewRemote(jwks.RemoteConfig{Issuer: w.url(nginx)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	v, err := jwks.NewVerifier(jwks.VerifierConfig{Issuer: w.url(nginx), Audience: "orders", Algorithms: []string{jwks.EdDSA}, Keys: keys, Leeway: leeway})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A refused is an answer that no client tries again.
type refused struct {
	status int
	body   string
}

func (r *refused) Error() string { return fmt.Sprintf("%d %s", r.status, r.body) }

// A grant is what a refresh returned.
type grant struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// post sends a request to nginx or to a node of scripts/cluster. An error other than *refused is one that a client tries again.
func (w *world) post(ctx context.Context, node int, path, contentType, body string, v any) error {
	return post(ctx, w.client, w.url(node)+path, contentType, body, v)
}

func post(ctx context.Context, client *http.Client, url, contentType, body string, v any) error {
	r, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", contentType)
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "":
		return &refused{response.StatusCode, "without Retry-After: " + string(answer)}
	case response.StatusCode >= 500:
		return fmt.Errorf("%d %s", response.StatusCode, answer)
	case response.StatusCode != http.StatusOK:
		return &refused{response.StatusCode, string(answer)}
	}
	return json.Unmarshal(answer, v)
}

func (w *world) login(ctx context.Context) (string, error) {
	body := fmt.Sprintf(`{"username":%q,"password":%q}`, server.Person, server.Password)
	var pair struct {
		Refresh string `json:"refresh"`
	}
	err := w.post(ctx, nginx, "/api/token/", "application/json", body, &pair)
	return pair.Refresh, err
}

func (w *world) refresh(ctx context.Context, node int, token string) (g grant, err error) {
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {server.Web}, "refresh_token": {token}}
	err = w.post(ctx, node, "/token", "application/x-www-form-urlencoded", form.Encode(), &g)
	return g, err
}

// retry sends a request until it is answered, and returns how often and for how long it was sent.
func retry(ctx context.Context, send func(try int) error) (tries int, took time.Duration, err error) {
	began := time.Now()
	for {
		err := send(tries)
		tries++
		if err == nil || errors.As(err, new(*refused)) || time.Since(began) > failsafe || ctx.Err() != nil {
			return tries, time.Since(began), err
		}
		time.Sleep(200 * time.Millisecond)
	}
}
