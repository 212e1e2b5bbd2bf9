package serve

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/nodes"
)

const (
	nodePoll = 5 * time.Second        // p: how often a server of a shared store reads what the others changed
	nodeWait = nodePoll + time.Second // within this time a server that is alive beats
)

// openNodes makes the registry of the servers that share the store.
func (s *server) openNodes(ctx context.Context) error {
	if !s.config.IsShared() {
		return nil
	}
	id := s.config.NodeID
	if id == "" {
		host, _ := os.Hostname() // the random part is enough
		id = randomNodeID(host)
	} else if err := s.checkNodeID(ctx, id); err != nil {
		return err
	}
	s.log = slog.New(nodeHandler{s.log.Handler(), id})
	s.nodes = nodes.New(nodes.Config{ID: id, Poll: nodePoll, Skew: s.config.Skew(), Version: s.version, Log: s.log})
	s.log.Info("this server shares its store with others", "store", s.config.StorePlace())
	return nil
}

// randomNodeID returns the beginning of the host's name and a random part. Two servers with one name would take each other for
// themselves, and copies of one machine have the same name and the same files. So nothing is kept.
func randomNodeID(host string) string {
	const longest = 23 // so that nodes.CheckID accepts it
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, host)
	random := strings.ToLower(rand.Text()[:8])
	if host = strings.Trim(host[:min(len(host), longest)], "-"); host == "" {
		return random
	}
	return host + "-" + random
}

// A nodeHandler adds the id of the server to each line, behind the attributes of the line: programs find these where they
// are without it.
type nodeHandler struct {
	slog.Handler
	id string
}

// Handle implements slog.Handler.
func (h nodeHandler) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	r.AddAttrs(slog.String("node", h.id))
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h nodeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return nodeHandler{h.Handler.WithAttrs(attrs), h.id}
}

// WithGroup implements slog.Handler. No line of the server has groups.
func (h nodeHandler) WithGroup(name string) slog.Handler {
	return nodeHandler{h.Handler.WithGroup(name), h.id}
}

// checkNodeID refuses the name of another server that runs now. After a crash the record of the server itself looks
// alive for a moment, so a fresh one is read twice.
func (s *server) checkNodeID(ctx context.Context, id string) error {
	records, err := keystore.Unlock(ctx, s.file, s.master)
	if err != nil {
		return nil // openKeys says what is wrong
	}
	first, found, err := readNode(ctx, records, id)
	if err != nil || !found || time.Since(first.Time).Abs() > time.Minute {
		return err
	}
	s.log.Info("waiting to see whether another server has the name of this one", "node", id)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(nodeWait):
	}
	second, found, err := readNode(ctx, records, id)
	if err != nil || !found || second.Beats == first.Beats {
		return err
	}
	return terminal.WithHint(s.config.SettingError("node.id", "another server of this store runs with the name %s, on host %s", id, terminal.Printable(second.Host)),
		"give each server a name of its own, or remove the setting")
}

// readNode returns the record of a node.
func readNode(ctx context.Context, s storage.Store, id string) (node nodes.Node, found bool, err error) {
	registry := nodes.New(nodes.Config{})
	err = s.View(ctx, func(r storage.Reader) error {
		list, err := registry.Read(r)
		found = false
		for _, n := range list {
			if n.ID == id {
				node, found = n, true
			}
		}
		return err
	})
	return node, found, err
}

// lease returns what tells whether this server does a job that only one of them should do; nil without others.
func (s *server) lease(name string) func(context.Context) (bool, error) {
	if s.nodes == nil {
		return nil
	}
	return s.nodes.Lease(s.store, name)
}

// forgetNodes removes the records of servers that were killed long ago, while this one cleans up.
func (s *server) forgetNodes(ctx context.Context) error {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		held, err := s.nodes.Hold(ctx, s.store, cleanUpLease)
		if err == nil && held {
			err = s.nodes.Forget(ctx, s.store)
		}
		if storage.Ended(s.store, err) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			s.log.Debug("cannot remove the records of servers that are gone", "error", terminal.Plain(err)) // the next time can
		}
	}
}

// releaseLeases gives the jobs of this server to the others, which else take them over after 15 s.
func (s *server) releaseLeases(ctx context.Context) {
	if s.nodes == nil || s.store == nil || s.store.Status().Failed != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	if err := s.nodes.Release(ctx, s.store); err != nil {
		s.log.Warn("cannot tell the other servers that this one stops; they notice it after a few seconds", "error", terminal.Plain(err))
	}
}

const (
	cleanUpLease = "sweep"
	forgetEvery  = 10 * time.Minute
	releaseTime  = time.Second
)
