package main

import (
	"bytes"
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

	"keymill/cmd/keymill/internal/serve"
	"keymill/issuer/api"
)

func (p *place) startDev(more ...string) *child {
	p.t.Helper()
	c := p.startWith(environment(), append([]string{"serve", "--dev", "--data", p.data, "--listen", "127.0.0.1:0"}, more...)...)
	// The log may be ahead of stdout, which another goroutine reads.
	if !eventually(failsafe, func() bool { return strings.HasSuffix(c.out.String(), "--audience dev-django\n") }) {
		p.t.Fatalf("printed only:\n%s", c.out)
	}
	return c
}

func (p *place) credentials() (d serve.Credentials) {
	p.t.Helper()
	d, err := serve.ReadCredentials(filepath.Join(p.data, "dev-credentials"))
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

// pasted returns the indented lines below the line that begins with heading.
func pasted(t *testing.T, text, heading string) (lines []string) {
	t.Helper()
	_, rest, found := strings.Cut(text, "\n"+heading)
	_, rest, _ = strings.Cut(rest, "\n")
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		if line != "" && !strings.HasPrefix(line, "  ") {
			break
		}
		if line != "" {
			lines = append(lines, line[2:])
		}
	}
	if !found || len(lines) == 0 {
		t.Fatalf("there are no commands to paste below %q in:\n%s", heading, text)
	}
	return lines
}

// shell runs lines that a user pastes. It fails the test unless they print all of want.
func (p *place) shell(t *testing.T, lines []string, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), failsafe)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", strings.Join(lines, "\n"))
	cmd.Env, cmd.Dir = environment(), p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s\n%v\n%s", strings.Join(lines, "\n"), err, out)
	}
	for _, w := range want {
		if !strings.Contains(string(out), w) {
			t.Errorf("%s\nprinted\n%s\nwithout %s", strings.Join(lines, "\n"), out, w)
		}
	}
}

// TestTheCommandsThatDevPrintsWork pastes each of them into a shell.
func TestTheCommandsThatDevPrintsWork(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startDev()
	out := c.out.String()
	keep, rotate := pasted(t, out, "Store a token in a variable, and verify"), pasted(t, out, "Rotate the keys")
	service := pasted(t, out, "A token of a service has no user")
	p.shell(t, keep, "audience:     dev-api")
	p.shell(t, service, "eyJ")
	if _, err := exec.LookPath("curl"); err == nil {
		p.shell(t, pasted(t, out, "Get a token"), `"access_token"`)
		p.shell(t, pasted(t, out, "Log in as the user"), `"refresh":`, `"access":`, "GENERATION", "  simplejwt  live ", "token:       grace")
		// With -f a refused request is an error.
		cookie := pasted(t, out, "Log in as a web page does")
		for n := range cookie {
			cookie[n] = strings.Replace(cookie[n], "curl -s ", "curl -sf ", 1)
		}
		p.shell(t, append(slices.Clone(cookie[:2]), `grep kmr_ "$JAR"`), `"access_token":`, "#HttpOnly_127.0.0.1")
		p.shell(t, append(cookie, `! grep kmr_ "$JAR"`), `"access_token":`)
	} else if os.Getenv("CI") != "" {
		t.Error("curl is not installed")
	}
	// Soon after the start the spare is too young. The command says so, and later it rotates.
	early := append([]string{"! " + rotate[0]}, keep...)
	late := []string{"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do " + rotate[0] + " && break; sleep 1; done"}
	p.shell(t, slices.Concat(early, late, rotate[1:]), "\n  hint: wait ", "signs now:", "valid until:", "retiring")
}

