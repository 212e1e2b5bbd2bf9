package openapi

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/server"
	"keymill/issuer/endpoint/admin"
)

func TestMain(m *testing.M) { server.Main(m) }

// askingTests are the tests of issuer/endpoint that send requests to the admin API. The other ones send the
// same requests.
const askingTests = "AdminAPI|Audience|Client|User|Session|Import|ETag|Page|Problem|Put|Applied"

// TestEveryAnswerIsAsTheDocumentSays: of all exchanges that the tests of issuer/endpoint have, and of some with
// the program itself. Each route must have answered with success at least once.
func TestEveryAnswerIsAsTheDocumentSays(t *testing.T) {
	contract, err := NewContract(generate(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	check := func(e Exchange) {
		if err := contract.Check(e); err != nil {
			t.Errorf("%s %s?%s answered %d: %v\nrequest %.500s\nanswer %.500s", e.Method, e.Path, e.Query, e.Status, err, e.Request, e.Answer)
		}
		if e.Status < 300 {
			seen[e.Method+" "+e.Path] = true
		}
	}
	n := 0
	for e := range exchangesOfTests(t) {
		check(e)
		n++
	}
	for _, e := range exchangesOfTheProgram(t) {
		check(e)
	}
	routes := admin.New(admin.Config{}).Routes()
	for _, r := range routes {
		if !seen[r.Method+" "+r.Path] {
			t.Errorf("no test has seen a success of %s %s", r.Method, r.Path)
		}
	}
	t.Logf("counted: %d exchanges on %d routes", n, len(routes))
}

// exchangesOfTests runs the tests of issuer/endpoint.
func exchangesOfTests(t *testing.T) func(yield func(Exchange) bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "exchanges")
	cmd := exec.Command("go", "test", "-vet=off", "-count=1", "-run", askingTests, "./issuer/endpoint")
	cmd.Dir, cmd.Env = module, append(os.Environ(), "GOWORK=off", "KEYMILL_TEST_EXCHANGES="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return func(yield func(Exchange) bool) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			var e Exchange
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if !yield(e) {
				return
			}
		}
		if lines.Err() != nil {
			t.Fatal(lines.Err())
		}
	}
}

// exchangesOfTheProgram asks a running server for everything that needs no body and no name, and for what
// is broken.
func exchangesOfTheProgram(t *testing.T) (list []Exchange) {
	t.Helper()
	srv := server.Start(t, server.Options{})
	socket := filepath.Join(srv.Dir, "data", "admin.sock")
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	ask := func(method, path string) {
		req, err := http.NewRequest(method, "http://keymill"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Exchange{
			Method: method, Path: req.URL.Path, Query: req.URL.RawQuery,
			Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), Answer: string(body),
		})
	}
	for _, r := range admin.New(admin.Config{}).Routes() {
		ask(r.Method, r.Path+"?unknown=1")
		if named := strings.Contains(r.Path, "openapi") || r.Method == http.MethodGet || r.Path == "/admin/v1/backup"; named {
			ask(r.Method, r.Path)
		}
	}
	return list
}

func TestTheServerShowsTheDocument(t *testing.T) {
	served, err := json.Marshal(json.RawMessage(generate(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range exchangesOfTheProgram(t) {
		if e.Method == http.MethodGet && e.Path == "/admin/v1/openapi.json" && e.Status == http.StatusOK {
			if e.Answer != string(served) {
				t.Error("the server shows another document")
			}
			return
		}
	}
	t.Error("the server does not show the document")
}
