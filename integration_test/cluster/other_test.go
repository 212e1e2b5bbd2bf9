package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/integration_test/server"
)

// otherBuild begins to build the server with commits that call keymill.commit_v3, a function that counts its calls in the
// sequence keymill.second. It stands for a later version. Nothing in the tree changes: the build sees other files in
// their place. The result waits for the build and returns the program.
func otherBuild(t *testing.T) (binary func() string) {
	t.Helper()
	dir := t.TempDir()
	root, err := server.Root()
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]string{} // path → file to read in its place
	replace := func(name string, change func(string) string) {
		path := filepath.Join(root, "storage/postgres", name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := change(string(text))
		if changed == string(text) {
			t.Fatalf("%s has nothing to change", name)
		}
		places[path] = filepath.Join(dir, name)
		if err := os.WriteFile(places[path], []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second := func(text string) string { return strings.ReplaceAll(text, "keymill.commit_v2", "keymill.commit_v3") }
	replace("commit.go", second)
	replace("schema.go", second)
	function := regexp.MustCompile(`(?s)CREATE OR REPLACE FUNCTION keymill\.commit_v2\(.*?\n\$\$;\n`)
	replace("schema.sql", func(text string) string {
		return function.ReplaceAllStringFunc(text, func(first string) string {
			counting := strings.Replace(second(first), "\nBEGIN\n", "\nBEGIN\n  PERFORM pg_catalog.nextval('keymill.second');\n", 1)
			return first + "CREATE SEQUENCE IF NOT EXISTS keymill.second;\n" + counting
		})
	})
	overlay, err := json.Marshal(map[string]any{"Replace": places})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "keymill")
	cmd := exec.Command("go", "build", "-overlay", file, "-o", program, "./cmd/keymill")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOWORK=off")
	built := make(chan error, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		built <- err
	}()
	return func() string {
		if err := <-built; err != nil {
			t.Fatal(err)
		}
		return program
	}
}

// sql runs statements as the owner of the tables, or as another role, at the first database, and returns the output.
func (w *world) sql(t *testing.T, role, statements string) string {
	t.Helper()
	cmd := exec.Command("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-h", filepath.Join(w.dir, "sockets"), "-p", w.address(firstDB)[len("127.0.0.1:"):], "-U", role, "-d", "keymill")
	cmd.Env, cmd.Stdin = server.Environment(), strings.NewReader(statements)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// replaceBinary gives the nodes that start from now on another program.
func (w *world) replaceBinary(t *testing.T, binary string) {
	t.Helper()
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(w.dir, "keymill.next")
	if err := os.WriteFile(next, text, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(w.dir, "keymill")); err != nil { // the running nodes keep the old one
		t.Fatal(err)
	}
}

// upgraded runs the SQL of another build, and then gives it to the nodes one after the other. In the meantime a node
// of the first build is cut off.
func (w *world) upgraded(t *testing.T, binary string, b billing) {
	wire := newNamespace(t)
	listener, err := net.Listen("tcp", wire.here+":0")
	if err != nil {
		t.Fatal(err)
	}
	secured, ca := withTLS(t, listener, w.dir)
	newWay(t, secured, w.address(pooler))
	far := w.addNode(t, 4, setting{namespace: wire, store: "postgres://keymill@" + listener.Addr().String() + "/keymill?sslnegotiation=direct&sslrootcert=" + ca})
	var cut sync.WaitGroup
	defer cut.Wait()

	w.replaceBinary(t, binary)
	sql, err := w.verb(1, "", "migrate", "--print")
	if err != nil {
		t.Fatalf("%v %s", err, sql)
	}
	w.sql(t, "keymill", sql)
	calls := func() string { return w.sql(t, "keymill", "SELECT last_value, is_called FROM keymill.second") }
	if got := calls(); got != "1|f" {
		t.Fatalf("commit_v3 was called before a node had it: %s", got)
	}
	cut.Go(func() { w.cutOff(t, far, wire, b) })
	before := ""
	for _, node := range nodes {
		w.do(t, "stop "+node, "start "+node)
		time.Sleep(nginxForgets)
		if now := calls(); now == before || now == "1|f" {
			t.Errorf("%s does not call commit_v3: %s", node, now)
		} else {
			before = now
		}
	}
	cut.Wait()
}

var nodes = []string{"node-1", "node-2", "node-3"}

// downgraded gives the nodes the first build again, and lets them take a detour to the database. The functions of the
// other build stay.
func (w *world) downgraded(t *testing.T, d detour) {
	binary, err := server.Binary()
	if err != nil {
		t.Fatal(err)
	}
	w.replaceBinary(t, binary)
	for _, node := range nodes {
		w.reroute(t, node, d)
		w.do(t, "stop "+node, "start "+node)
		time.Sleep(nginxForgets)
	}
	calls := w.sql(t, "keymill", "SELECT last_value FROM keymill.second")
	w.tokenOf(t)
	if now := w.sql(t, "keymill", "SELECT last_value FROM keymill.second"); now != calls {
		t.Errorf("commit_v3 was called after no node had it: %s times, and %s before", now, calls)
	}
}
