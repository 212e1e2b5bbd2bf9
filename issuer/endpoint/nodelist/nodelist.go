// Package nodelist lists the servers of a store for the admin API:
//
//	node/<id>, lease/<name> ──▶ nodes.Registry.List ──▶ api.Nodes
package nodelist

import (
	"context"
	"time"

	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/nodes"
)

// Read returns the servers of the store, as the one of the Registry sees them. A nil Registry is that of a server that has
// its store alone: it reads nothing.
func Read(ctx context.Context, r *nodes.Registry, s storage.Store) (api.Nodes, error) {
	out := api.Nodes{Shared: r != nil, Node: r.ID(), Nodes: []api.Node{}, Leases: []api.Lease{}}
	list, leases, err := r.List(ctx, s)
	for _, n := range list {
		out.Nodes = append(out.Nodes, api.Node{
			ID: n.ID, Host: n.Host, Version: n.Version, Live: n.Live, Started: whole(n.Started), Beat: whole(n.Time), ClockOffset: offset(n),
			Keys: n.Keys, Generation: n.Generation, Algorithms: append([]string{}, n.Algorithms...),
		})
	}
	for _, l := range leases {
		out.Leases = append(out.Leases, api.Lease{Name: l.Name, Node: l.Node, Until: whole(l.Until)})
	}
	return out, err
}

// whole returns an instant as people see it.
func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func offset(n nodes.Listed) string {
	if !n.Known {
		return ""
	}
	return n.Ahead.Round(100 * time.Millisecond).String()
}
