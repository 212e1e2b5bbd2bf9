package postgres

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"keymill/integration_test/counts"
	"keymill/storage/optimistic"
	"keymill/storage/postgres/postgrestest"
)

// lockCalls are the calls in schema.sql that take locks for keys and spans.
var lockCalls = regexp.MustCompile(`pg_catalog\.pg_advisory_xact_lock(_shared)?\(1263356236, (0|l|-l)\)`)

// TestNodesCannotContradictEachOther: of three nodes, each adds its record only if the others' are absent,
// and only if a range is empty. Without locks, which the same test shows, several nodes add theirs.
func TestNodesCannotContradictEachOther(t *testing.T) {
	// Between comparing and writing the function waits, so that nodes overlap in every round.
	const written = "  UPDATE keymill.node AS n SET seq"
	slow := strings.Replace(Schema(), written, "  PERFORM pg_catalog.pg_sleep(0.003);\n"+written, 1)
	unlocked := lockCalls.ReplaceAllString(slow, "pg_catalog.pg_sleep(0)")
	if slow == Schema() || len(lockCalls.FindAllString(slow, -1)) != 5 {
		t.Fatal("schema.sql has changed: the test does not change it as it says")
	}
	rounds := counts.Of("postgres-skews")
	skews, phantoms := contradictions(t, slow, rounds)
	if skews+phantoms > 0 {
		t.Errorf("of %d rounds %d have a write skew and %d a phantom", rounds, skews, phantoms)
	}
	skews, phantoms = contradictions(t, unlocked, 3)
	if skews == 0 || phantoms == 0 {
		t.Errorf("without locks %d of 3 rounds have a write skew and %d a phantom: the test cannot fail", skews, phantoms)
	}
}

// contradictions returns in how many rounds more than one node added its record.
func contradictions(t *testing.T, schema string, rounds int) (skews, phantoms int) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	c.SQL(t, name, "SET ROLE "+postgrestest.Role, schema)
	nodes := make([]*Engine, 3)
	for i := range nodes {
		nodes[i] = openWith(t, Config{URL: c.URL(postgrestest.Role, name)})
	}
	for round := range rounds {
		points, ranges := fmt.Sprintf("p/%d/", round), fmt.Sprintf("q/%d/", round)
		var done sync.WaitGroup
		for i, e := range nodes {
			done.Go(func() {
				var others []string
				for j := range nodes {
					if j != i {
						others = append(others, fmt.Sprintf("%s%d", points, j))
					}
				}
				if err := update(e, 0, others, "", "", func(records, _ []optimistic.Record) []part {
					for _, r := range records {
						if r.Version != 0 {
							return nil
						}
					}
					return []part{puts(fmt.Sprintf("%s%d", points, i), "1")}
				}); err != nil {
					t.Error(err)
				}
			})
			done.Go(func() {
				if err := update(e, 1, nil, ranges, ranges+"~", func(_, span []optimistic.Record) []part {
					if len(span) > 0 {
						return nil
					}
					return []part{puts(fmt.Sprintf("%s%d", ranges, i), "1")}
				}); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		if added(t, nodes[0], points) != 1 {
			skews++
		}
		if added(t, nodes[0], ranges) != 1 {
			phantoms++
		}
	}
	return skews, phantoms
}

func added(t *testing.T, e *Engine, prefix string) int {
	records, err := e.Scan(t.Context(), prefix, prefix+"~", 10)
	if err != nil {
		t.Fatal(err)
	}
	return len(records)
}
