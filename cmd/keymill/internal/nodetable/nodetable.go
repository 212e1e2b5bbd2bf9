// Package nodetable prints the servers of a store that several servers share.
//
//	NODE     HOST    VERSION  STATE    BEAT                  CLOCK  KEYS  DATA KEY  JOBS
//	eu-1 *   web-1   0.1.0    live     2026-11-29T08:00:12Z  0s     17    1         chain sweep
//	eu-2     web-2   0.1.0    missing  2026-11-29T07:41:02Z  1.5s   16    1         -
package nodetable

import (
	"io"
	"strconv"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// alone is printed for a server that has its store alone.
const alone = "the server has its store alone\n"

// Print writes a table of nodes. The one that answers has a star.
func Print(w io.Writer, n api.Nodes) error {
	if !n.Shared {
		_, err := io.WriteString(w, alone)
		return err
	}
	t := terminal.NewTable(w, "NODE", "HOST", "VERSION", "STATE", "BEAT", "CLOCK", "KEYS", "DATA KEY", "JOBS")
	for _, node := range n.Nodes {
		id, state := node.ID, "missing"
		if node.Live {
			state = "live"
		}
		if node.ID == n.Node {
			id += " *"
		}
		t.Row(id, terminal.OrDash(node.Host), node.Version, state, terminal.FormatTime(&node.Beat), terminal.OrDash(node.ClockOffset),
			strconv.FormatUint(node.Keys, 10), strconv.Itoa(node.Generation), terminal.OrDash(Jobs(n, node.ID)))
	}
	return t.Flush()
}

// Jobs returns the names of the leases that a node holds.
func Jobs(n api.Nodes, id string) string {
	var names []string
	for _, l := range n.Leases {
		if l.Node == id {
			names = append(names, l.Name)
		}
	}
	return strings.Join(names, " ")
}
