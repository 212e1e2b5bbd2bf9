package cli

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"keymill/integration_test/server"
)

type stateKey struct{}

// A state is what one script has started and recorded. A script runs in one goroutine.
type state struct {
	server    *server.Server
	listeners []net.Listener
	snapshots map[string][]string // path → its files, see tree
}

func stateOf(ts *testscript.TestScript) *state { return ts.Value(stateKey{}).(*state) }

func (s *state) close() {
	if s.server != nil {
		s.server.Kill() // sigterm is what checks how a server ends
	}
	for _, l := range s.listeners {
		l.Close()
	}
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	s := stateOf(ts)
	if neg {
		ts.Fatalf("use exits for a server that must not start")
	}
	if s.server == nil {
		extra, err := os.ReadFile(ts.MkAbs("extra.yaml"))
		if err != nil && !os.IsNotExist(err) {
			ts.Fatalf("%v", err)
		}
		dev := slices.Contains(args, "--dev")
		args = slices.DeleteFunc(args, func(a string) bool { return a == "--dev" })
		s.server, err = server.New(server.Options{Dir: ts.MkAbs("."), Dev: dev, Config: string(extra), Args: args})
		ts.Check(err)
		ts.Setenv("ISSUER", s.server.Issuer)
		ts.Setenv("KEYMILL_DATA", s.server.Data)
		if !dev {
			ts.Setenv("KEYMILL_CONFIG", ts.MkAbs("keymill.yaml"))
		}
	}
	ts.Check(s.server.Start())
}

func sigterm(ts *testscript.TestScript, neg bool, args []string) {
	if err := stateOf(ts).server.Stop(); err != nil {
		ts.Fatalf("%v; its log:\n%s", err, stateOf(ts).server.Log())
	}
}

func kill9(ts *testscript.TestScript, neg bool, args []string) { stateOf(ts).server.Kill() }

func occupy(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	stateOf(ts).listeners = append(stateOf(ts).listeners, l)
	ts.Setenv(args[0], l.Addr().String())
}

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	req, err := http.NewRequest("GET", ts.Getenv("ISSUER")+args[0], nil)
	ts.Check(err)
	setHeaders(req, args[1:])
	show(ts, req)
}

func post(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: post PATH JSON Header:value...")
	}
	req, err := http.NewRequest("POST", ts.Getenv("ISSUER")+args[0], strings.NewReader(args[1]))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	setHeaders(req, args[2:])
	show(ts, req)
}

func setHeaders(req *http.Request, headers []string) {
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Set(name, value)
		if strings.EqualFold(name, "Host") {
			req.Host = value
		}
	}
}

func token(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: token CLIENT SECRET name=value...")
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	for _, field := range args[2:] {
		name, value, _ := strings.Cut(field, "=")
		form.Set(name, value)
	}
	req, err := http.NewRequest("POST", ts.Getenv("ISSUER")+"/token", strings.NewReader(form.Encode()))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(args[0]), url.QueryEscape(args[1]))
	show(ts, req)
}

// show prints the answer as received, without following a redirect or decompressing.
func show(ts *testscript.TestScript, req *http.Request) {
	client := http.Client{
		Timeout:       5 * time.Minute,
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	fmt.Fprintf(ts.Stdout(), "status %d\n", resp.StatusCode)
	resp.Header.Write(ts.Stdout())
	fmt.Fprintln(ts.Stdout())
	_, err = io.Copy(ts.Stdout(), io.LimitReader(resp.Body, 1<<20))
	ts.Check(err)
	fmt.Fprintln(ts.Stdout())
}
