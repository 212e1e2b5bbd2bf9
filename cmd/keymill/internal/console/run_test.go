package console

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/storage/audit"
)

func hashOf(t *testing.T, r audit.Record) string {
	t.Helper()
	line, err := r.Line()
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(line)
	return hex.EncodeToString(hash[:])
}

// start runs a console until the test ends, and returns the link that it prints.
func start(t *testing.T) (link string, end func() error) {
	t.Helper()
	var out terminaltest.Buffer
	c := Console{Server: adminapitest.Serve(t, admin{"name"}), Listen: "127.0.0.1:0", Out: &out, Notes: io.Discard}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	end = func() error { cancel(); return <-ended }
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if link = regexp.MustCompile(`http://127\.0\.0\.1:\d+/login#\w{26}\n`).FindString(out.String()); link != "" {
			return strings.TrimSpace(link), end
		}
		if time.Now().After(deadline) {
			t.Fatalf("no link in %q", out.String())
		}
	}
}

// browse logs in at a link and returns a client, and the address of the first page.
func browse(t *testing.T, link string) (*http.Client, string) {
	t.Helper()
	origin, code, _ := strings.Cut(link, "/login#")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	r, err := http.NewRequest(http.MethodPost, origin+"/login", strings.NewReader(url.Values{"code": {code}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", origin)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "<h1>Overview</h1>") {
		t.Fatalf("the login answered %s, %v", resp.Status, err)
	}
	return client, resp.Request.URL.String()
}

// TestAConsoleEndsAtOnce, in a second or two, also if a connection is open and a request is not whole. The bound leaves
// time to a busy machine: without the limit the console would wait 10 seconds for the rest of the header.
func TestAConsoleEndsAtOnce(t *testing.T) {
	link, end := start(t)
	browse(t, link)
	origin, _, _ := strings.Cut(link, "/login#")
	c, err := net.Dial("tcp", strings.TrimPrefix(origin, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /login HTTP/1.1\r\nHost: ")
	began := time.Now()
	if err := end(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// TestTwoConsolesInOneBrowser: a browser keeps both cookies.
func TestTwoConsolesInOneBrowser(t *testing.T) {
	first, _ := start(t)
	second, _ := start(t)
	client, one := browse(t, first)
	other, two := browse(t, second)
	for _, c := range other.Jar.Cookies(must(t, two)) {
		c.Path = must(t, two).Path
		client.Jar.SetCookies(must(t, two), []*http.Cookie{c})
	}
	for _, page := range []string{one, two} {
		resp, err := client.Get(page + "keys")
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != 200 {
			t.Errorf("%s answered %s", page, resp.Status)
		}
	}
}

func must(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestWhoMayConnect(t *testing.T) {
	for _, tt := range []struct {
		own  int
		sudo string
		want []int
	}{{1000, "", []int{1000}}, {1000, "1001", []int{1000}}, {0, "", []int{0}}, {0, "1000", []int{0, 1000}}, {0, "-1", []int{0}}, {0, "0", []int{0}}, {0, "x", []int{0}}} {
		if got := users(tt.own, tt.sudo); !slices.Equal(got, tt.want) {
			t.Errorf("uid %d, SUDO_UID %q: %v, want %v", tt.own, tt.sudo, got, tt.want)
		}
	}
}

func TestAConsoleListensOnLoopbackOnly(t *testing.T) {
	for address, good := range map[string]bool{
		"127.0.0.1:0": true, "127.0.0.1:8421": true, "[::1]:0": true, "0.0.0.0:0": false, ":0": false, "localhost:0": false, "192.0.2.1:80": false, "": false, "127.0.0.1": false,
		"127.0.0.1:65536": false, "127.0.0.1:-1": false, "127.0.0.1:http": false, "127.0.0.1:": false,
	} {
		if err := checkListen(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestTheLinkIsNoArgument: xdg-open gets the name of a file that only its user can read, and the file is removed after use.
//
// R120.
func TestTheLinkIsNoArgument(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nprintf '%s' \"$*\" > " + dir + "/arguments\nstat -c %a \"$1\" > " + dir + "/mode\ncat \"$1\" > " + dir + "/page.new\nenv > " + dir + "/env\nmv " + dir + "/page.new " + dir + "/page\n"
	if err := os.WriteFile(filepath.Join(dir, opener), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("KEYMILL_MASTER_KEY", "very secret")
	used, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- openLink(t.Context(), "http://127.0.0.1:8421/login#CODE", used) }()
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	for deadline := time.Now().Add(time.Minute); read("page") == "" && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	file := read("arguments")
	if strings.Contains(file, "CODE") || !strings.Contains(read("page"), "url=http://127.0.0.1:8421/login#CODE") || read("mode") != "600\n" {
		t.Errorf("arguments %q, mode %q, page %q", file, read("mode"), read("page"))
	}
	if strings.Contains(read("env"), "very secret") {
		t.Error("the browser gets the variables of Keymill")
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the file is gone before its use: %v", err)
	}
	close(used)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(file)); !os.IsNotExist(err) {
		t.Errorf("the file is there after its use: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := openLink(t.Context(), "x", make(chan struct{})); err == nil || err.Error() != "it is not installed" {
		t.Errorf("without xdg-open: %v", err)
	}
}
