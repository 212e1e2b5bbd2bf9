package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func (p *place) startDev(more ...string) *child {
	p.t.Helper()
	c := p.startWith(environment(), append([]string{"serve", "--dev", "--data", p.data, "--listen", "127.0.0.1:0"}, more...)...)
	// Its stdout is read beside its log, which may be ahead.
	if !eventually(5*time.Second, func() bool { return strings.HasSuffix(c.out.String(), "--audience dev-django\n") }) {
		p.t.Fatalf("printed only:\n%s", c.out)
	}
	return c
}

func (p *place) credentials() (d devCredentials) {
	p.t.Helper()
	d, err := readDevCredentials(filepath.Join(p.data, "dev-credentials"))
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

// TestTheLinesThatDevPrintsWork: each is pasted into a shell, as a newcomer would.
func TestTheLinesThatDevPrintsWork(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startDev()
	// The welcome names the program by the path that started it.
	lines := map[string]string{}
	for line := range strings.Lines(c.out.String()) {
		line = strings.TrimSpace(line)
		for _, start := range []string{"curl ", "TOKEN=", program(t) + " verify ", program(t) + " key rotate ", program(t) + " token "} {
			if strings.HasPrefix(line, start) {
				lines[start] = line
			}
		}
	}
	if len(lines) != 5 {
		t.Fatalf("found %d kinds of lines in:\n%s", len(lines), c.out)
	}
	shell := func(script string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", script)
		cmd.Env, cmd.Dir = environment(), p.dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if _, err := exec.LookPath("curl"); err == nil {
		if out, err := shell(lines["curl "]); err != nil || !strings.Contains(out, `"access_token"`) {
			t.Errorf("%s: %v\n%s", lines["curl "], err, out)
		}
	}
	fetchAndVerify := lines["TOKEN="] + "\n" + lines[program(t)+" verify "]
	if out, err := shell(fetchAndVerify); err != nil || !strings.Contains(out, "audience:     dev-api") {
		t.Errorf("%s: %v\n%s", fetchAndVerify, err, out)
	}
	if out, err := shell(lines[program(t)+" token "]); err != nil || strings.Count(out, ".") != 2 {
		t.Errorf("the Django client: %v\n%s", err, out)
	}
	// Soon after the start the spare is too young; the verb says so, and later it rotates.
	rotate := lines[program(t)+" key rotate "]
	if out, err := shell(rotate); err == nil || !strings.Contains(out, "\n  hint: that is in ") {
		t.Errorf("too early: %v\n%s", err, out)
	}
	script := lines["TOKEN="] + "\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do " + rotate + " && break; sleep 1; done\n" + lines[program(t)+" verify "]
	if out, err := shell(script); err != nil || !strings.Contains(out, "signs now:") || !strings.Contains(out, "valid until:") {
		t.Errorf("%s: %v\n%s", script, err, out)
	}
}

// TestDevKeepsWhatItMade from one start to the next, and makes anew what was lost.
func TestDevKeepsWhatItMade(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	stop := func(c *child) {
		t.Helper()
		c.signal(syscall.SIGTERM)
		if code := c.wait(10 * time.Second); code != 0 {
			t.Fatalf("exit code %d", code)
		}
	}
	works := func(c *child) {
		t.Helper()
		for _, client := range p.credentials().Clients {
			status, body, err := requestToken(http.DefaultClient, c.address, client.ID, client.Secret)
			if want := client.Secret != ""; err != nil || want != (status == http.StatusOK) {
				t.Errorf("%s: %d %s %v", client.ID, status, body, err)
			}
		}
		if secret := p.credentials().secret("dev-service"); secret == "" || !strings.Contains(c.out.String(), secret) {
			t.Errorf("the secret %q is not printed", secret)
		}
	}
	c := p.startDev()
	works(c)
	first := p.credentials()
	stop(c)

	c = p.startDev()
	works(c)
	if second := p.credentials(); !slices.Equal(first.Clients, second.Clients) {
		t.Errorf("the clients changed: %v, %v", first.Clients, second.Clients)
	}
	stop(c)

	// A crash between making a client and writing its secret down leaves no file.
	if err := os.Remove(filepath.Join(p.data, "dev-credentials")); err != nil {
		t.Fatal(err)
	}
	c = p.startDev()
	works(c)
	if third := p.credentials(); third.secret("dev-service") == first.secret("dev-service") {
		t.Error("a secret that was lost came back")
	}

	// An operator's rotation leaves a secret in the file that proves nothing any more; a
	// disabled client is left as it is.
	p.must(nil, "client", "rotate-secret", "dev-service", "--old-for", "0s")
	p.must(nil, "client", "disable", "dev-django-service")
	old := p.credentials()
	stop(c)
	c = p.startDev()
	if now := p.credentials(); now.secret("dev-django-service") != old.secret("dev-django-service") {
		t.Error("the secret of a disabled client changed")
	}
	p.must(nil, "client", "enable", "dev-django-service")
	works(c)
	if len(first.Clients) != 3 {
		t.Errorf("clients: %v", first.Clients)
	}
}

// TestDevAnswersOnlyToItsOwnName: a page that points its name at loopback learns nothing.
func TestDevAnswersOnlyToItsOwnName(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startDev()
	_, port, _ := strings.Cut(c.address, ":")
	for host, want := range map[string]int{
		c.address: 200, "localhost:" + port: 200, "[::1]:" + port: 200,
		"evil.example": 421, "evil.example:" + port: 421, "127.0.0.1:1": 421,
	} {
		req, _ := http.NewRequest("GET", c.url("/.well-known/jwks.json"), nil)
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
	// net/http would answer this one by itself.
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "OPTIONS * HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 421 ") {
		t.Errorf("OPTIONS *: %v\n%s", err, answer)
	}
}

// TestDevWithOneAlgorithmHasTheClientsOfThatOne.
func TestDevWithOneAlgorithmHasTheClientsOfThatOne(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.startWith(environment("KEYMILL_KEYS_ALGORITHMS=EdDSA"), "serve", "--dev", "--data", p.data, "--listen", "127.0.0.1:0")
	if d := p.credentials(); len(d.Clients) != 1 || d.Clients[0].ID != "dev-service" {
		t.Errorf("clients: %v", d.Clients)
	}
}

// TestDevCredentialsArePlainJSON for scripts, readable by their owner only.
func TestDevCredentialsArePlainJSON(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startDev()
	path := filepath.Join(p.data, "dev-credentials")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Issuer  string
		Clients []struct {
			ID     string `json:"client_id"`
			Secret string `json:"client_secret"`
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil || d.Issuer != "http://"+c.address || d.Clients[0].Secret == "" {
		t.Errorf("%v: %s", err, raw)
	}
}
