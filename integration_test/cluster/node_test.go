package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
)

// A node is a server that the test starts besides those of scripts/cluster. nginx does not know it.
type node struct {
	number int
	url    string
	client *http.Client
	ended  chan struct{} // closed when it has ended
}

// A setting says how a node differs from the others.
type setting struct {
	namespace *namespace    // nil for that of this process
	store     string        // of the configuration; "" as the first node
	clock     time.Duration // by which its wall clock is ahead of the true time
}

// addNode starts a node until the test ends.
func (w *world) addNode(t *testing.T, number int, s setting) *node {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(w.dir, fmt.Sprintf("node-%d", number))
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := w.config(t, 1)
	text = setLine(t, text, "listen", address)
	text = setLine(t, text, "data", filepath.Join(dir, "data"))
	text = setLine(t, text, "node.id", fmt.Sprintf("node-%d", number))
	if s.store != "" {
		text = setLine(t, text, "store", s.store)
	}
	if err := os.WriteFile(filepath.Join(dir, "keymill.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n := &node{number: number, url: "http://" + address, client: &http.Client{Timeout: 20 * time.Second}, ended: make(chan struct{})}
	n.client.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return s.namespace.dial(ctx, network, address)
	}}
	cmd := exec.Command(filepath.Join(w.dir, "keymill"), "serve", "--config", "keymill.yaml")
	cmd.Dir, cmd.Env = dir, server.Environment()
	log, err := os.Create(filepath.Join(w.dir, fmt.Sprintf("node-%d.log", number)))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	n.launch(t, cmd, s)
	t.Cleanup(func() {
		n.client.CloseIdleConnections()
		cmd.Process.Signal(syscall.SIGTERM)
		<-n.ended
	})
	n.await(t, "a new node is not ready", func() bool { return n.ready() == http.StatusOK })
	return n
}

// launch starts the process in its namespace, with its clock. The thread that starts it stays, because the process ends
// with it.
func (n *node) launch(t *testing.T, cmd *exec.Cmd, s setting) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Ptrace: s.clock != 0}
	started := make(chan error)
	go func() {
		defer close(n.ended)
		runtime.LockOSThread()
		err := s.namespace.inside(cmd.Start)
		runtime.LockOSThread() // once more than inside unlocks it
		if err == nil && s.clock != 0 {
			if err = shiftClock(cmd.Process.Pid, s.clock); err != nil {
				cmd.Process.Kill()
			}
		}
		started <- err
		if cmd.Process != nil {
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		missing(t, fmt.Sprintf("node-%d does not start as it should: %v", n.number, err))
	}
}

// await waits until something is so.
func (n *node) await(t *testing.T, otherwise string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(failsafe); !so(); time.Sleep(50 * time.Millisecond) {
		select {
		case <-n.ended:
			t.Fatalf("node-%d ended: %s", n.number, otherwise)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("node-%d: %s", n.number, otherwise)
		}
	}
}

func (n *node) ready() int {
	response, err := n.client.Get(n.url + "/readyz")
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// clock returns what the node says that its wall clock differs from the others by, or an error.
func (w *world) clockOf(t *testing.T, number int) time.Duration {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(w.dir, fmt.Sprintf("node-%d.log", number)))
	if err != nil {
		t.Fatal(err)
	}
	first := regexp.MustCompile(`time=(\S+) `).FindSubmatch(log)
	info, err := os.Stat(filepath.Join(w.dir, fmt.Sprintf("node-%d", number), "keymill.yaml"))
	if err != nil || first == nil {
		t.Fatalf("no time in %s, %v", log, err)
	}
	said, err := time.Parse(time.RFC3339, string(first[1]))
	if err != nil {
		t.Fatal(err)
	}
	return said.Sub(info.ModTime())
}

// config returns the configuration of a node of scripts/cluster.
func (w *world) config(t *testing.T, number int) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, fmt.Sprintf("node-%d", number), "keymill.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// setLine changes a line of a configuration.
func setLine(t *testing.T, text, name, value string) string {
	t.Helper()
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `: .*$`)
	if !line.MatchString(text) {
		t.Fatalf("no line %s in %s", name, text)
	}
	return line.ReplaceAllLiteralString(text, name+": "+value)
}

