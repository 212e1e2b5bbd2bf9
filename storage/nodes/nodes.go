// Package nodes holds what the servers of one shared store know of each other: who is live, what each
// of them has read, by how much their clocks differ, and which of them does a job that only one should do.
//
//	node/<id>      written by its node with every heartbeat; read by all
//	lease/<name>   written by the node that holds the lease; read by all
//
// A Registry belongs to one server. The keystore writes and reads it, in its own transactions:
//
//	every p:  Put (own record) ─▶ Look (all records) ─▶ Note ─▶ Live, Count, Offset: from memory
//	a job:    Hold, again and again ─▶ true on one node only ─▶ Release at a clean stop
//
// # Live
//
// A node is live if its number of beats grew within the last 3p. That is measured with the monotonic
// clock of the reader, so a wrong wall clock hides no node and keeps none alive. Of a node that the reader
// sees for the first time it knows only the wall clock of the beat. It counts as live at first if that
// is within 2p and the skew of the own wall clock. The node itself is always live.
//
// # Leases
//
// A lease is a record with its holder and a number that grows with every renewal. Another node takes a
// lease that it saw unchanged for 3p. The holder counts its own 3p from before its last renewal, so
// two nodes with clocks of the same pace do not hold it at once. A machine that was suspended is an
// exception. So a lease saves work, and correctness must not depend on it: a job reads in its
// transaction what it is about to change.
//
// # Damage
//
// Both kinds of records are tagged like every record, and they are not in the manifest, because they change all the
// time. A writer of the store without its keys can remove them or put older ones back, but cannot make
// a node that does not exist or write a fact that no node wrote. An older record never makes a node live:
// only a number of beats that grew does. A damaged record of a node is no node. It is logged, and its node
// writes it again with its next beat. A damaged lease counts as one that is not renewed: it can be taken
// after 3p. So damage here stops no node from signing.
//
// A nil *Registry stands for a store with one server. That server is always live and holds every lease.
package nodes

import (
	"cmp"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keymill/storage"
)

const (
	nodePrefix = "node/"

	defaultPoll = 5 * time.Second
	defaultSkew = 2 * time.Minute

	liveFor  = 3 // polls without a new beat after which a node is not live, and a lease can be taken
	freshFor = 2 // polls within which a beat is new to a reader that knows the node's wall clock only

	maxNodes = 256  // nodes that Read returns
	maxRead  = 1000 // records that Read looks at
)

// A Node is what one server of a shared store says of itself.
type Node struct {
	ID      string
	Beats   uint64    // grows with every Put
	Time    time.Time // its wall clock at the beat
	Started time.Time // its wall clock when it started
	Facts
}

// Facts are what the other nodes need to know of a node.
type Facts struct {
	Algorithms  []string // that it is configured to sign with
	MaxAge      time.Duration
	Propagation time.Duration
	RotateEvery time.Duration
	Keys        uint64 // version of the manifest with the signing keys that it has read
	Generation  int    // data key that it has read
	Version     string // of the program
	Host        string
}

// Config is what a Registry needs.
type Config struct {
	ID   string           // see CheckID; random if it is empty
	Poll time.Duration    // p: how often Put and Read are called; 5 s if it is 0
	Skew time.Duration    // by how much the wall clocks of nodes may differ; 2 min if it is 0
	Wall func() time.Time // the wall clock; time.Now if it is nil
	Log  *slog.Logger     // nil discards

	Version string // of the program, for the record
	Host    string // for the record; os.Hostname if it is empty
}

// A Registry is one server's view of the nodes of its store. It is safe for concurrent use.
type Registry struct {
	id      string
	poll    time.Duration
	skew    time.Duration
	wall    func() time.Time
	log     *slog.Logger
	started time.Time
	version string
	host    string

	live   atomic.Pointer[[]Node] // as of the last Read, sorted by id
	leases sync.Map               // name → *lease

	mu     sync.Mutex           // owns all below
	own    Node                 // as Put wrote it last
	read   time.Time            // when Read began last
	seen   map[string]*sighted  // id → what Read saw of other nodes
	logged map[string]bool      // keys whose damage was logged
	broken map[string]time.Time // id → since when Read sees its record damaged
}

