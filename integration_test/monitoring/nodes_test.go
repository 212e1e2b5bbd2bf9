package monitoring

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
	"keymill/storage/postgres/postgrestest"
)

// shared are lines of the configuration of a server that shares its store. Keys change fast, because propagation must be
// long beside the max-age on such a store.
const shared = "store: %s\nnode: {id: %s}\nmetrics: {listen: %q}\njwks: {max_age: 1s}\nkeys: {propagation: 1m, rotate_every: 1h}"

// secondNode starts another server with the store, the issuer and the master key of first.
func secondNode(t *testing.T, first *server.Server, store, metrics string) *server.Companion {
	t.Helper()
	listen, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "keymill.yaml")
	write(t, config, fmt.Sprintf("listen: %s\nissuer: %s\ninsecure: true\ndata: %s\nmaster_key_file: %s\n"+shared+"\n",
		listen, first.Issuer, filepath.Join(dir, "data"), filepath.Join(first.Dir, "master.key"), store, "node-b", metrics))
	cmd := exec.Command(first.Binary(), "serve", "--config", config)
	cmd.Env = server.Environment()
	companion, err := server.Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { companion.Close() })
	return companion
}

// TestAlertsOfServersThatShareAStoreFire when one of them disappears, and when the database does.
func TestAlertsOfServersThatShareAStoreFire(t *testing.T) {
	needs(t, "prometheus", "promtool")
	t.Parallel()
	postgres := postgrestest.Start(t)
	store := postgres.URL(postgrestest.Role, postgres.NewDatabase(t))
	var metrics []string
	for range 2 {
		address, err := freeport.Address()
		if err != nil {
			t.Fatal(err)
		}
		metrics = append(metrics, address)
	}
	first := server.Start(t, server.Options{Config: fmt.Sprintf(shared, store, "node-a", metrics[0])})
	second := secondNode(t, first, store, metrics[1])
	p := startPrometheus(t, metrics...)
	await(t, "two nodes that see each other", func() bool {
		result, err := p.query("min(keymill_nodes_live) == 2 and count(keymill_ready == 1) == 2")
		return err == nil && len(result) == 1
	})
	named, err := p.query("keymill_ready * on (job, instance) group_left (node) keymill_node_info") // as docs/metrics.md has it
	if err != nil || len(named) != 2 {
		t.Fatalf("%v, %v", named, err)
	}
	for _, s := range named {
		if want := map[string]string{metrics[0]: "node-a", metrics[1]: "node-b"}[s.Metric["instance"]]; s.Metric["node"] != want {
			t.Errorf("%v, want node %s", s.Metric, want)
		}
	}
	for _, alert := range []string{"KeymillStoreAway", "KeymillNodeMissing", "KeymillClockWrong", "KeymillNotReady"} {
		if labels := p.firing(alert); labels != nil {
			t.Errorf("%s fires: %v", alert, labels)
		}
	}
	second.Close()
	await(t, "alert KeymillDown", func() bool { return p.firing("KeymillDown")["instance"] == metrics[1] })
	await(t, "alert KeymillNodeMissing", func() bool { return p.firing("KeymillNodeMissing")["instance"] == metrics[0] })
	postgres.Stop(syscall.SIGINT)
	await(t, "alert KeymillStoreAway", func() bool { return p.firing("KeymillStoreAway")["instance"] == metrics[0] })
	await(t, "alert KeymillNotReady", func() bool { return p.firing("KeymillNotReady")["instance"] == metrics[0] })
	postgres.Begin(t)
	await(t, "end of KeymillStoreAway", func() bool { return p.firing("KeymillStoreAway") == nil && p.firing("KeymillNotReady") == nil })
}