// refresh sends a refresh token to the node.
func (n *node) refresh(ctx context.Context, token string) (g grant, err error) {
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {server.Web}, "refresh_token": {token}}
	return g, post(ctx, n.client, n.url+"/token", "application/x-www-form-urlencoded", form.Encode(), &g)
}

// A billing is a client that gets tokens without a user.
type billing string // the form of its request

func (w *world) addBilling(t *testing.T) billing {
	t.Helper()
	var c struct {
		Secret string `json:"client_secret"`
	}
	out := w.keymill(t, 2, "", "client", "add", "billing", "--grant", "client_credentials", "--audience", "orders", "--json")
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatal(err)
	}
	return billing(url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {c.Secret}}.Encode())
}

// An asked is one answer to a request for a token.
type asked struct {
	at      time.Time // when it was sent
	status  int       // 0 for none
	later   bool      // it says when to try again
	granted string    // the token
	err     error
}

func (n *node) ask(b billing) (a asked) {
	a.at = time.Now()
	response, err := n.client.Post(n.url+"/token", "application/x-www-form-urlencoded", strings.NewReader(string(b)))
	if err != nil {
		a.err = err
		return a
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	a.status, a.later, a.err = response.StatusCode, response.Header.Get("Retry-After") != "", err
	var g grant
	if err == nil && json.Unmarshal(body, &g) == nil {
		a.granted = g.Access
	}
	return a
}

// asking asks the node for tokens until stop is called, which returns the answers.
func (n *node) asking(b billing) (stop func() []asked) {
	ctx, cancel := context.WithCancel(context.Background())
	var all []asked // owned by the goroutine until it is done
	var done sync.WaitGroup
	done.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
			all = append(all, n.ask(b))
		}
	})
	return func() []asked { cancel(); done.Wait(); return all }
}

// A signingLimit is how long a node signs after it last read the keys: three times as long as it waits between two reads.
const signingLimit = 15 * time.Second

// cutOff pulls out the wire of a node. It stops signing in time and says so, and goes on when the wire is in again.
func (w *world) cutOff(t *testing.T, n *node, wire *namespace, b billing) {
	t.Helper()
	stop := n.asking(b)
	wire.cut(t)
	cut := time.Now()
	token := w.tokenOf(t)
	if _, err := n.refresh(t.Context(), token); err == nil || errors.As(err, new(*refused)) {
		t.Errorf("a refresh at a node that is cut off: %v", err)
	}
	if took := time.Since(cut); took > fast+5*time.Second {
		t.Errorf("a refresh at a node that is cut off takes %s", took)
	}
	time.Sleep(time.Until(cut.Add(signingLimit + 2*time.Second)))
	if status := n.ready(); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz of a node that is cut off is %d", status)
	}
	wire.join(t)
	joined := time.Now()
	n.await(t, "it is not ready after it was cut off", func() bool { return n.ready() == http.StatusOK })
	n.await(t, "it gives no tokens after it was cut off", func() bool { return n.ask(b).status == http.StatusOK })
	back := time.Since(joined)
	granted, later, last := 0, 0, time.Duration(0)
	for _, a := range stop() {
		since := a.at.Sub(cut)
		switch {
		case a.status == http.StatusOK:
			granted++
			if a.at.Before(joined) {
				last = max(last, since)
			}
			if since > signingLimit && a.at.Before(joined) {
				t.Errorf("a node that is cut off signed after %s", since)
			}
			if _, err := w.verify.Verify(t.Context(), a.granted); err != nil {
				t.Error(err)
			}
		case a.status == http.StatusServiceUnavailable && a.later:
			later++
		default:
			t.Errorf("%s after the cut: %d, Retry-After %t, %v", since, a.status, a.later, a.err)
		}
	}
	if later == 0 {
		t.Error("a node that is cut off gave tokens all the time")
	}
	if _, err := n.refresh(t.Context(), token); err != nil {
		t.Errorf("a refresh after the cut: %v", err)
	}
	t.Logf("counted: a node that was cut off gave %d tokens, the last one %s after the cut, and %d answers 503; it was back after %s", granted, last.Round(time.Millisecond), later, back.Round(time.Millisecond))
}

// tokenOf logs in and returns a refresh token.
func (w *world) tokenOf(t *testing.T) string {
	t.Helper()
	token, err := w.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}
