package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/cmd/keymill/internal/terminal/terminaltest"
)

// TestErrorsAreTextOnEveryPage: the server's words are printable and bounded, as those of its records are.
//
// R120.
func TestErrorsAreTextOnEveryPage(t *testing.T) {
	refusing := func(text string) *visitor {
		return newVisitor(adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/audit") && r.URL.Query().Get("limit") == "1000" { // of the login
				json.NewEncoder(w).Encode(map[string]any{"next": "0"})
				return
			}
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(map[string]string{"code": "invalid_request", "detail": text})
		})))
	}
	plain, attacked := refusing("name"), refusing(hostile+strings.Repeat("A", 20_000))
	plainBase, attackedBase := plain.login(t), attacked.login(t)
	pages, attacks := append(paths("name"), asks("name")...), append(paths(hostile), asks(hostile)...)
	for i, path := range pages {
		got := attacked.send("GET", attackedBase+attacks[i], "")
		compare(t, path, plain.send("GET", plainBase+path, ""), got)
		if got.Code != http.StatusBadRequest || got.Body.Len() > 5000 {
			t.Errorf("%s: %d, %d bytes", path, got.Code, got.Body.Len())
		}
	}
}

// TestAServerThatHangsIsNotWaitedForLong: a page says so before its script gives up.
func TestAServerThatHangsIsNotWaitedForLong(t *testing.T) {
	hangs := make(chan struct{})
	defer close(hangs)
	v := newVisitor(adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("limit") != "1000" {
			<-hangs
		}
		json.NewEncoder(w).Encode(map[string]any{"next": "0"})
	})))
	base := v.login(t)
	v.site.patience = 50 * time.Millisecond
	for range 2 {
		refused(t, v.send("GET", base, ""), http.StatusServiceUnavailable, "there was no answer in time. This page goes on trying.")
	}
	w := v.send("POST", base+"sessions/why", "token=x")
	refused(t, w, http.StatusServiceUnavailable, "send the form again")
	if strings.Contains(w.Body.String(), "goes on trying") {
		t.Error("a page that cannot try again says that it does")
	}
	script, err := static.ReadFile("static/console.js")
	if err != nil || !strings.Contains(string(script), fmt.Sprintf("timeout = %d;", (patience+10*time.Second)/time.Millisecond)) {
		t.Errorf("the script does not wait 10 seconds longer: %v", err)
	}
}

// TestAPageGoesOnTryingAfterAFailureOfTheServer, such as one of its store, which ends it, and the answer of a proxy whose server
// restarts. After a refusal it does not.
func TestAPageGoesOnTryingAfterAFailureOfTheServer(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		goesOn bool
	}{
		{503, `{"code":"unavailable","detail":"the store has failed"}`, true}, {502, "<h1>Bad Gateway</h1>", true}, {500, `{"code":"server_error"}`, true},
		{401, `{"code":"invalid_token"}`, false}, {403, `{"code":"insufficient_scope"}`, false}, {429, `{"code":"temporarily_unavailable"}`, false},
	} {
		v := newVisitor(adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(tt.status)
			io.WriteString(w, tt.body)
		})))
		base := enter(t, v)
		for _, path := range []string{"", "keys", "client?id=name"} {
			page := v.send("GET", base+path, "").Body.String()
			if strings.Contains(page, "This page goes on trying.") != tt.goesOn || strings.Contains(page, "data-again") != tt.goesOn {
				t.Errorf("%q after %d %s:\n%s", path, tt.status, tt.body, page)
			}
		}
		if page := v.send("POST", base+"sessions/why", "token=x").Body.String(); strings.Contains(page, "goes on trying") {
			t.Errorf("a page that cannot try again says that it does:\n%s", page)
		}
	}
}

// TestAPageThatRenewsItselfCanBeStopped (WCAG 2.2, 2.2.2), and the link that stops it keeps the other parameters.
func TestAPageThatRenewsItselfCanBeStopped(t *testing.T) {
	v := newVisitor(adminapitest.Serve(t, admin{"name"}))
	base := v.login(t)
	for _, path := range []string{"", "keys", "verifiers"} {
		moving, still := v.send("GET", base+path+"?after=x", "").Body.String(), v.send("GET", base+path+"?after=x&still=1", "").Body.String()
		if !strings.Contains(moving, `data-again="`+base+path+`?after=x&amp;auto=1"`) || !strings.Contains(moving, `<a href="`+base+path+`?after=x&amp;still=1">Stop`) {
			t.Errorf("%q cannot be stopped:\n%s", path, moving)
		}
		if strings.Contains(still, "data-again") || strings.Contains(still, "http-equiv") || !strings.Contains(still, `<a href="`+base+path+`?after=x">Renew`) {
			t.Errorf("%q renews itself, or cannot be started again:\n%s", path, still)
		}
	}
}

