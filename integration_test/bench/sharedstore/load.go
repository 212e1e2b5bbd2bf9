package sharedstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/postgres"
)

// The records have the keys and about the sizes of those of an issuer.
const (
	clientKey   = "client/web"
	audienceKey = "audience/orders"
	epochKey    = "epoch" // absent
	termsKey    = "terms/0123456789abcdefghijklmnop"

	clientBytes, audienceBytes, userBytes, familyBytes, auditBytes = 170, 80, 210, 90, 300
	generationAt                                                   = 62 // in a family
)

func familyKey(n int) string   { return fmt.Sprintf("family/%026d", n) }
func userKey(n int) string     { return fmt.Sprintf("user/%07d", n) }
func sessionsKey(n int) string { return fmt.Sprintf("sessions/06/%07d/web", n) }

// load writes the records of all families into an empty database.
func load(ctx context.Context, url string, families int) error {
	e, err := postgres.OpenEngine(ctx, postgres.Config{URL: url, Create: true})
	if err != nil {
		return err
	}
	defer e.Close()
	writes := []storage.Write{
		{Key: audienceKey, Value: make([]byte, audienceBytes)},
		{Key: clientKey, Value: make([]byte, clientBytes)},
		{Key: termsKey, Value: make([]byte, 2)},
	}
	for n := range families {
		writes = append(writes, storage.Write{Key: familyKey(n), Value: make([]byte, familyBytes)}, storage.Write{Key: userKey(n), Value: make([]byte, userBytes)})
	}
	slices.SortFunc(writes, func(a, b storage.Write) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return e.Load(ctx, nil, func() (storage.Write, error) {
		if len(writes) == 0 {
			return storage.Write{}, io.EOF
		}
		w := writes[0]
		writes = writes[1:]
		return w, nil
	}, nil)
}

// nodes are what the callers use: stores of several nodes, or the bare loop.
type nodes struct {
	stores             []*optimistic.Store
	loop               *loop
	commits, committed atomic.Int64 // of the stores, and the calls in them
	first              int          // family of the loop
}

func openNodes(url string, n int, o optimistic.Options) (*nodes, error) {
	all := &nodes{}
	o.Committed = func(_ time.Duration, calls int) {
		all.commits.Add(1)
		all.committed.Add(int64(calls))
	}
	for range n {
		s, err := postgres.Open(context.Background(), postgres.Config{URL: url, Options: o})
		if err != nil {
			all.close()
			return nil, err
		}
		all.stores = append(all.stores, s)
	}
	return all, nil
}

func (n *nodes) close() {
	if n == nil {
		return
	}
	for _, s := range n.stores {
		s.Close()
	}
}

// warm reads all records of the families on every node.
func (n *nodes) warm(families int) error {
	for _, s := range n.stores {
		for first := 0; first < families; first += 30 {
			if err := s.Update(context.Background(), func(tx storage.Tx) error {
				var keys []string
				for i := first; i < min(first+30, families); i++ {
					keys = append(keys, familyKey(i), userKey(i))
				}
				_, err := tx.GetAll(keys...)
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// A caller makes one request after the other.
type caller struct {
	on     *nodes
	store  *optimistic.Store
	family int // of the request
	random *rand.Rand
}

// refresh reads and writes what a refresh does.
func (c *caller) refresh() error {
	return c.store.Update(context.Background(), func(tx storage.Tx) error {
		if _, err := tx.Get(clientKey); err != nil {
			return err
		}
		family, err := tx.Get(familyKey(c.family))
		if err != nil {
			return err
		}
		if _, err := tx.Get(userKey(c.family)); err != nil {
			return err
		}
		if _, err := tx.Get(epochKey); !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if _, err := tx.Get(audienceKey); err != nil {
			return err
		}
		rotate(family)
		return tx.Put(familyKey(c.family), family)
	})
}

// rotate raises the generation of a family.
func rotate(family []byte) {
	binary.BigEndian.PutUint32(family[generationAt:], binary.BigEndian.Uint32(family[generationAt:])+1)
}

// login reads and writes what the last transaction of a login does.
func (c *caller) login() error {
	id := fmt.Sprintf("%013x%013x", time.Now().UnixMilli(), c.random.Uint64()>>12)
	return c.store.Update(context.Background(), func(tx storage.Tx) error {
		for _, key := range []string{clientKey, audienceKey, userKey(c.family)} {
			if _, err := tx.Get(key); err != nil {
				return err
			}
		}
		if _, err := tx.GetAll(epochKey, termsKey); err != nil {
			return err
		}
		roster, err := tx.Get(sessionsKey(c.family))
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		roster = append(roster[max(0, len(roster)-160):], id[:16]...)
		return errors.Join(
			tx.Put("family/"+id, make([]byte, familyBytes)), tx.Put("due/6a000000/f/"+id, []byte("1")),
			tx.Put(sessionsKey(c.family), roster), tx.Put("audit/new/20261127T150405.000000000Z-"+id, make([]byte, auditBytes)))
	})
}

// A slice is what callers did in some time.
type slice struct {
	perSecond      float64
	latencies      []time.Duration // sorted
	client, server time.Duration   // processor time, a request
	calls          float64         // of a commit of a store
}

func (s slice) percentile(p float64) time.Duration {
	if len(s.latencies) == 0 {
		return 0
	}
	return s.latencies[min(len(s.latencies)-1, int(p*float64(len(s.latencies))))]
}

// join has all latencies, and the median of the rates.
func join(parts []slice) (all slice) {
	var rates []float64
	for _, s := range parts {
		rates = append(rates, s.perSecond)
		all.client += s.client / time.Duration(len(parts))
		all.server += s.server / time.Duration(len(parts))
		all.calls += s.calls / float64(len(parts))
		all.latencies = append(all.latencies, s.latencies...)
	}
	slices.Sort(rates)
	slices.Sort(all.latencies)
	all.perSecond = rates[len(rates)/2]
	return all
}

// measure lets callers make requests for some time. Each has families of its own, as clients have.
func (b *bench) measure(on *nodes, request func(*caller) error, callers, families int, d time.Duration) (slice, error) {
	latencies := make([][]time.Duration, callers)
	failures := make([]error, callers)
	var all sync.WaitGroup
	client, server := processorTime(), b.cluster.ProcessorTime()
	commits, committed := on.commits.Load(), on.committed.Load()
	begun := time.Now()
	for n := range callers {
		c := &caller{on: on, random: rand.New(rand.NewPCG(uint64(n), uint64(begun.UnixNano())))}
		if len(on.stores) > 0 {
			c.store = on.stores[n%len(on.stores)]
		}
		all.Go(func() {
			for time.Since(begun) < d {
				c.family = c.random.IntN(families/callers)*callers + n
				call := time.Now()
				if failures[n] = request(c); failures[n] != nil {
					return
				}
				latencies[n] = append(latencies[n], time.Since(call))
			}
		})
	}
	all.Wait()
	took := time.Since(begun)
	out := slice{latencies: slices.Sorted(slices.Values(slices.Concat(latencies...)))}
	out.perSecond = float64(len(out.latencies)) / took.Seconds()
	if n := time.Duration(len(out.latencies)); n > 0 {
		out.client, out.server = (processorTime()-client)/n, (b.cluster.ProcessorTime()-server)/n
	}
	if n := on.commits.Load() - commits; n > 0 {
		out.calls = float64(on.committed.Load()-committed) / float64(n)
	}
	return out, errors.Join(failures...)
}

// processorTime returns what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // only a wrong argument fails
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
