package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/storage"
	"keymill/storage/postgres/postgrestest"
)

// A cutter is a proxy that cuts connections. Before that it keeps answers back for a moment, so that
// requests are done whose answers are lost.
type cutter struct {
	listener net.Listener
	deaf     atomic.Bool // answers are kept back
	mu       sync.Mutex
	open     map[net.Conn]net.Conn // client → server; guarded by mu
}

func startCutter(t *testing.T, server string) *cutter {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener, open: map[net.Conn]net.Conn{}}
	t.Cleanup(func() { listener.Close(); c.cut() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go c.serve(client, server)
		}
	}()
	return c
}

func (c *cutter) serve(client net.Conn, server string) {
	up, err := net.Dial("tcp", server)
	if err != nil {
		client.Close()
		return
	}
	c.mu.Lock()
	c.open[client] = up
	c.mu.Unlock()
	go c.pass(up, client, nil)
	c.pass(client, up, &c.deaf)
}

// pass copies from one connection to another one, unless it is deaf.
func (c *cutter) pass(to, from net.Conn, deaf *atomic.Bool) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if deaf != nil && deaf.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// cut keeps answers back for up to 3 ms and then cuts all connections.
func (c *cutter) cut() {
	c.deaf.Store(true)
	time.Sleep(rand.N(3 * time.Millisecond))
	c.mu.Lock()
	defer c.mu.Unlock()
	for client, server := range c.open {
		client.Close()
		server.Close()
		delete(c.open, client)
	}
	c.deaf.Store(false)
}

// TestCutConnectionsLoseNothing: what was acknowledged is stored, what is stored was acknowledged, and no
// caller is told that the outcome is unknown.
func TestCutConnectionsLoseNothing(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	direct := open(t, c.URL(postgrestest.Role, name))
	proxy := startCutter(t, c.Address())
	through := fmt.Sprintf("postgres://%s@%s/%s", postgrestest.Role, proxy.listener.Addr(), name)
	l := startLoad(open(t, through), open(t, through))
	for range counts.Of("postgres-cuts") {
		time.Sleep(20*time.Millisecond + rand.N(60*time.Millisecond))
		proxy.cut()
	}
	time.Sleep(100 * time.Millisecond)
	l.check(t, direct)
}

