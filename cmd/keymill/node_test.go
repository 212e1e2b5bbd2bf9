package main

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/storage/postgres/postgrestest"
)

// A monitored server of a cluster has metrics.
type monitoredNode struct {
	*child
	*place
	metrics string
}

func (c *cluster) monitored(id string, more ...string) monitoredNode {
	c.t.Helper()
	p := c.place()
	env := append(append(p.env(), sharedEnv...), "KEYMILL_NODE_ID="+id, "KEYMILL_METRICS_LISTEN=127.0.0.1:0")
	s := p.startWith(env, p.serveArgs(more...)...)
	_, rest, _ := strings.Cut(s.errs.String(), `msg="serving metrics"`)
	_, rest, _ = strings.Cut(rest, "metrics=")
	address, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	address, _, _ = strings.Cut(address, " ")
	return monitoredNode{s, p, address}
}

// shows waits until the metrics have all lines.
func (n monitoredNode) shows(lines ...string) {
	n.child.t.Helper()
	var body string
	if !eventually(time.Minute, func() bool {
		time.Sleep(100 * time.Millisecond)
		_, body = get("http://" + n.metrics + "/metrics")
		for _, line := range lines {
			if !strings.Contains("\n"+body, "\n"+line+"\n") {
				return false
			}
		}
		return true
	}) {
		n.child.t.Fatalf("the metrics do not show %q:\n%s", lines, body)
	}
}

// TestEveryViewSaysWhichNode: the list of nodes, the metrics, the log and the audit log tell the servers of a store apart, and
// notice one that disappears.
func TestEveryViewSaysWhichNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.monitored("eu-1", "--init")
	b := c.monitored("eu-2")
	a.shows(`keymill_node_info{node="eu-1"} 1`, "keymill_nodes_live 2", "keymill_store_away 0", "keymill_clock_offset_seconds 0")
	b.shows(`keymill_node_info{node="eu-2"} 1`, "keymill_nodes_live 2", "keymill_ready 1")
	var list api.Nodes
	if !eventually(time.Minute, func() bool {
		time.Sleep(100 * time.Millisecond)
		b.must(&list, "node", "list", "--json")
		return len(list.Leases) > 0
	}) {
		t.Fatalf("no node holds a lease: %+v", list)
	}
	if !list.Shared || list.Node != "eu-2" || len(list.Nodes) != 2 {
		t.Fatalf("%+v", list)
	}
	for n, node := range list.Nodes {
		if node.ID != fmt.Sprint("eu-", n+1) || !node.Live || node.Host == "" || node.Version == "" || node.Keys == 0 || node.Generation == 0 {
			t.Errorf("%+v", node)
		}
	}
	for _, l := range list.Leases {
		if l.Node != "eu-1" && l.Node != "eu-2" {
			t.Errorf("%+v", l)
		}
	}
	a.child.signal(syscall.SIGKILL)
	a.child.wait(failsafe)
	b.shows("keymill_nodes_live 1")
	if text := b.must(nil, "node", "list"); !strings.Contains(text, "missing") || !strings.Contains(text, "eu-2 *") {
		t.Errorf("%s", text)
	}
	for _, s := range []monitoredNode{a, b} {
		for line := range strings.Lines(s.errs.String()) {
			if strings.Contains(line, "msg=serving") && !strings.Contains(line, "node=eu-") {
				t.Errorf("a line of the log does not name the node: %s", line)
			}
		}
	}
	for n, r := range b.journal(2) {
		if want := fmt.Sprint("eu-", n+1); r.Action != "server.start" || r.Detail["node"] != want {
			t.Errorf("record %d is %s of node %q, want %s", n, r.Action, r.Detail["node"], want)
		}
	}
}

// TestAServerWhoseDatabaseIsAwayIsNotReady: it goes on with the key set, says why to the administrator, and is ready again as soon as the
// database answers.
func TestAServerWhoseDatabaseIsAwayIsNotReady(t *testing.T) {
	t.Parallel()
	p := postgrestest.Start(t)
	c := &cluster{t: t, postgres: p, database: p.NewDatabase(t)}
	c.url = p.URL(postgrestest.Role, c.database)
	a := c.monitored("eu-1", "--init")
	a.shows("keymill_ready 1", "keymill_store_away 0")
	p.Stop(syscall.SIGINT)
	a.shows("keymill_ready 0", "keymill_store_away 1")
	if status, body := get(a.child.url("/readyz")); status != http.StatusServiceUnavailable || strings.TrimSpace(body) != `{"ready":false}` {
		t.Errorf("/readyz answers %d %s", status, body)
	}
	for _, path := range []string{"/healthz", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"} {
		if status, body := get(a.child.url(path)); status != http.StatusOK {
			t.Errorf("%s answers %d %s", path, status, body)
		}
	}
	a.logged("the store cannot be reached since 2", 1)
	if out, _, code := a.run("healthcheck", "--data", a.data); code != 1 {
		t.Errorf("healthcheck ends with %d: %s", code, out)
	}
	p.Begin(t)
	a.shows("keymill_ready 1", "keymill_store_away 0")
	a.child.signal(syscall.SIGTERM)
	if code := a.child.wait(failsafe); code != 0 {
		t.Errorf("code %d after a stop", code)
	}
}
