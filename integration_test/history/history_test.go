package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"keymill/integration_test/counts"
	"keymill/storage"
	"keymill/storage/postgres"
	"keymill/storage/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

const nodes = 3

// open opens a store for each node. The first one has no cache, and the last one has two committers.
func open(t *testing.T, url string) (stores []storage.Store) {
	t.Helper()
	for n := range nodes {
		c := postgres.Config{URL: url, Create: true, Deadline: time.Minute}
		switch n {
		case 0:
			c.Options.CacheBytes = -1
		case nodes - 1:
			c.Options.Committers, c.Options.Fetchers = 2, 2
		}
		s, err := postgres.Open(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		stores = append(stores, s)
	}
	return stores
}

// TestHistoriesOfSeveralNodesAreLinearizable while connections are cut and the server is restarted and crashes. No
// caller is told that it failed, or that its outcome is unknown, because each outage is shorter than the deadline.
func TestHistoriesOfSeveralNodesAreLinearizable(t *testing.T) {
	server := postgrestest.Start(t)
	proxy := server.Proxy(t)
	const enough = 300 // requests
	cuts, restarts := counts.Of("history-cuts"), counts.Of("history-server-restarts")
	h := record(t, open(t, proxy.URL(server.NewDatabase(t))), func(h *recorder) {
		for range cuts {
			time.Sleep(30*time.Millisecond + rand.N(40*time.Millisecond))
			proxy.Cut()
		}
		for range restarts {
			for _, mode := range []syscall.Signal{postgrestest.Fast, postgrestest.Immediate} {
				server.Restart(t, mode)
				time.Sleep(300 * time.Millisecond)
			}
		}
		h.await(enough)
	})
	for _, world := range impossible(t, h.history) {
		t.Errorf("no order of these requests has these answers:\n%s", describe(h.history, world))
	}
	if h.away+h.unknown > 0 || len(h.history) < enough {
		t.Errorf("%s, want at least %d and no failure", h, enough)
	}
	if !t.Failed() {
		t.Logf("counted: %d requests of %d nodes over %d cuts and %d restarts; 0 failed, 0 violations", len(h.history), nodes, cuts, 2*restarts)
	}
}

// describe lists the requests of a world in the order in which they began.
func describe(history []porcupine.Operation, world int) string {
	var part []porcupine.Operation
	for _, o := range history {
		if o.Input.(request).world == world {
			part = append(part, o)
		}
	}
	slices.SortFunc(part, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var text strings.Builder
	for _, o := range part {
		fmt.Fprintf(&text, "%v to %v: %v: %+v\n", time.Duration(o.Call), time.Duration(o.Return), o.Input, o.Output)
	}
	return text.String()
}
