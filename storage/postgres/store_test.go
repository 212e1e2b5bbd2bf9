package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/postgres/postgrestest"
	"keymill/storage/storagetest"
)

// A cluster has a database for each directory, so that a test can open its store again.
type cluster struct {
	*postgrestest.Cluster
	url func(database string) string
	mu  sync.Mutex
	of  map[string]string // directory → database; guarded by mu
}

func (c *cluster) database(t *testing.T, dir string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[dir] == "" {
		name := c.NewDatabase(t)
		c.of[dir] = name
		t.Cleanup(func() { c.SQL(t, postgrestest.Superuser, "DROP DATABASE "+name+" WITH (FORCE)") }) // after the stores are closed
	}
	return c.of[dir]
}

// pauseOfCuts leaves time to connect and to send something. A busy machine needs longer than that, so the cuts end.
const (
	pauseOfCuts = 45 * time.Millisecond
	mostCuts    = 20
)

func (c *cluster) suite(o optimistic.Options, cut func(t *testing.T, database string)) storagetest.Suite {
	open := func(t *testing.T, dir string) storage.Store {
		s, err := Open(context.Background(), Config{URL: c.url(c.database(t, dir)), Create: true, Deadline: time.Minute, Options: o})
		if err != nil {
			t.Error(err)
			return nil
		}
		return s
	}
	cuts := 0
	return storagetest.Suite{Open: open, OpenSecond: open, Cut: func(t *testing.T, dir string) {
		time.Sleep(pauseOfCuts)
		if cuts++; cuts <= mostCuts {
			cut(t, c.database(t, dir))
		}
	}}
}

// TestConformance runs on a real server. The connections are cut while answers are under way, or by the server.
func TestConformance(t *testing.T) {
	server := postgrestest.Shared(t)
	proxy := server.Proxy(t)
	cut := func(*testing.T, string) { proxy.Cut() }
	pooler := server.Pooler(t)
	terminate := func(t *testing.T, database string) {
		server.SQL(t, postgrestest.Superuser, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+database+"'")
	}
	for _, tt := range []struct {
		name    string
		url     func(database string) string
		options optimistic.Options
		cut     func(t *testing.T, database string)
	}{
		{"Direct", proxy.URL, optimistic.Options{Committers: 2, Fetchers: 2}, cut},
		{"Pooler", pooler.URL, optimistic.Options{}, terminate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &cluster{Cluster: server, url: tt.url, of: map[string]string{}}
			storagetest.Run(t, c.suite(tt.options, tt.cut))
		})
	}
}

// openStore opens a store on a database of the shared cluster until the test ends.
func openStore(t *testing.T, c Config) *optimistic.Store {
	t.Helper()
	s, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestACallerThatLeavesSaysNothingOfTheServer: it gets its own error, and the Status does not say that the
// server is away.
func TestACallerThatLeavesSaysNothingOfTheServer(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	proxy := c.Proxy(t)
	s := openStore(t, Config{URL: proxy.URL(name), Create: true})
	scan := func(r storage.Reader) error {
		for _, err := range r.Scan("", "") {
			return err
		}
		return nil
	}
	for what, call := range map[string]func(context.Context) error{
		"an Update that scans": func(ctx context.Context) error {
			return s.Update(ctx, func(tx storage.Tx) error { return scan(tx) })
		},
		"a View that scans": func(ctx context.Context) error { return s.View(ctx, scan) },
		"a View that scans and hides its error": func(ctx context.Context) error {
			return s.View(ctx, func(r storage.Reader) error { scan(r); return nil })
		},
		"an Update that reads": func(ctx context.Context) error {
			return s.Update(ctx, func(tx storage.Tx) error { _, err := tx.Get("absent"); return err })
		},
	} {
		if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put("a", nil) }); err != nil {
			t.Fatal(err)
		}
		proxy.Deafen(true)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := call(ctx)
		cancel()
		proxy.Deafen(false)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
		if away := s.Status().Away; away != nil {
			t.Errorf("%s: the status says that the server is away: %v", what, away)
		}
		proxy.Cut()
	}
}

