package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keymill/cmd/keymill/internal/terminal/terminaltest"
	"keymill/integration_test/counts"
	"keymill/issuer/api"
	"keymill/storage/postgres/postgrestest"
)

// Bounds of answers while the database fails. A server waits for it for 10 s, and the machine can be slow.
const (
	longestAnswer = 15 * time.Second
	longestBehind = 25 * time.Second // behind a commit that succeeds after almost 10 s
)

// A databaseFault happens to the database of a server that serves.
type databaseFault struct {
	name  string
	begin func(s *faultyShared) (end func())
	hold  time.Duration // at least; it ends after an answer and a line that say so
	line  []string      // in one line of the log
	fails string        // a kind of request that gets 503
	slow  bool          // a commit can succeed at last
}

// A faultyShared is a server under load, and its database.
type faultyShared struct {
	*cluster
	server  *child
	service api.Client // may use client_credentials
	asker   api.Client // may introspect

	mu       sync.Mutex
	good     map[string]int // what was asked → answers; owned by mu, as are the others
	away     map[string]int // what was asked → answers 503
	longest  time.Duration
	problems []string
}

// TestALockedOrLostTableIsEndured: a server answers in time, loses nothing and goes on without a restart while a table is
// locked, its role may not log in, and the disk of the database is full.
//
// I18.
func TestALockedOrLostTableIsEndured(t *testing.T) {
	t.Parallel()
	terminaltest.NeedRoot(t) // for the disk
	db := postgrestest.Start(t)
	disk := db.SmallDisk(t, "24m")
	db.SQL(t, postgrestest.Superuser, "CREATE TABLESPACE small LOCATION '"+disk+"'")
	s := newFaultyShared(t, db, "TABLESPACE small")
	held := time.Duration(counts.Of("table-lock-seconds")) * time.Second
	s.endure(t, []databaseFault{
		{"the table is locked", func(s *faultyShared) func() {
			conn := s.superuser()
			s.exec(conn, "BEGIN")
			s.exec(conn, "LOCK TABLE keymill.record IN ACCESS EXCLUSIVE MODE")
			return func() { s.exec(conn, "ROLLBACK"); conn.Close(context.Background()) }
		}, held, []string{"does not answer in time"}, "refresh", false},
		{"the role may not log in", func(s *faultyShared) func() {
			db.SQL(t, s.database, "ALTER ROLE "+postgrestest.Role+" NOLOGIN", terminate)
			return func() { db.SQL(t, s.database, "ALTER ROLE "+postgrestest.Role+" LOGIN") }
		}, 12 * time.Second, []string{"not permitted to log in"}, "refresh", false},
		{"the disk is full", func(s *faultyShared) func() {
			filler := filepath.Join(disk, "filler")
			fillDisk(t, filler)
			return func() { os.Remove(filler) }
		}, 0, []string{"disk of the server is full"}, "login", false}, // a refresh takes no space
	})
}

