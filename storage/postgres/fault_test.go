package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keymill/storage"
	"keymill/storage/optimistic/enginetest"
	"keymill/storage/postgres/postgrestest"
)

// TestFaultsOfAConnectionAreNamed: each row is a server or a URL that does not fit.
func TestFaultsOfAConnectionAreNamed(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	password := func(p string) func() (string, error) { return func() (string, error) { return p, nil } }
	secret := c.URL(postgrestest.Secret, name)
	tls := fmt.Sprintf("postgres://keymill@localhost:%d/%s?sslmode=verify-full", c.Port, name)
	wrongName := fmt.Sprintf("postgres://keymill@127.0.0.1:%d/%s?sslmode=verify-full&sslrootcert=%s", c.Port, name, c.CA)
	poor := postgrestest.Start(t, "ssl=off", "fsync=off")
	poorURL := poor.Database(t)
	for _, tt := range []struct {
		name   string
		config Config
		want   []string
		away   bool // the fault is of the connection and not of the database
	}{
		{"a wrong password", Config{URL: secret, Password: password("hunter2")}, []string{"refuses the password", "28P01", "PostgreSQL secret@127.0.0.1"}, true},
		{"no password", Config{URL: secret}, []string{"refuses the password", "--password-file", "28P01"}, true},
		{"a role that does not exist", Config{URL: c.URL("nobody_here", name)}, []string{"does not let the role in", "28000"}, true},
		{"a database that does not exist", Config{URL: c.URL(postgrestest.Role, "test_absent")}, []string{"does not exist", "3D000"}, true},
		{"an unknown CA", Config{URL: tls}, []string{"certificate of the server is not accepted", "sslrootcert=FILE"}, true},
		{"a certificate for another host", Config{URL: wrongName}, []string{"certificate of the server is not accepted", "127.0.0.1"}, true},
		{"a server without TLS", Config{URL: poorURL + "?sslmode=verify-full"}, []string{"does not speak TLS"}, true},
		{"a server that does not sync", Config{URL: poorURL, Create: true}, []string{"fsync is off", "Turn it on"}, false},
		{"no server", Config{URL: "postgres://keymill@127.0.0.1:1/test"}, []string{"no connection", "connection refused"}, true},
		{"no socket", Config{URL: "postgres://keymill@/test?host=/nonexistent"}, []string{"no connection", "no such file"}, true},
		{"no such host", Config{URL: "postgres://keymill@nonexistent.invalid/test"}, []string{"no connection", "nonexistent.invalid"}, true},
		{"a file with the password that is gone", Config{URL: secret, Password: func() (string, error) { return "", os.ErrNotExist }}, []string{"file does not exist"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Deadline = impatient
			_, err := OpenEngine(context.Background(), tt.config)
			if err == nil {
				t.Fatal("it opened")
			}
			checkLine(t, err)
			wantIn(t, err.Error(), tt.want...)
			if errors.Is(err, storage.ErrUnavailable) != tt.away {
				t.Errorf("matches ErrUnavailable: %t", !tt.away)
			}
		})
	}
	openWith(t, Config{URL: secret + "?sslmode=disable", Password: password(postgrestest.Secret)}.withTables(t, c, name))
	openWith(t, Config{URL: tls + "&sslrootcert=" + c.CA})
	openWith(t, Config{URL: fmt.Sprintf("postgres://keymill@/%s?host=%s&port=%d", name, c.Directory(), c.Port)})
}

// withTables lets the role of the configuration use the tables.
func (c Config) withTables(t *testing.T, cluster *postgrestest.Cluster, database string) Config {
	openWith(t, Config{URL: cluster.URL(postgrestest.Role, database), Create: true})
	cluster.SQL(t, database, "GRANT "+postgrestest.Role+" TO "+postgrestest.Secret)
	return c
}

// TestAChangedPasswordIsReadAgain for the next connection.
func TestAChangedPasswordIsReadAgain(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	c.SQL(t, postgrestest.Superuser, "DROP ROLE IF EXISTS renewed", "CREATE ROLE renewed LOGIN PASSWORD 'one'", "ALTER DATABASE "+name+" OWNER TO renewed")
	now := "one"
	e := openWith(t, Config{URL: c.URL("renewed", name), Create: true, Deadline: impatient, Password: func() (string, error) { return now, nil }})
	c.SQL(t, postgrestest.Superuser, "ALTER ROLE renewed PASSWORD 'two'")
	now = "two"
	e.reset()
	enginetest.Commit(t, e, puts("a", "1"))
}