// New returns the Registry of a server that starts now.
func New(cfg Config) *Registry {
	if cfg.ID == "" {
		cfg.ID = randomID()
	}
	r := &Registry{
		id: cfg.ID, poll: cmp.Or(cfg.Poll, defaultPoll), skew: cmp.Or(cfg.Skew, defaultSkew), wall: cfg.Wall, log: cfg.Log,
		seen: map[string]*sighted{}, logged: map[string]bool{}, broken: map[string]time.Time{}, version: cfg.Version, host: cfg.Host,
	}
	if r.host == "" {
		r.host, _ = os.Hostname() // a record without it is complete
	}
	if r.wall == nil {
		r.wall = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.started = r.wallTime()
	r.own = Node{ID: r.id, Started: r.started, Time: r.started}
	r.live.Store(&[]Node{r.own})
	return r
}

// CheckID returns an error unless a node can have the id.
func CheckID(id string) error {
	if !validID(id) {
		return fmt.Errorf("node id %.100q must be 1 to %d of the characters a–z, 0–9, '.', '_' and '-'", id, maxIDBytes)
	}
	return nil
}

func randomID() string {
	b := make([]byte, 10)
	rand.Read(b)
	return strings.ToLower(base32.HexEncoding.EncodeToString(b))
}

func (r *Registry) wallTime() time.Time { return r.wall().Round(0).UTC() }

// ID returns the id of the node, "" without a Registry.
func (r *Registry) ID() string {
	if r == nil {
		return ""
	}
	return r.id
}

// Poll returns p: how often Put and Read are called. It is 0 without a Registry.
func (r *Registry) Poll() time.Duration {
	if r == nil {
		return 0
	}
	return r.poll
}

// Skew returns by how much the wall clocks of nodes may differ. It is 0 without a Registry.
func (r *Registry) Skew() time.Duration {
	if r == nil {
		return 0
	}
	return r.skew
}

// Live returns the nodes that were live at the last Read, sorted by id. The own node is always one
// of them. The caller must not change the list.
func (r *Registry) Live() []Node {
	if r == nil {
		return []Node{{}}
	}
	return *r.live.Load()
}

// Count returns how many nodes are live, at least 1.
func (r *Registry) Count() int {
	if r == nil {
		return 1
	}
	return len(*r.live.Load())
}

// OthersServe reports whether another live node has read the signing keys, so that it may have served them. A node
// that starts has not.
func (r *Registry) OthersServe() bool {
	return slices.ContainsFunc(r.Live(), func(n Node) bool { return n.ID != r.ID() && n.Keys > 0 })
}

// Put writes the record of the own node: one more beat, at the time of the wall clock. It writes over a
// damaged record.
func (r *Registry) Put(tx storage.Tx, facts Facts) error {
	if r == nil {
		return nil
	}
	if err := CheckID(r.id); err != nil {
		return err
	}
	key := nodePrefix + r.id
	last, err := readRecord(tx, key)
	if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrDamaged) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.own
	facts.Version, facts.Host = cmp.Or(facts.Version, r.version), cmp.Or(facts.Host, r.host)
	n.Beats, n.Time, n.Facts = max(last.Beats, n.Beats)+1, r.wallTime(), facts.clean()
	raw, err := encode(n)
	if err != nil {
		return err
	}
	if err := tx.Put(key, raw); err != nil {
		return err
	}
	r.own = n
	return nil
}

// Leave removes the record of the own node at a clean stop, so that the others do not wait for it.
func (r *Registry) Leave(tx storage.Tx) error {
	if r == nil {
		return nil
	}
	return tx.Delete(nodePrefix + r.id)
}

// A Sighting is what one look at the records of all nodes has found.
type Sighting struct {
	nodes   []Node
	damaged map[string]error // key →
	more    bool             // there are more records than a Registry looks at
	at      time.Time        // when the look began
}

