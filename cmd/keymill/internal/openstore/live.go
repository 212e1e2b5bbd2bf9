package openstore

import (
	"context"
	"errors"
	"time"

	"keymill/storage"
	"keymill/storage/moved"
	"keymill/storage/nodes"
	"keymill/storage/postgres"
)

const (
	beatEvery = 5 * time.Second // of a server
	beatWait  = beatEvery + 2*time.Second
	freshFor  = time.Hour // clocks may differ, and an older record is that of a server that was killed
	lookEvery = 250 * time.Millisecond
)

// A LiveNode is a server that uses the store now.
type LiveNode struct {
	nodes.Node
	Ahead time.Duration // by how much its clock is ahead of that of this process, exact to half a second
}

// Live returns the servers that use a shared store now: those whose number of beats grows. If there may be one,
// that takes up to 7 s.
func Live(ctx context.Context, s storage.Store) ([]LiveNode, error) {
	first, err := readNodes(ctx, s)
	if err != nil {
		return nil, err
	}
	waiting := map[string]nodes.Node{}
	for _, n := range first {
		if time.Since(n.Time).Abs() < freshFor {
			waiting[n.ID] = n
		}
	}
	var live []LiveNode
	for end := time.Now().Add(beatWait); len(waiting) > 0 && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookEvery):
		}
		now, err := readNodes(ctx, s)
		if err != nil {
			return nil, err
		}
		for _, n := range now {
			if old, found := waiting[n.ID]; found && n.Beats != old.Beats {
				live = append(live, LiveNode{n, -time.Since(n.Time)})
				delete(waiting, n.ID)
			}
		}
	}
	return live, nil
}

func readNodes(ctx context.Context, s storage.Store) (list []nodes.Node, err error) {
	registry := nodes.New(nodes.Config{})
	err = s.View(ctx, func(r storage.Reader) (err error) {
		list, err = registry.Read(r)
		return err
	})
	return list, err
}

// ErrIdentified means that there is a store in a database already.
var ErrIdentified = errors.New("another program has made a store in the database in the meantime; restore into an empty one")

// Load writes records, whose keys ascend, to a shared store without an identity, which no server can use. It ends with
// ErrIdentified if the store has got one, and with an error of guard. Each of its transactions asks both.
func (s *Store) Load(ctx context.Context, guard func(storage.Reader) error, next func() (storage.Write, error)) error {
	return s.engine.Load(ctx, func(r storage.Reader) error {
		if err := Unidentified(r); err != nil {
			return err
		}
		return guard(r)
	}, next, nil)
}

// Unidentified returns ErrIdentified if there is a store, and an error if a migration has begun to make one.
func Unidentified(r storage.Reader) error {
	if m, err := moved.Read(r); err != nil {
		return err
	} else if m != nil {
		return &moved.Error{Record: *m}
	}
	_, err := storage.ReadMeta(r)
	switch {
	case err == nil:
		return ErrIdentified
	case errors.Is(err, storage.ErrNotFound):
		return nil
	}
	return err
}

// Size returns how many bytes the records take up in a shared store.
func (s *Store) Size(ctx context.Context) (int64, error) { return s.engine.Size(ctx) }

// Describe asks the server of a shared store what it is.
func (s *Store) Describe(ctx context.Context) (postgres.Server, error) { return s.engine.Describe(ctx) }
