package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/server"
	"keymill/storage/postgres/postgrestest"
)

func TestMain(m *testing.M) { server.Main(m) }

// TestServersThatShareAStoreAreMeasured on a real PostgreSQL: one against a server on bbolt, and three against one.
func TestServersThatShareAStoreAreMeasured(t *testing.T) {
	cluster := postgrestest.Start(t)
	var results []*capacityResult
	for _, c := range capacityCases() {
		if c.scenario.group == "refresh" && c.connections == 16 {
			c.connections = 2
			results = append(results, &capacityResult{capacityCase: c})
		}
	}
	if err := measureCapacityOnce(cluster, plan{slices: 1, slice: 50 * time.Millisecond}, 0, results); err != nil {
		t.Fatal(err)
	}
	if len(results) != 2 || results[1].nodes != sharing {
		t.Fatalf("measured %d cases", len(results))
	}
	var table strings.Builder
	if err := printCapacity(&table, results); err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if len(r.rounds) != 1 || r.ratio() <= 0 || r.shared.engineCPU <= 0 || r.shared.wal <= 0 || !strings.Contains(table.String(), r.name()+" ") {
			t.Errorf("%s: %v in\n%s", r.name(), r.rounds, table.String())
		}
	}
	if shared := results[1].shared; len(shared.targets) != sharing || len(shared.load.connections) != 2*sharing {
		t.Errorf("three servers had %d connections", len(shared.load.connections))
	}
}

func TestAssertNamesTheServersThatTakeTooMuch(t *testing.T) {
	r := capacityResult{capacityCase: capacityCase{scenario: scenario{name: "x"}, connections: 16, nodes: 1, most: 1.3}}
	r.shared.perCPU, r.other.perCPU = []float64{10, 10, 10}, []float64{13, 12, 20}
	if missed := r.missed(); missed != nil {
		t.Errorf("a ratio of 1.3: %q", missed)
	}
	r.other.perCPU[1] = 14
	if want := []string{"x at 16: processor time 1.400 of that of bbolt, wanted at most 1.30"}; !slices.Equal(r.missed(), want) {
		t.Errorf("a ratio of 1.4: %q", r.missed())
	}
}