// TestAnExhaustedOrReadOnlyDatabaseIsEndured: the same while others have all connections, others have all locks, and the
// database is a standby.
//
// I18.
func TestAnExhaustedOrReadOnlyDatabaseIsEndured(t *testing.T) {
	t.Parallel()
	db := postgrestest.Start(t, "max_connections=20", "max_locks_per_transaction=10", "max_wal_senders=0", "max_worker_processes=0", "autovacuum=off")
	db.SQL(t, postgrestest.Superuser, "CREATE ROLE other LOGIN")
	s := newFaultyShared(t, db)
	s.endure(t, []databaseFault{
		{"too many connections", takeConnections, 0, []string{"too many connections", "53300"}, "refresh", false},
		{"no room for locks", takeLocks, 0, []string{"lock table", "max_locks_per_transaction"}, "refresh", true},
		{"the database is a standby", func(s *faultyShared) func() {
			db.Stop(postgrestest.Fast)
			if err := os.WriteFile(filepath.Join(db.Directory(), "data", "standby.signal"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			db.Begin(t)
			return func() { db.Promote(t) }
		}, 0, []string{"is a standby"}, "refresh", false},
	})
}

const terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + postgrestest.Role + "'"

// newFaultyShared starts a server on a new database.
func newFaultyShared(t *testing.T, db *postgrestest.Cluster, options ...string) *faultyShared {
	t.Helper()
	c := &cluster{t: t, postgres: db, database: db.NewDatabase(t, options...)}
	c.url = db.URL(postgrestest.Role, c.database)
	p := c.place()
	s := &faultyShared{cluster: c, server: p.startShared("--init"), good: map[string]int{}, away: map[string]int{}}
	p.withAlice(t)
	p.must(&s.service, "client", "add", "billing", "--grant", "client_credentials", "--audience", "shop", "--json")
	p.must(&s.asker, "client", "add", "shop-api", "--introspect", "shop", "--json")
	return s
}

func (s *faultyShared) superuser() *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), s.postgres.URL(postgrestest.Superuser, s.database)+"?sslmode=disable")
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func (s *faultyShared) exec(conn *pgx.Conn, statement string) {
	s.t.Helper()
	if _, err := conn.Exec(context.Background(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
		s.t.Fatal(err)
	}
}

// takeConnections lets another role have all connections but those of superusers.
func takeConnections(s *faultyShared) func() {
	super := s.superuser()
	taken := []*pgx.Conn{super}
	for len(taken) < 17 { // of 20, and the others are reserved for superusers
		s.exec(super, terminate)
		conn, err := pgx.Connect(context.Background(), s.postgres.URL("other", s.database)+"?sslmode=disable")
		if err == nil {
			taken = append(taken, conn)
		}
	}
	return func() {
		for _, conn := range taken {
			conn.Close(context.Background())
		}
	}
}

// takeLocks fills the table of locks, and takes what others give back.
func takeLocks(s *faultyShared) func() {
	conn := s.superuser()
	ctx, cancel := context.WithCancel(context.Background())
	full, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close(context.Background())
		for i, once := 0, false; ctx.Err() == nil; i++ {
			_, err := conn.Exec(context.Background(), "SELECT pg_advisory_lock(7, $1)", i)
			if err == nil {
				continue
			}
			if !strings.Contains(err.Error(), "out of shared memory") {
				s.t.Error(err)
			}
			if !once {
				close(full)
			}
			once = true
			time.Sleep(time.Millisecond)
		}
	}()
	<-full
	return func() { cancel(); <-done }
}

// fillDisk writes a file until there is no space for more.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for piece := make([]byte, 4096); err == nil; {
		_, err = f.Write(piece)
	}
}

// endure lets the faults happen one after the other under load.
func (s *faultyShared) endure(t *testing.T, faults []databaseFault) {
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	for range 2 {
		load.Go(func() {
			s.loop(ctx, func() {
				s.post("login", "/api/token/", "application/json", api.Client{}, `{"username":"alice","password":"correct horse battery"}`)
			})
		})
	}
	for range 4 {
		token := s.server.login("alice", "correct horse battery").Refresh
		load.Go(func() { s.refreshes(ctx, token) })
	}
	access := s.server.login("alice", "correct horse battery").Access
	load.Go(func() {
		s.loop(ctx, func() { s.form("introspect", "/introspect", s.asker, url.Values{"token": {access}}) })
	})
	load.Go(func() {
		s.loop(ctx, func() { s.form("token", "/token", s.service, url.Values{"grant_type": {"client_credentials"}}) })
	})
	for _, fault := range faults {
		s.happens(t, fault)
	}
}

// happens begins a fault, ends it, and waits until all is well.
func (s *faultyShared) happens(t *testing.T, fault databaseFault) {
	t.Helper()
	s.recovers(t, fault.name+": before")
	logged := len(s.server.errs.String())
	begun := time.Now()
	end := fault.begin(s)
	s.forget()
	seen := eventually(time.Minute, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.away[fault.fails] > 0 })
	s.checkLog(t, fault, logged) // lines are written later than answers, and not more than some a second
	time.Sleep(time.Until(begun.Add(fault.hold)))
	end()
	if !seen {
		t.Errorf("%s: no %s got 503", fault.name, fault.fails)
	}
	s.recovers(t, fault.name)
	s.mu.Lock()
	t.Logf("counted: %s: %d answers 503 and %d others, the longest took %s", fault.name, sum(s.away), sum(s.good), s.longest.Round(time.Millisecond))
	limit := longestAnswer
	if fault.slow {
		limit = longestBehind
	}
	if s.longest > limit {
		t.Errorf("%s: an answer took %s", fault.name, s.longest)
	}
	if len(s.problems) > 0 {
		t.Errorf("%s: %s", fault.name, strings.Join(s.problems[:min(5, len(s.problems))], "\n"))
	}
	s.problems = nil
	s.mu.Unlock()
}