// Look reads the records of all nodes, and has no other effect, so it can be called in a function that runs again. The
// caller passes the result to Note afterwards. rd should be that of a View: the records of an Update are limited.
func (r *Registry) Look(rd storage.Reader) (Sighting, error) {
	out := Sighting{damaged: map[string]error{}, at: time.Now()}
	if r == nil {
		return out, nil
	}
	looked := 0
	for e, err := range rd.Scan(nodePrefix, storage.EndOf(nodePrefix)) {
		if looked++; looked > maxRead || len(out.nodes) == maxNodes {
			out.more = true
			break
		}
		var n Node
		if err == nil {
			n, err = decode(e.Key, e.Value)
		}
		if errors.Is(err, storage.ErrDamaged) {
			out.damaged[e.Key] = err
			continue
		} else if err != nil {
			return Sighting{}, err
		}
		out.nodes = append(out.nodes, n)
	}
	return out, nil
}

// Note remembers which nodes are live. A damaged record is logged and left out.
func (r *Registry) Note(s Sighting) {
	if r == nil {
		return
	}
	if s.more {
		r.logOnce(nodePrefix, "more nodes than expected have a record; the others are left out", "nodes", len(s.nodes))
	}
	for key, err := range s.damaged {
		r.logOnce(key, "the record of a node is left out until the node writes it again", "error", err)
	}
	r.note(s.nodes, s.damaged, s.at)
}

// Read is Look and Note. It returns all nodes that have a record, sorted by id.
func (r *Registry) Read(rd storage.Reader) ([]Node, error) {
	s, err := r.Look(rd)
	if err == nil {
		r.Note(s)
	}
	return s.nodes, err
}

// maxLogged bounds what a writer of the store can make the log say.
const maxLogged = 20

func (r *Registry) logOnce(key, message string, args ...any) {
	r.mu.Lock()
	first := !r.logged[key] && len(r.logged) < maxLogged
	if first {
		r.logged[key] = true
	}
	r.mu.Unlock()
	if first {
		r.log.Error(message, args...)
	}
}

// note remembers what a Read that began at now found, and counts the live nodes.
func (r *Registry) note(found []Node, damaged map[string]error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wall := r.wallTime()
	live, present := []Node{r.own}, map[string]bool{}
	for _, n := range found {
		if n.ID == r.id {
			continue
		}
		present[n.ID] = true
		s := r.seen[n.ID]
		if s == nil {
			s = &sighted{first: now}
			r.seen[n.ID] = s
		}
		s.look(n, now, r.read)
		if r.isLive(s, now, wall) {
			live = append(live, n)
		}
	}
	for id := range r.seen {
		if !present[id] {
			delete(r.seen, id)
		}
	}
	r.noteDamaged(damaged, now)
	r.read = now
	slices.SortFunc(live, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	r.live.Store(&live)
}

// noteDamaged remembers since when records are damaged, for Forget.
func (r *Registry) noteDamaged(damaged map[string]error, now time.Time) {
	for id := range r.broken {
		if damaged[nodePrefix+id] == nil {
			delete(r.broken, id)
		}
	}
	for key := range damaged {
		id := strings.TrimPrefix(key, nodePrefix)
		if r.broken[id].IsZero() && validID(id) && id != r.id && len(r.broken) < maxNodes {
			r.broken[id] = now
		}
	}
}

// A sighted is what a Registry saw of another node.
type sighted struct {
	node    Node          // with the highest number of beats
	first   time.Time     // when it was seen first
	changed time.Time     // when a beat was seen that was new; zero if there was none since first
	late    time.Duration // by how much changed can be later than the beat
}

// look notes the record of a node in a Read that began at now, after one that began at before.
func (s *sighted) look(n Node, now, before time.Time) {
	if n.Beats <= s.node.Beats { // the same, or an older record that was put back
		return
	}
	if s.node.Beats > 0 {
		s.changed, s.late = now, now.Sub(before)
	}
	s.node = n
}

func (r *Registry) isLive(s *sighted, now, wall time.Time) bool {
	if !s.changed.IsZero() {
		return now.Sub(s.changed) <= liveFor*r.poll
	}
	return r.isFresh(s, wall.Add(-now.Sub(s.first))) && now.Sub(s.first) <= liveFor*r.poll
}

// isFresh reports whether the beat with which a node was seen first is new, if both wall clocks are right.
// wall is the own one at that time.
func (r *Registry) isFresh(s *sighted, wall time.Time) bool {
	return wall.Sub(s.node.Time).Abs() <= freshFor*r.poll+r.skew
}