// TestOddRequests to the running program.
//
// R120.
func TestOddRequests(t *testing.T) {
	link, _ := start(t)
	_, base := browse(t, link)
	origin, _, _ := strings.Cut(link, "/login#")
	host := strings.TrimPrefix(origin, "http://")
	path := strings.TrimPrefix(base, origin)
	cookies := strings.Repeat("tossed="+strings.Repeat("x", 4000)+"; ", 180) // as many as a browser keeps for one host
	for _, tt := range []struct {
		line, header string
		status       int
		allow        string
	}{
		{"OPTIONS *", "", 405, "GET, HEAD, POST"},
		{"OPTIONS *", "Host: rebound.example", 421, ""},
		{"TRACE /login", "", 405, "GET, HEAD, POST"},
		{"GET " + path, "Cookie: " + cookies, 403, ""},
		{"GET /login?" + strings.Repeat("a", maxURLBytes), "", 414, ""},
		{"GET /static/console.css", "", 200, ""},
		{"GET /static/x/console.css", "", 404, ""},
		{"GET /static/%2e%2e/static/console.css", "", 404, ""},
		{"GET /static/", "", 404, ""},
		{"GET //login", "", 404, ""},
		{"GET " + path + "/keys", "", 403, ""},
	} {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		header := tt.header
		if !strings.HasPrefix(header, "Host") {
			header = "Host: " + host + "\r\n" + header
		}
		io.WriteString(c, tt.line+" HTTP/1.1\r\n"+strings.TrimSpace(header)+"\r\nConnection: close\r\n\r\n")
		w, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Body.Close()
		c.Close()
		if w.StatusCode != tt.status || w.Header.Get("Allow") != tt.allow || w.Header.Get("Content-Security-Policy") != policy {
			t.Errorf("%.60s: %d, Allow %q, want %d, %q", tt.line, w.StatusCode, w.Header.Get("Allow"), tt.status, tt.allow)
		}
	}
}

// TestTheEndLeavesNoFileAndNoBrowserBehind: the file of the link is removed before the console ends, and the browser, which
// can be a child of xdg-open, gets neither the console's Ctrl-C nor its end.
//
// R120.
func TestTheEndLeavesNoFileAndNoBrowserBehind(t *testing.T) {
	dir, temporary := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\necho $$ > " + dir + "/pid.new\nmv " + dir + "/pid.new " + dir + "/pid\nexec sleep 60\n"
	if err := os.WriteFile(filepath.Join(dir, opener), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("TMPDIR", temporary)
	server := adminapitest.Serve(t, admin{"name"})
	for range 10 { // the file was left sometimes
		os.Remove(filepath.Join(dir, "pid"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		c := Console{Server: server, Listen: "127.0.0.1:0", Open: true, Out: io.Discard, Notes: &terminaltest.Buffer{}}
		go func() { ended <- c.Run(ctx) }()
		pid := 0
		for deadline := time.Now().Add(time.Minute); pid == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			text, _ := os.ReadFile(filepath.Join(dir, "pid"))
			pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		if pid == 0 {
			t.Fatal("xdg-open was not started")
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if fields := strings.Fields(string(stat)); len(fields) < 6 || fields[5] != strconv.Itoa(pid) {
			t.Errorf("xdg-open is in the session of the terminal: %s", stat)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(filepath.Join(temporary, "keymill-console-*")); err != nil || len(left) > 0 {
			t.Errorf("%v is left behind, %v", left, err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("the browser ended with the console: %v", err)
		}
	}
}

// TestARemoteServerIsNamedByItsURL: its command lines can be used.
func TestARemoteServerIsNamedByItsURL(t *testing.T) {
	server := httptest.NewServer(admin{"name"})
	defer server.Close()
	v := newVisitor(adminapi.NewRemote(adminapi.Remote{
		URL: server.URL, Token: func(context.Context) (string, error) { return "", nil }, Advise: func(err error) error { return err },
	}))
	base := v.login(t)
	if page := v.send("GET", base, "").Body.String(); strings.Contains(page, "healthcheck") || !strings.Contains(page, server.URL) {
		t.Errorf("healthcheck asks no server on the network:\n%s", page)
	}
	if page := v.send("GET", base+"keys", "").Body.String(); !strings.Contains(page, "keymill key list --server "+server.URL+"<") {
		t.Errorf("the command line is wrong:\n%s", page)
	}
	server.Close()
	refused(t, v.send("GET", base+"keys", ""), http.StatusServiceUnavailable, "It is the server of <code>"+server.URL)
}