// checkLog fails the test unless one line of the log says what is wrong, and no line is more than that.
func (s *faultyShared) checkLog(t *testing.T, fault databaseFault, logged int) {
	t.Helper()
	said := func(line string) bool {
		return !slices.ContainsFunc(fault.line, func(word string) bool { return !strings.Contains(line, word) })
	}
	if !eventually(time.Minute, func() bool { return slices.ContainsFunc(strings.Split(s.server.errs.String()[logged:], "\n"), said) }) {
		t.Errorf("%s: no line has %q:\n%s", fault.name, fault.line, s.server.errs.String()[logged:])
	}
	for line := range strings.Lines(s.server.errs.String()[logged:]) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("%s: a line of the log is %s", fault.name, line)
		}
	}
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// recovers waits until the server is ready and each kind of request is answered.
func (s *faultyShared) recovers(t *testing.T, after string) {
	t.Helper()
	if !eventually(time.Minute, func() bool { return s.server.ready() == http.StatusOK }) {
		t.Fatalf("%s: the server is not ready again:\n%s", after, s.server.errs)
	}
	s.mu.Lock()
	good := map[string]int{}
	for what, n := range s.good {
		good[what] = n
	}
	s.mu.Unlock()
	if !eventually(time.Minute, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.good["refresh"] > good["refresh"]+4 && s.good["token"] > good["token"]+1 && s.good["introspect"] > good["introspect"]+1 && s.good["login"] > good["login"]+1
	}) {
		t.Fatalf("%s: requests are not answered again", after)
	}
}

// forget begins to count again.
func (s *faultyShared) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest, s.good, s.away = 0, map[string]int{}, map[string]int{}
}

func (s *faultyShared) loop(ctx context.Context, ask func()) {
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		ask()
	}
}

// refreshes refreshes a session. The last token that was acknowledged must refresh.
func (s *faultyShared) refreshes(ctx context.Context, token string) {
	s.loop(ctx, func() {
		body := s.form("refresh", "/token", api.Client{}, url.Values{"grant_type": {"refresh_token"}, "client_id": {"web"}, "refresh_token": {token}})
		if _, next, found := strings.Cut(body, `"refresh_token":"`); found {
			token, _, _ = strings.Cut(next, `"`)
		}
	})
}

func (s *faultyShared) form(what, path string, c api.Client, form url.Values) string {
	return s.post(what, path, "application/x-www-form-urlencoded", c, form.Encode())
}

// post sends a request, and returns the body of the answer 200. Any other answer is 503 with Retry-After.
func (s *faultyShared) post(what, path, contentType string, c api.Client, content string) string {
	req, err := http.NewRequest(http.MethodPost, s.server.url(path), strings.NewReader(content))
	if err != nil {
		s.t.Error(err)
		return ""
	}
	req.Header.Set("Content-Type", contentType)
	if c.Secret != "" {
		req.SetBasicAuth(c.ID, string(c.Secret))
	}
	begun := time.Now()
	resp, err := http.DefaultClient.Do(req)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = max(s.longest, time.Since(begun))
	switch {
	case err != nil:
		s.problems = append(s.problems, what+": "+err.Error())
	case resp.StatusCode == http.StatusOK:
		s.good[what]++
		return string(body)
	case resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		s.away[what]++
	default:
		s.problems = append(s.problems, fmt.Sprintf("%s: %s, Retry-After %q, %s", what, resp.Status, resp.Header.Get("Retry-After"), body))
	}
	return ""
}