// TestLostAnswersOfExclusiveAreResolved, too.
func TestLostAnswersOfExclusiveAreResolved(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	proxy := startCutter(t, c.Address())
	e := open(t, fmt.Sprintf("postgres://%s@%s/%s", postgrestest.Role, proxy.listener.Addr(), name))
	for round := range 10 {
		ran := 0
		_, err := e.Exclusive(context.Background(), 0, func(r storage.Reader) ([]storage.Write, error) {
			v, err := r.Get("list")
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return nil, err
			}
			if ran++; ran == 1 { // the answer to what follows is lost
				proxy.deaf.Store(true)
				time.AfterFunc(20*time.Millisecond, proxy.cut)
			}
			return []storage.Write{{Key: "list", Value: append(v, 'x')}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, e); got != "list="+strings.Repeat("x", round+1) {
			t.Fatalf("after %d calls: %q", round+1, got)
		}
	}
}

// TestARestartLosesNothing, whether the server rolls transactions back or crashes.
func TestARestartLosesNothing(t *testing.T) {
	c := postgrestest.Start(t)
	name := c.NewDatabase(t)
	config := Config{URL: c.URL(postgrestest.Role, name), Create: true, Deadline: time.Minute}
	l := startLoad(openWith(t, config), openWith(t, config))
	for range counts.Of("postgres-restarts") {
		for _, mode := range []syscall.Signal{postgrestest.Fast, postgrestest.Immediate} {
			time.Sleep(200 * time.Millisecond)
			c.Restart(t, mode)
		}
	}
	time.Sleep(200 * time.Millisecond)
	l.check(t, l.engines[0])
}

// TestAFailoverLosesNothing: the primary is killed and its synchronous standby promoted.
func TestAFailoverLosesNothing(t *testing.T) {
	primary := postgrestest.Start(t)
	standby := primary.Standby(t)
	primary.Set(t, "synchronous_standby_names", "standby")
	name := primary.NewDatabase(t)
	urls := fmt.Sprintf("postgres://%s@%s,%s/%s", postgrestest.Role, primary.Address(), standby.Address(), name)
	config := Config{URL: urls, Create: true, Deadline: 30 * time.Second}
	l := startLoad(openWith(t, config), openWith(t, config))
	time.Sleep(500 * time.Millisecond)
	if line := refusal(t, Config{URL: standby.URL(postgrestest.Role, name)}); !strings.Contains(line, "is a standby") {
		t.Error(line)
	}
	primary.Stop(postgrestest.Immediate)
	standby.Promote(t)
	promoted := l.acknowledged.Load()
	time.Sleep(500 * time.Millisecond)
	l.check(t, l.engines[0])
	if l.acknowledged.Load() == promoted {
		t.Error("nothing was written after the promotion")
	}
	if l.gap > 10*time.Second {
		t.Errorf("no commit for %v", l.gap)
	}
}

// TestAPoolLeavesADemotedPrimary, although its connections to it stay open.
func TestAPoolLeavesADemotedPrimary(t *testing.T) {
	old := postgrestest.Start(t)
	next := old.Standby(t)
	name := old.NewDatabase(t)
	urls := fmt.Sprintf("postgres://%s@%s,%s/%s", postgrestest.Role, old.Address(), next.Address(), name)
	e := openWith(t, Config{URL: urls, Create: true})
	commit(t, e, puts("a", "1"))
	next.Promote(t)
	old.Set(t, "default_transaction_read_only", "on")
	commit(t, e, puts("a", "2"))
	if v := next.Value(t, name, "SELECT convert_from(v, 'UTF8') FROM keymill.record WHERE k = 'a'"); v != "2" {
		t.Errorf("the new primary has a=%s", v)
	}
}

// TestACommitThatWaitsForItsStandbyIsNeverCanceled: the caller is told that the outcome is unknown, because
// the server would acknowledge a canceled commit that the standby does not have.
func TestACommitThatWaitsForItsStandbyIsNeverCanceled(t *testing.T) {
	primary := postgrestest.Start(t)
	standby := primary.Standby(t)
	primary.Set(t, "synchronous_standby_names", "standby")
	name := primary.NewDatabase(t)
	e := openWith(t, Config{URL: primary.URL(postgrestest.Role, name), Create: true})
	commit(t, e, puts("a", "1"))
	standby.Stop(postgrestest.Fast)
	e.deadline = time.Second
	_, _, err := e.Commit(context.Background(), 0, batch(puts("a", "2")))
	if !errors.Is(err, storage.ErrUnknownOutcome) {
		t.Fatal(err)
	}
	checkLine(t, err)
	wantIn(t, err.Error(), "does not answer in time")
	standby.Begin(t)
	e.deadline = 30 * time.Second
	commit(t, e, puts("b", "3")) // with another token
	if got := content(t, e); got != "a=2 b=3" {
		t.Errorf("the table holds %q", got)
	}
	if log := primary.Log(t); strings.Contains(log, "canceling") {
		t.Error("the server was asked to cancel a request")
	}
}

// TestAServerThatIsAwayIsUnavailable within the deadline, and is found again.
func TestAServerThatIsAwayIsUnavailable(t *testing.T) {
	c := postgrestest.Start(t)
	name := c.NewDatabase(t)
	e := openWith(t, Config{URL: c.URL(postgrestest.Role, name), Create: true, Deadline: impatient})
	commit(t, e, puts("a", "1"))
	c.Stop(postgrestest.Fast)
	ctx := context.Background()
	for what, err := range map[string]error{
		"Fetch":    second(e.Fetch(ctx, []string{"a"})),
		"Scan":     second(e.Scan(ctx, "", "", 1)),
		"Size":     second(e.Size(ctx)),
		"Snapshot": e.Snapshot(ctx, func(storage.Reader) error { return nil }),
		"compare":  third(e.Commit(ctx, 0, batch(reads("a", 1)))),
		"Commit":   third(e.Commit(ctx, 0, batch(puts("a", "2")))),
		"Exclusive": second(e.Exclusive(ctx, 1, func(storage.Reader) ([]storage.Write, error) {
			return []storage.Write{{Key: "a"}}, nil
		})),
	} {
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		checkLine(t, err)
	}
	c.Begin(t)
	e.deadline = 30 * time.Second
	if got := content(t, e); got != "a=1" {
		t.Errorf("the table holds %q", got)
	}
	commit(t, e, puts("a", "3"))
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

// TestAServerThatIsSilentIsLeft: the connection is open and nothing answers, as when a host is gone
// without a trace. Another connection answers.
func TestAServerThatIsSilentIsLeft(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	proxy := startCutter(t, c.Address())
	e := openWith(t, Config{URL: fmt.Sprintf("postgres://%s@%s/%s", postgrestest.Role, proxy.listener.Addr(), name), Create: true, Deadline: 2 * time.Second})
	commit(t, e, puts("a", "1"))
	proxy.deaf.Store(true)
	time.AfterFunc(1200*time.Millisecond, func() { proxy.deaf.Store(false) }) // the connections of before stay deaf for this answer
	commit(t, e, puts("a", "2"))
	if got := content(t, e); got != "a=2" {
		t.Errorf("the table holds %q", got)
	}
}
