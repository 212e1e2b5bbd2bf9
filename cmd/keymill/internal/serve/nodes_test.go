package serve

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"keymill/storage/nodes"
)

// TestARandomNodeIDIsPossible for each name of a host, and differs from start to start.
func TestARandomNodeIDIsPossible(t *testing.T) {
	for _, tt := range []struct{ host, prefix string }{
		{"db-1.example.com", "db-1-"}, {"Keymill-7F9D8C6B5-abcde", "keymill-7f9d8c6b5-abcde-"}, {strings.Repeat("long-name", 8), "long-namelong-namelong-"},
		{"", ""}, {"---", ""}, {"münchen_1", "m"}, {".", ""},
	} {
		id, other := randomNodeID(tt.host), randomNodeID(tt.host)
		if err := nodes.CheckID(id); err != nil || !strings.HasPrefix(id, tt.prefix) || id == other {
			t.Errorf("host %q: %q and %q, %v", tt.host, id, other, err)
		}
	}
}

// TestEachLineNamesTheNodeLast, so that what reads a line finds its attributes where they were.
func TestEachLineNamesTheNodeLast(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(nodeHandler{newHandler("text", slog.LevelInfo, &out), "eu-1"})
	log.Info("serving", "listen", "127.0.0.1:1")
	log.With("to", "x").Error("y", "n", 2)
	for n, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if want := []string{"msg=serving listen=127.0.0.1:1 node=eu-1", "msg=y to=x n=2 node=eu-1"}[n]; !strings.HasSuffix(line, want) {
			t.Errorf("%s does not end with %s", line, want)
		}
	}
}
