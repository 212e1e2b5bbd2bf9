package nodes

import (
	"context"
	"errors"
	"strings"
	"time"

	"keymill/storage"
)

// A Listed is a node as one server sees it.
type Listed struct {
	Node
	Live  bool
	Own   bool          // the server that looked
	Ahead time.Duration // by how much its wall clock is ahead of that of the server that looked
	Known bool          // Ahead is known: the server that looked has seen a beat of it
}

// A Lease is a lease as it is stored.
type Lease struct {
	Name  string
	Node  string    // that took it last
	Until time.Time // 3p after it was renewed, by the wall clock of that node
}

// List returns all nodes that have a record, and all leases, by id and by name. It is for people: it reads the store
// and changes nothing. Damaged records are left out.
func (r *Registry) List(ctx context.Context, s storage.Store) (list []Listed, leases []Lease, err error) {
	if r == nil {
		return nil, nil, nil
	}
	var found []Node
	err = s.View(ctx, func(rd storage.Reader) error {
		found, leases = nil, nil
		for e, err := range rd.Scan(nodePrefix, storage.EndOf(nodePrefix)) {
			n, err := decodeEntry(e, err, decode)
			if err != nil {
				return err
			}
			if n.ID != "" {
				found = append(found, n)
			}
			if len(found) == maxNodes {
				break
			}
		}
		for e, err := range rd.Scan(leasePrefix, storage.EndOf(leasePrefix)) {
			l, err := decodeEntry(e, err, decodeLease)
			if err != nil {
				return err
			}
			if l.Node != "" {
				leases = append(leases, Lease{strings.TrimPrefix(e.Key, leasePrefix), l.Node, l.Until})
			}
			if len(leases) == maxNodes {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return r.listed(found), leases, nil
}

// decodeEntry returns the zero value for a damaged record.
func decodeEntry[T any](e storage.Entry, err error, decode func(string, []byte) (T, error)) (out T, _ error) {
	if err == nil {
		out, err = decode(e.Key, e.Value)
	}
	if errors.Is(err, storage.ErrDamaged) {
		err = nil
	}
	return out, err
}

// listed says how r sees the nodes. Which of them are live was decided when r read their records last, as for
// everything else that it does.
func (r *Registry) listed(found []Node) (list []Listed) {
	live := map[string]bool{}
	for _, n := range r.Live() {
		live[n.ID] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, wall := time.Now(), r.wallTime()
	for _, n := range found {
		l := Listed{Node: n, Live: live[n.ID], Own: n.ID == r.id}
		if l.Known = l.Own; !l.Own {
			if seen := r.seen[n.ID]; seen != nil && !seen.changed.IsZero() {
				l.Ahead, l.Known = -seen.ahead(now, wall), true
			}
		}
		list = append(list, l)
	}
	return list
}
