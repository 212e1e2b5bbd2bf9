// Package postgrestest runs PostgreSQL for tests: real servers of Debian's package, in temporary
// directories, on loopback.
//
//	func TestMain(m *testing.M) { postgrestest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		url := postgrestest.Shared(t).Database(t)
//
// All tests of one binary share one cluster, which starts with the first one that needs it, and each
// test has a database of its own. A test that stops or configures a server starts a cluster of its own.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keymill/integration_test/freeport"
)

// Role owns the databases of tests. It may create tables, and no databases or roles.
const Role = "keymill"

// Superuser may do everything. It is also the name of a database.
const Superuser = "postgres"

// Secret is a role that must give its name as password.
const Secret = "secret"

// A Cluster is one server.
type Cluster struct {
	Port int
	CA   string // file with the CA that issued the server's certificate, which is for localhost

	dir    string
	as     *syscall.Credential // nil: this process has the right user already
	server *exec.Cmd
	ended  chan struct{} // closed when server has ended
}

// shared starts the cluster of this binary, which running then has.
var shared = sync.OnceValues(func() (*Cluster, error) {
	c, err := New()
	running.Store(c)
	return c, err
})

var running atomic.Pointer[Cluster]

// numbers gives each database a name of its own.
var numbers atomic.Int64

// errMissing means that PostgreSQL is not installed.
var errMissing = errors.New("PostgreSQL is not installed: run scripts/install-deps")

// Main runs the tests, stops the shared cluster and ends the process.
func Main(m *testing.M) {
	code := m.Run()
	if c := running.Load(); c != nil {
		c.Remove()
	}
	os.Exit(code)
}

// Shared returns the cluster of this binary. The test must not stop or configure it.
func Shared(t testing.TB) *Cluster {
	t.Helper()
	c, err := shared()
	need(t, err)
	return c
}

// Start starts another cluster, with settings such as "fsync=off", until the test ends.
func Start(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c, err := New(settings...)
	need(t, err)
	t.Cleanup(c.Remove)
	return c
}

// need skips a test if PostgreSQL is not installed. With CI set that is a failure.
func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errMissing) && os.Getenv("CI") == "":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// New makes a cluster and starts it, for a program that is no test. Remove ends it.
func New(settings ...string) (*Cluster, error) {
	c, err := prepare()
	if err != nil {
		return nil, err
	}
	err = c.fill(settings)
	if err == nil {
		err = c.start()
	}
	if err == nil {
		err = c.Exec(Superuser, "CREATE ROLE "+Role+" LOGIN", "CREATE ROLE "+Secret+" LOGIN PASSWORD '"+Secret+"'")
	}
	if err != nil {
		c.Remove()
		return nil, err
	}
	return c, nil
}

// prepare makes the directory of a cluster, for a user that PostgreSQL accepts: it refuses root.
func prepare() (*Cluster, error) {
	if _, err := program("initdb"); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "keymill-postgres-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, CA: filepath.Join(dir, "ca.pem")}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		c.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			return nil, err
		}
	}
	c.Port, err = freeport.Range(1)
	return c, err
}

// access lets all local roles in without a password, except one.
const access = `
local all all trust
host all secret 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
`

// fill makes the data of a new cluster.
func (c *Cluster) fill(settings []string) error {
	if err := c.run("initdb", "--no-sync", "--auth=trust", "--username="+Superuser, "--encoding=UTF8", "--locale=C.UTF-8", "-D", c.data()); err != nil {
		return err
	}
	if err := c.certify(); err != nil {
		return err
	}
	if err := c.write("data/pg_hba.conf", access, 0o600); err != nil {
		return err
	}
	lines := append([]string{
		"listen_addresses='127.0.0.1'", "shared_buffers=16MB", "max_connections=60", "max_wal_size=128MB",
		"ssl=on", "ssl_cert_file='" + c.file("server.pem") + "'", "ssl_key_file='" + c.file("server.key") + "'",
		"unix_socket_directories='" + c.dir + "'", "port=" + strconv.Itoa(c.Port),
	}, settings...)
	return c.append("data/postgresql.conf", strings.Join(lines, "\n")+"\n")
}

func (c *Cluster) data() string            { return filepath.Join(c.dir, "data") }
func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

// Directory returns the directory of the server's Unix socket.
func (c *Cluster) Directory() string { return c.dir }

// Address returns the host and the port.
func (c *Cluster) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)) }

// URL returns the URL of a database for a role.
func (c *Cluster) URL(role, database string) string {
	return fmt.Sprintf("postgres://%s@%s/%s", role, c.Address(), database)
}

// NewDatabase makes an empty database that Role owns, and returns its name. The database stays until the
// cluster ends. The options are those of CREATE DATABASE.
func (c *Cluster) NewDatabase(t testing.TB, options ...string) string {
	t.Helper()
	name, err := c.CreateDatabase(options...)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// CreateDatabase is NewDatabase for a program that is no test.
func (c *Cluster) CreateDatabase(options ...string) (name string, err error) {
	name = fmt.Sprintf("test%d", numbers.Add(1))
	return name, c.Exec(Superuser, "CREATE DATABASE "+name+" OWNER "+Role+" "+strings.Join(options, " "))
}

// Database makes an empty database and returns its URL for Role.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	return c.URL(Role, c.NewDatabase(t))
}

// SQL runs statements in a database as the superuser.
func (c *Cluster) SQL(t testing.TB, database string, statements ...string) {
	t.Helper()
	if err := c.Exec(database, statements...); err != nil {
		t.Fatal(err)
	}
}

// Value returns the first column of the first row of a query as text, as the superuser.
func (c *Cluster) Value(t testing.TB, database, query string) string {
	t.Helper()
	value := ""
	err := c.connect(database, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT ("+query+")::text").Scan(&value)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// Exec runs statements in a database as the superuser.
func (c *Cluster) Exec(database string, statements ...string) error {
	return c.connect(database, func(ctx context.Context, conn *pgx.Conn) error {
		for _, s := range statements {
			if _, err := conn.Exec(ctx, s, pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
}

func (c *Cluster) connect(database string, use func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL(Superuser, database)+"?sslmode=disable")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return use(ctx, conn)
}
