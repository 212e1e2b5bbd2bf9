package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
	"keymill/storage/postgres/postgrestest"
)

// TestCutConnectionsLoseNothing: what was acknowledged is stored, what is stored was acknowledged, and no
// caller is told that the outcome is unknown.
func TestCutConnectionsLoseNothing(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	direct := open(t, c.URL(postgrestest.Role, name))
	proxy := c.Proxy(t)
	l := startLoad(open(t, proxy.URL(name)), open(t, proxy.URL(name)))
	for range counts.Of("postgres-cuts") {
		time.Sleep(20*time.Millisecond + rand.N(60*time.Millisecond))
		proxy.Cut()
	}
	time.Sleep(100 * time.Millisecond)
	l.check(t, direct)
}

// TestAProgramThatEndsWaitsForNoServer: neither a commit that waits already nor a later one.
func TestAProgramThatEndsWaitsForNoServer(t *testing.T) {
	c := postgrestest.Shared(t)
	proxy := c.Proxy(t)
	e := openWith(t, Config{URL: proxy.URL(c.NewDatabase(t)), Create: true, Deadline: 10 * time.Minute})
	put := func() error {
		_, _, err := e.Commit(context.Background(), 0, &optimistic.Batch{Writes: []storage.Write{{Key: "k"}}})
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	proxy.Close()
	waiting := make(chan error)
	go func() { waiting <- put() }()
	time.Sleep(50 * time.Millisecond)
	e.Hurry()
	begun := time.Now()
	for _, err := range []error{<-waiting, put()} {
		if !errors.Is(err, storage.ErrUnavailable) && !errors.Is(err, storage.ErrUnknownOutcome) {
			t.Errorf("%v, want that the server is away", err)
		}
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("the calls took %v", took)
	}
}

// TestLostAnswersOfExclusiveAreResolved, too.
func TestLostAnswersOfExclusiveAreResolved(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	proxy := c.Proxy(t)
	e := open(t, proxy.URL(name))
	for round := range 10 {
		ran := 0
		_, err := e.Exclusive(context.Background(), 0, func(r storage.Reader) ([]storage.Write, error) {
			v, err := r.Get("list")
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return nil, err
			}
			if ran++; ran == 1 { // the answer to what follows is lost
				proxy.Deafen(true)
				time.AfterFunc(20*time.Millisecond, func() { proxy.Cut() })
			}
			return []storage.Write{{Key: "list", Value: append(v, 'x')}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := enginetest.Content(t, e); got != "list="+strings.Repeat("x", round+1) {
			t.Fatalf("after %d calls: %q", round+1, got)
		}
	}
}

// TestAFunctionThatRefusesAnExclusiveIsNoCommit: commit_v2 has nothing to compare then, so rows of it are those of another function.
func TestAFunctionThatRefusesAnExclusiveIsNoCommit(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	e := open(t, c.URL(postgrestest.Role, name))
	changed := strings.Replace(Schema(), "IF FOUND THEN\n    RETURN;", "IF true THEN\n    RETURN QUERY SELECT 'a'::text, NULL::bytea, 0::bigint;\n    RETURN;", 1)
	if changed == Schema() {
		t.Fatal("commit_v2 has another text")
	}
	c.SQL(t, name, changed)
	_, err := e.Exclusive(context.Background(), 0, func(storage.Reader) ([]storage.Write, error) {
		return []storage.Write{{Key: "a", Value: []byte("1")}}, nil
	})
	if !errors.Is(err, errNotWritten) {
		t.Errorf("%v", err)
	} else {
		checkLine(t, err)
	}
	if got := enginetest.Content(t, e); got != "" {
		t.Errorf("the store has %q", got)
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
	for n, hidden := range []bool{true, false} {
		s, err := l.engines[0].Describe(t.Context())
		if err != nil || s.StandbyNames != "standby" || len(s.Standbys) != 1 || s.Standbys[0].Hidden != hidden || !hidden && s.Standbys[0].Sync != "sync" {
			t.Errorf("described as %+v, %v", s, err)
		}
		if n == 0 {
			primary.SQL(t, postgrestest.Superuser, "GRANT pg_read_all_stats TO "+postgrestest.Role)
		}
	}
	killed := time.Now()
	primary.Stop(postgrestest.Immediate)
	standby.Promote(t)
	took, promoted := time.Since(killed), l.acknowledged.Load()
	for end := time.Now().Add(time.Minute); l.acknowledged.Load() == promoted; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing was written after the promotion")
		}
	}
	l.check(t, l.engines[0])
	if l.gap > took+10*time.Second {
		t.Errorf("no commit for %v, of which the promotion took %v", l.gap, took)
	}
}

// TestAPoolLeavesADemotedPrimary, although its connections to it stay open.
func TestAPoolLeavesADemotedPrimary(t *testing.T) {
	old := postgrestest.Start(t)
	next := old.Standby(t)
	name := old.NewDatabase(t)
	urls := fmt.Sprintf("postgres://%s@%s,%s/%s", postgrestest.Role, old.Address(), next.Address(), name)
	e := openWith(t, Config{URL: urls, Create: true})
	enginetest.Commit(t, e, puts("a", "1"))
	next.Promote(t)
	old.Set(t, "default_transaction_read_only", "on")
	enginetest.Commit(t, e, puts("a", "2"))
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
	enginetest.Commit(t, e, puts("a", "1"))
	standby.Stop(postgrestest.Fast)
	e.deadline = time.Second
	_, _, err := e.Commit(context.Background(), 0, batch(puts("a", "2")))
	if !errors.Is(err, storage.ErrUnknownOutcome) {
		t.Fatal(err)
	}
	if errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("an error that also says that nothing was written: %v", err)
	}
	checkLine(t, err)
	wantIn(t, err.Error(), "does not answer in time")
	standby.Begin(t)
	e.deadline = 30 * time.Second
	enginetest.Commit(t, e, puts("b", "3")) // with another token
	if got := enginetest.Content(t, e); got != "a=2 b=3" {
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
	enginetest.Commit(t, e, puts("a", "1"))
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
	if got := enginetest.Content(t, e); got != "a=1" {
		t.Errorf("the table holds %q", got)
	}
	enginetest.Commit(t, e, puts("a", "3"))
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

// TestAServerThatIsSilentIsLeft: the connection is open and nothing answers, as when a host is gone
// without a trace. Another connection answers.
func TestAServerThatIsSilentIsLeft(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	proxy := c.Proxy(t)
	e := openWith(t, Config{URL: proxy.URL(name), Create: true, Deadline: 2 * time.Second})
	enginetest.Commit(t, e, puts("a", "1"))
	proxy.Deafen(true)
	time.AfterFunc(1200*time.Millisecond, func() { proxy.Deafen(false) }) // the connections of before stay deaf for this answer
	enginetest.Commit(t, e, puts("a", "2"))
	if got := enginetest.Content(t, e); got != "a=2" {
		t.Errorf("the table holds %q", got)
	}
}
