package nodes

import (
	"slices"
	"time"
)

// Largest returns the largest times of live nodes: MaxAge, Propagation and RotateEvery. Those of the own node
// are the ones that Put wrote last.
func (r *Registry) Largest() (out Facts) {
	for _, n := range r.Live() {
		out.MaxAge = max(out.MaxAge, n.MaxAge)
		out.Propagation = max(out.Propagation, n.Propagation)
		out.RotateEvery = max(out.RotateEvery, n.RotateEvery)
	}
	return out
}

// Lists reports whether another live node is configured to sign with alg.
func (r *Registry) Lists(alg string) bool {
	return slices.ContainsFunc(r.Live(), func(n Node) bool { return n.ID != r.ID() && slices.Contains(n.Algorithms, alg) })
}

// Lacks reports whether the node has a record, which says that it has not read the signing keys of that version of
// the manifest.
func (s Sighting) Lacks(id string, keys uint64) bool {
	return slices.ContainsFunc(s.nodes, func(n Node) bool { return n.ID == id && n.Keys < keys })
}

// Behind returns the ids of other live nodes that have not read the signing keys of that version of the manifest.
func (r *Registry) Behind(keys uint64) (ids []string) {
	for _, n := range r.Live() {
		if n.ID != r.ID() && n.Keys < keys {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// Lead returns for how long other nodes can use what they have read: 3p. It is 0 without a Registry.
func (r *Registry) Lead() time.Duration { return liveFor * r.Poll() }