// TestAStoreWithoutItsServer answers with ErrUnavailable, or with ErrUnknownOutcome if it has sent a commit, says so in its Status, is not at its end, and closes
// while calls are under way. It goes on when the server is back.
func TestAStoreWithoutItsServer(t *testing.T) {
	c := postgrestest.Start(t)
	config := Config{URL: c.Database(t), Create: true, Deadline: time.Second}
	s, second := openStore(t, config), openStore(t, config)
	put := func(s storage.Store, key string) error {
		return s.Update(context.Background(), func(tx storage.Tx) error {
			_, err := tx.Get(key)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			return tx.Put(key, nil)
		})
	}
	if err := put(s, "a"); err != nil {
		t.Fatal(err)
	}
	c.Stop(postgrestest.Fast)
	for what, err := range map[string]error{
		"a cached record": put(s, "a"),
		"another record":  put(s, "b"),
		"a View":          s.View(t.Context(), func(r storage.Reader) error { _, err := r.Get("a"); return err }),
		"a scan": s.View(t.Context(), func(r storage.Reader) error {
			for _, err := range r.Scan("", "") {
				return err
			}
			return nil
		}),
	} {
		sent := what == "a cached record" && errors.Is(err, storage.ErrUnknownOutcome) // on a connection that was lost
		if !errors.Is(err, storage.ErrUnavailable) && !sent || storage.Ended(s, err) {
			t.Errorf("%s: %v, ended: %t", what, err, storage.Ended(s, err))
			continue
		}
		checkLine(t, err)
	}
	if st := s.Status(); !errors.Is(st.Away, storage.ErrUnavailable) || st.Since.IsZero() || st.Failed != nil {
		t.Errorf("the status is %+v", st)
	}
	result := make(chan error, 1)
	go func() { result <- put(second, "b") }()
	time.Sleep(100 * time.Millisecond)
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, storage.ErrClosed) {
		t.Errorf("the call that was under way: %v", err)
	}
	if err := put(second, "b"); !errors.Is(err, storage.ErrClosed) || !storage.Ended(second, err) {
		t.Errorf("after Close: %v", err)
	}
	c.Begin(t)
	if err := put(s, "b"); err != nil {
		t.Error(err)
	}
	if st := s.Status(); st.Away != nil || !st.Since.IsZero() {
		t.Errorf("when the server is back the status is %+v", st)
	}
}

// TestALoadCanBeRepeated after it was cut off, and makes writes in batches that are larger than those of an Update.
func TestALoadCanBeRepeated(t *testing.T) {
	e := open(t, postgrestest.Shared(t).Database(t))
	const records = 2*loadWrites + 10
	from := func(first, failAt int) func() (storage.Write, error) {
		n := first
		return func() (storage.Write, error) {
			switch n++; {
			case n-1 == failAt:
				return storage.Write{}, io.ErrUnexpectedEOF
			case n > records:
				return storage.Write{}, io.EOF
			}
			return storage.Write{Key: fmt.Sprintf("key/%06d", n-1), Value: fmt.Append(nil, n-1)}, nil
		}
	}
	batches, last := 0, ""
	written := func(writes int, key string) { batches, last = batches+1, key }
	if err := e.Load(t.Context(), nil, from(0, loadWrites+5), written); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("key/%06d", loadWrites+4); batches != 2 || last != want {
		t.Errorf("%d batches up to %s, want 2 up to %s", batches, last, want)
	}
	for _, first := range []int{loadWrites, 0} {
		if err := e.Load(t.Context(), nil, from(first, -1), nil); err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := e.Snapshot(t.Context(), func(r storage.Reader) error {
			for entry, err := range r.Scan("", "") {
				if err != nil || entry.Key != fmt.Sprintf("key/%06d", n) || string(entry.Value) != fmt.Sprint(n) {
					return fmt.Errorf("record %d is %s=%s, %w", n, entry.Key, entry.Value, err)
				}
				n++
			}
			return nil
		}); err != nil || n != records {
			t.Fatalf("%d records, want %d: %v", n, records, err)
		}
	}
	unsorted := []string{"b", "a"}
	err := e.Load(t.Context(), nil, func() (storage.Write, error) {
		if len(unsorted) == 0 {
			return storage.Write{}, io.EOF
		}
		w := storage.Write{Key: unsorted[0]}
		unsorted = unsorted[1:]
		return w, nil
	}, nil)
	if err == nil || !strings.Contains(err.Error(), `key "a" follows "b"`) {
		t.Errorf("unsorted writes: %v", err)
	}
}