// TestDevKeepsItsCredentials from one start to the next, and replaces those that were lost.
func TestDevKeepsItsCredentials(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	stop := func(c *child) {
		t.Helper()
		c.signal(syscall.SIGTERM)
		if code := c.wait(failsafe); code != 0 {
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
		if secret := p.credentials().Secret("dev-service"); secret == "" || !strings.Contains(c.out.String(), secret) {
			t.Errorf("the secret %q is not printed", secret)
		}
		user := p.credentials().User("dev")
		if len(user.Password) != 24 || strings.Count(c.out.String(), user.Password) < 4 {
			t.Errorf("the password %q is not printed", user.Password)
		}
		if status, body := login(t, c, "dev", user.Password); status != http.StatusOK {
			t.Errorf("the user cannot log in: %d %s", status, body)
		}
	}
	c := p.startDev()
	works(c)
	first := p.credentials()
	stop(c)

	c = p.startDev()
	works(c)
	if second := p.credentials(); !slices.Equal(first.Clients, second.Clients) || first.User("dev").Password != second.User("dev").Password {
		t.Errorf("the clients or the password changed: %v, %v", first, second)
	}
	stop(c)

	// A crash between adding a client and writing its secret leaves no file.
	if err := os.Remove(filepath.Join(p.data, "dev-credentials")); err != nil {
		t.Fatal(err)
	}
	c = p.startDev()
	works(c)
	if third := p.credentials(); third.Secret("dev-service") == first.Secret("dev-service") {
		t.Error("a lost secret came back")
	}

	if third := p.credentials(); third.User("dev").Password == first.User("dev").Password {
		t.Error("a lost password came back")
	}

	// After an operator's rotation the secret in the file is no longer valid. A disabled client
	// keeps its secret.
	p.must(nil, "client", "rotate-secret", "dev-service", "--old-for", "0s")
	p.must(nil, "client", "disable", "dev-django-service")
	time.Sleep(1100 * time.Millisecond) // the server stores in whole seconds when a password was set
	p.shell(t, []string{"echo another password of mine | " + program(t) + " user passwd dev --password-stdin --data " + p.data})
	old := p.credentials()
	stop(c)
	c = p.startDev()
	if now := p.credentials(); now.Secret("dev-django-service") != old.Secret("dev-django-service") {
		t.Error("the secret of a disabled client changed")
	}
	p.must(nil, "client", "enable", "dev-django-service")
	works(c)
	if len(first.Clients) != 3 {
		t.Errorf("clients: %v", first.Clients)
	}
}

// login logs in at the simplejwt login endpoint.
func login(t *testing.T, c *child, name, password string) (status int, body string) {
	t.Helper()
	status, body, err := tryLogin(c, name, password)
	if err != nil {
		t.Fatal(err)
	}
	return status, body
}

func tryLogin(c *child, name, password string) (status int, body string, err error) {
	raw, err := json.Marshal(map[string]string{"username": name, "password": password})
	if err != nil {
		return 0, "", err
	}
	resp, err := http.Post(c.url("/api/token/"), "application/json", bytes.NewReader(raw))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// TestDevUpgradesATrialStoreOfAnEarlierVersion: its public client had no grant, and there was
// no user. What an operator has configured stays.
func TestDevUpgradesATrialStoreOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	restart := func(c *child) *child {
		t.Helper()
		c.signal(syscall.SIGTERM)
		c.wait(failsafe)
		return p.startDev()
	}
	c := p.startDev()
	p.must(nil, "client", "set", "dev-web", "--grant", "", "--origin", "http://localhost:9999")
	p.must(nil, "user", "remove", "dev")
	c = restart(c)
	if status, body := login(t, c, "dev", p.credentials().User("dev").Password); status != http.StatusOK {
		t.Errorf("login: %d %s", status, body)
	}
	var web api.Client
	p.must(&web, "client", "show", "dev-web", "--json")
	if !slices.Contains(web.Grants, "refresh_token") || !slices.Contains(web.Origins, "http://127.0.0.1:5173") || !slices.Contains(web.Origins, "http://localhost:9999") {
		t.Errorf("dev-web: %+v", web)
	}
	p.must(nil, "client", "set", "dev-web", "--origin", "http://localhost:9999")
	restart(c)
	if p.must(&web, "client", "show", "dev-web", "--json"); len(web.Origins) != 1 {
		t.Errorf("what an operator configured is gone: %+v", web)
	}
}

// TestDevListsPagesOfItsOwnSite: those of another host could not keep its cookie. A store that has
// the pages of an earlier version, or of another issuer, gets those of this one.
func TestDevListsPagesOfItsOwnSite(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	earlier := []string{"http://127.0.0.1:5173", "http://localhost:3000", "http://localhost:5173"}
	here := []string{"http://127.0.0.1:3000", "http://127.0.0.1:5173"}
	var c *child
	restart := func(issuer string) (origins []string) {
		t.Helper()
		if c != nil {
			c.signal(syscall.SIGTERM)
			c.wait(failsafe)
		}
		if issuer == "" {
			c = p.startDev()
		} else {
			// The address of the server before could belong to another program now.
			listen := freeAddress(t)
			_, port, _ := strings.Cut(listen, ":")
			c = p.startDev("--listen", listen, "--issuer", issuer+":"+port)
		}
		var web api.Client
		p.must(&web, "client", "show", "dev-web", "--json")
		return web.Origins
	}
	set := func(origins ...string) {
		t.Helper()
		flags := []string{"client", "set", "dev-web"}
		for _, o := range origins {
			flags = append(flags, "--origin", o)
		}
		p.must(nil, flags...)
	}
	if got := restart(""); !slices.Equal(got, here) {
		t.Errorf("a new store: %q", got)
	}
	if !strings.Contains(c.out.String(), `credentials: "include"`) || !strings.Contains(c.out.String(), "a page of "+here[0]+" or "+here[1]+",") {
		t.Errorf("the pages and the line for them are not printed:\n%s", c.out)
	}
	if got, want := restart("http://localhost"), []string{"http://127.0.0.1:3000", "http://127.0.0.1:5173", "http://localhost:3000", "http://localhost:5173"}; !slices.Equal(got, want) {
		t.Errorf("another issuer: %q", got)
	}
	set(earlier...)
	if got, want := restart(""), append([]string{here[0]}, earlier...); !slices.Equal(got, want) {
		t.Errorf("the pages of an earlier version: %q, want %q", got, want)
	}
	set("http://localhost:5173")
	if got := restart(""); !slices.Equal(got, []string{"http://localhost:5173"}) {
		t.Errorf("what an operator configured: %q", got)
	}
}

// TestDevGivesItsUserAnotherID: in a trial store of an earlier version the user has the id 1, which in
// Django is usually the superuser. Another id that an operator has chosen stays.
func TestDevGivesItsUserAnotherID(t *testing.T) {
	t.Parallel()
	for old, want := range map[string]string{"1": "2000000000", "2": "2", "01d": "01d"} {
		p := newPlace(t)
		c := p.startDev()
		if id := p.credentials().User("dev").ID; id != "2000000000" {
			t.Errorf("the id in a new store is %s", id)
		}
		p.must(nil, "user", "remove", "dev")
		p.shell(t, []string{"echo another password of mine | " + program(t) + " user add dev --id " + old + " --password-stdin --data " + p.data})
		// Without the file the server does not know the password, as after a crash.
		if err := os.Remove(filepath.Join(p.data, "dev-credentials")); err != nil {
			t.Fatal(err)
		}
		c.signal(syscall.SIGTERM)
		c.wait(failsafe)
		c = p.startDev()
		var u api.User
		p.must(&u, "user", "show", "dev", "--json")
		if u.ID != want || p.credentials().User("dev").ID != want {
			t.Errorf("the user %s has the id %s, and %s in the file; want %s", old, u.ID, p.credentials().User("dev").ID, want)
		}
		if status, body := login(t, c, "dev", p.credentials().User("dev").Password); status != http.StatusOK {
			t.Errorf("the user %s cannot log in: %d %s", old, status, body)
		}
	}
}

// TestDevAnswersOnlyItsOwnHosts, so that a page whose name points to loopback learns nothing.
func TestDevAnswersOnlyItsOwnHosts(t *testing.T) {
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
	// net/http would answer this request itself.
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

func TestDevWithOneAlgorithmHasItsClientsOnly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startWith(environment("KEYMILL_KEYS_ALGORITHMS=EdDSA"), "serve", "--dev", "--data", p.data, "--listen", "127.0.0.1:0")
	if d := p.credentials(); len(d.Clients) != 1 || d.Clients[0].ID != "dev-service" {
		t.Errorf("clients: %v", d.Clients)
	}
	if !eventually(failsafe, func() bool { return strings.Contains(c.out.String(), "Rotate the keys") }) || strings.Contains(c.out.String(), "/api/token/") {
		t.Errorf("login endpoints without a client:\n%s", c.out)
	}
	if status, _ := login(t, c, "dev", "a password of this length"); status != http.StatusNotFound {
		t.Errorf("login: %d", status)
	}
}

// TestDevPrintsTheConfiguredFieldOfTheUserName in the commands for the simplejwt endpoint only.
func TestDevPrintsTheConfiguredFieldOfTheUserName(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startWith(environment("KEYMILL_SIMPLEJWT_USERNAME_FIELD=email"), "serve", "--dev", "--data", p.data, "--listen", "127.0.0.1:0")
	if !eventually(failsafe, func() bool { return strings.HasSuffix(c.out.String(), "--audience dev-django\n") }) {
		t.Fatalf("printed only:\n%s", c.out)
	}
	login, cookie := pasted(t, c.out.String(), "Log in as the user"), pasted(t, c.out.String(), "Log in as a web page does")
	if got := strings.Join(login, "\n"); strings.Count(got, `"email": "dev"`) != 2 || strings.Contains(got, `"username"`) {
		t.Errorf("printed %s", got)
	}
	if got := strings.Join(cookie, "\n"); !strings.Contains(got, `"username": "dev"`) {
		t.Errorf("printed %s", got)
	}
	if _, err := exec.LookPath("curl"); err == nil {
		p.shell(t, login, `"refresh":`, `"access":`)
	}
}

// TestDevCredentialsArePlainJSON for scripts, and readable by their owner only.
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