// TestAReadOnlyServerIsLeft: a database that becomes read-only answers nothing, and is used again once it
// can write.
func TestAReadOnlyServerIsLeft(t *testing.T) {
	c := postgrestest.Start(t)
	name := c.NewDatabase(t)
	e := openWith(t, Config{URL: c.URL(postgrestest.Role, name), Create: true, Deadline: impatient})
	enginetest.Commit(t, e, puts("a", "1"))
	c.Set(t, "default_transaction_read_only", "on")
	_, _, err := e.Commit(context.Background(), 0, batch(puts("a", "2")))
	if !errors.Is(err, storage.ErrUnavailable) {
		t.Fatal(err)
	}
	checkLine(t, err)
	wantIn(t, err.Error(), "default_transaction_read_only is on")
	c.SQL(t, postgrestest.Superuser, "SET default_transaction_read_only = off", "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
	e.deadline = 10 * time.Second
	enginetest.Commit(t, e, puts("a", "3"))
}

// TestAnotherIsolationThatAppearsIsRefused by the function, because its snapshot would be older than its
// locks. So are commits that would not wait for the disk.
func TestAnotherIsolationThatAppearsIsRefused(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	e := openWith(t, Config{URL: c.URL(postgrestest.Role, name), Create: true, Deadline: impatient})
	for _, tt := range []struct{ setting, value, want string }{
		{"default_transaction_isolation", "'repeatable read'", "default_transaction_isolation"},
		{"default_transaction_isolation", "'serializable'", "default_transaction_isolation"},
		{"synchronous_commit", "off", "synchronous_commit"},
		{"synchronous_commit", "local", "synchronous_commit"},
	} {
		c.SQL(t, name, "ALTER DATABASE "+name+" SET "+tt.setting+" = "+tt.value)
		e.reset()
		_, _, err := e.Commit(context.Background(), 0, batch(puts("a", "1")))
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s=%s: %v", tt.setting, tt.value, err)
			continue
		}
		checkLine(t, err)
		wantIn(t, err.Error(), tt.want, "must be")
		c.SQL(t, name, "ALTER DATABASE "+name+" RESET "+tt.setting)
	}
	e.reset()
	enginetest.Commit(t, e, puts("a", "2"))
}

// TestAFullLockTableIsEndured: a commit that finds no room for its locks takes one instead. If there is
// no room for that one either, nothing is written, and the error says what to raise.
func TestAFullLockTableIsEndured(t *testing.T) {
	c := postgrestest.Start(t, "max_connections=12", "max_locks_per_transaction=10", "max_wal_senders=0", "max_worker_processes=0", "autovacuum=off")
	name := c.NewDatabase(t)
	e := openWith(t, Config{URL: c.URL(postgrestest.Role, name), Create: true, Deadline: time.Second})
	ctx := context.Background()
	hoarder, err := pgx.Connect(ctx, c.URL(postgrestest.Superuser, name)+"?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer hoarder.Close(ctx)
	hold := func() { // until there is no room
		for i := 0; ; i++ {
			if _, err := hoarder.Exec(ctx, "SELECT pg_advisory_lock(7, $1)", i); err != nil {
				if !hasCode(err, codeLockTableFull) {
					t.Fatal(err)
				}
				return
			}
		}
	}
	many := func() *Engine {
		var parts []part
		for i := range 300 {
			parts = append(parts, puts(fmt.Sprintf("key/%d", i), "1"))
		}
		_, _, err := e.Commit(ctx, 0, batch(parts...))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	hold()
	_, _, err = e.Commit(ctx, 0, batch(puts("a", "1", "b", "1", "c", "1")))
	if !errors.Is(err, storage.ErrUnavailable) {
		t.Fatalf("no room at all: %v", err)
	}
	checkLine(t, err)
	wantIn(t, err.Error(), "lock table", "max_locks_per_transaction")
	for i := range 60 { // room for some
		if _, err := hoarder.Exec(ctx, "SELECT pg_advisory_unlock(7, $1)", i); err != nil {
			t.Fatal(err)
		}
	}
	e.deadline = 10 * time.Second
	many()
}

// TestTooManyConnectionsAreNamed, and waited for.
func TestTooManyConnectionsAreNamed(t *testing.T) {
	c := postgrestest.Shared(t)
	name := c.NewDatabase(t)
	c.SQL(t, postgrestest.Superuser, "DROP ROLE IF EXISTS crowded", "CREATE ROLE crowded LOGIN CONNECTION LIMIT 2", "ALTER DATABASE "+name+" OWNER TO crowded")
	ctx := context.Background()
	e := openWith(t, Config{URL: c.URL("crowded", name), Create: true, Deadline: impatient})
	e.reset()
	var others []*pgx.Conn
	for range 2 {
		conn, err := pgx.Connect(ctx, c.URL("crowded", name)+"?sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, conn)
	}
	_, err := e.Fetch(ctx, []string{"a"})
	if !errors.Is(err, storage.ErrUnavailable) {
		t.Fatal(err)
	}
	checkLine(t, err)
	wantIn(t, err.Error(), "too many connections", "53300")
	for _, conn := range others {
		conn.Close(ctx)
	}
	e.deadline = 10 * time.Second
	enginetest.Commit(t, e, puts("a", "1"))
}

// TestAFullDiskIsNoSpace: nothing is written, and the store goes on once there is space.
func TestAFullDiskIsNoSpace(t *testing.T) {
	if os.Geteuid() != 0 {
		const reason = "mounting a small disk needs root"
		if os.Getenv("CI") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	c := postgrestest.Start(t)
	disk := c.SmallDisk(t, "24m")
	c.SQL(t, postgrestest.Superuser, "CREATE TABLESPACE small LOCATION '"+disk+"'")
	name := c.NewDatabase(t, "TABLESPACE small")
	e := openWith(t, Config{URL: c.URL(postgrestest.Role, name), Create: true})
	value := strings.Repeat("x", storage.MaxValueBytes)
	written := 0
	var err error
	for ; err == nil && written < 1000; written++ {
		_, _, err = e.Commit(context.Background(), 0, batch(puts(fmt.Sprintf("fill/%04d", written), value)))
	}
	if !errors.Is(err, storage.ErrNoSpace) {
		t.Fatalf("after %d records: %v", written, err)
	}
	checkLine(t, err)
	wantIn(t, err.Error(), "disk of the server is full")
	records, err := e.Scan(context.Background(), "fill/", "fill0", 1000)
	if err != nil || len(records) != written-1 {
		t.Errorf("%d records after %d commits that succeeded: %v", len(records), written-1, err)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=64m", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	enginetest.Commit(t, e, puts("more", value))
}
