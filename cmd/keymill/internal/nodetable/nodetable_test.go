package nodetable

import (
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
)

func TestTheTableShowsEachNodeInALine(t *testing.T) {
	at := time.Date(2026, 11, 29, 8, 0, 12, 0, time.UTC)
	var out strings.Builder
	err := Print(&out, api.Nodes{
		Shared: true, Node: "a",
		Nodes: []api.Node{
			{ID: "a", Host: "web-1", Version: "1.2.3", Live: true, Beat: at, ClockOffset: "0s", Keys: 17, Generation: 1},
			{ID: "b", Host: "", Version: "1.2.3\x1b[31m", Beat: at, Keys: 16, Generation: 2},
		},
		Leases: []api.Lease{{Name: "chain", Node: "a"}, {Name: "sweep", Node: "a"}, {Name: "webhook", Node: "c"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for n, want := range []string{
		"NODE|HOST|VERSION|STATE|BEAT|CLOCK|KEYS|DATA|KEY|JOBS",
		"a|*|web-1|1.2.3|live|2026-11-29T08:00:12Z|0s|17|1|chain|sweep",
		`b|-|"1.2.3`,
	} {
		if got := strings.Join(strings.Fields(lines[n]), "|"); !strings.HasPrefix(got, want) {
			t.Errorf("line %d is %q, want %q", n, got, want)
		}
	}
	if got := strings.Join(strings.Fields(lines[2]), "|"); !strings.HasSuffix(got, "|missing|2026-11-29T08:00:12Z|-|16|2|-") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
	out.Reset()
	if err := Print(&out, api.Nodes{}); err != nil || out.String() != alone {
		t.Errorf("%q, %v", &out, err)
	}
}
