// Package postgres is the Engine of package optimistic that keeps records in PostgreSQL 15 or later,
// so that several nodes can share one store. Open returns the store itself.
//
//	node ── commits ──┐                    ┌─ keymill.record   key, value, version
//	     ── reads ────┤── (pooler) ── primary ─ keymill.node     a token for each committer of a node
//	node ── …         ┘                    └─ keymill.schema   which programs can use the tables
//
// # Requests
//
// Fetch and Scan are one statement each. Commit is one call of the function keymill.commit_v2. It takes
// advisory locks that end with its transaction, compares what the batch has read with a snapshot that is
// newer than the locks, and writes. So a conflict costs one trip, and nothing fails with a serialization
// error. A batch without writes is compared by one snapshot and takes no lock.
//
// There are 2^30 locks for keys, and lock 0, which every commit takes: alone if it has scanned, shared
// otherwise. PostgreSQL keeps all locks of all databases in one table of a fixed size. A commit that has
// more than 512 keys, or finds the table full, takes lock 0 alone and no other one.
//
// # Lost answers
//
// Each committer has a row in keymill.node with an epoch and a number. A commit writes its number there if
// the epoch is still the one that it names. If the answer to a commit is lost, the committer raises the
// epoch and reads the number in one statement. That statement waits for the commit if it is under way. The
// number says whether the commit was written, and if not, the new epoch keeps it from being written later.
// This also holds after a failover. Only if PostgreSQL does not come back within the deadline is the
// outcome unknown.
//
// A commit is never canceled. A commit that waits for a synchronous standby and is canceled is durable on
// the primary alone. So the connections of this package send no cancel requests; a connection that is
// given up is closed.
//
// # Poolers
//
// Behind a pooler statements are unnamed, names contain their schema, and no session state is used: no SET, no LISTEN,
// no lock that outlives a transaction. So a pooler may give each transaction another connection. On a connection to the
// server itself the statements of Fetch and Commit are prepared.
package postgres

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"keymill/storage/optimistic"
)

// Config says where the database is.
type Config struct {
	// URL is postgres://ROLE@HOST[:PORT][,HOST…]/DATABASE, followed by ? and parameters of libpq. It has
	// no password. With several hosts the first one that can write is used. A directory with a Unix
	// socket is the parameter host.
	//
	// sslmode is verify-full and can be nothing weaker, unless all hosts are on this machine. Then it is
	// disable unless the URL says otherwise. The other parameters are sslrootcert, sslcert, sslkey,
	// sslnegotiation, connect_timeout, application_name and target_session_attrs, which is always
	// read-write. No variable or file of libpq is read.
	URL string
	// Password returns the password of the role. It is called for each new connection, so the password
	// can change while the program runs. nil means that the role has none.
	Password func() (string, error)
	// Create makes the tables and functions in a database that has none.
	Create bool
	// Deadline is how long a call waits for a PostgreSQL that is away. 0 means 10 s.
	Deadline time.Duration
	// Readers is how many connections read at the same time. 0 means 8. Commits use others, of which
	// there are at most 6, or Options.Committers and 4 if that is more.
	Readers int
	// Options are those of the store that Open returns, such as the bytes of its cache.
	Options optimistic.Options
}

const (
	defaultDeadline   = 10 * time.Second
	defaultReaders    = 8
	commitConnections = 6 // two committers, comparisons for Views, and questions about lost answers
	spareConnections  = 4 // of them besides one for each committer
)

// An Engine is an optimistic.Engine. It is safe for concurrent use.
type Engine struct {
	target     string // the role, hosts and database, for messages
	deadline   time.Duration
	reads      *pgxpool.Pool
	commits    *pgxpool.Pool // apart, so that a commit never waits for a long read
	hurry      atomic.Bool   // see Hurry
	unprepared atomic.Bool   // no statement is prepared any longer

	mu         sync.Mutex
	committers map[int]*committer // number → state; guarded by mu
}

// OpenEngine connects to the database and checks that it can hold a store: that it is durable, can be
// written, really locks, and has the tables and functions of this program.
//
// An error that matches storage.ErrUnavailable means that the database could not be asked. OpenEngine waits up
// to the deadline for a server that is away. Other errors are about what was found. ErrNoTables is the one that
// Config.Create prevents.
func OpenEngine(ctx context.Context, c Config) (*Engine, error) {
	e, err := newEngine(c)
	if err != nil {
		return nil, err
	}
	if err := e.start(ctx, c.Create); err != nil {
		e.closePools()
		return nil, err
	}
	return e, nil
}

// newEngine connects to nothing yet.
func newEngine(c Config) (*Engine, error) {
	if c.Deadline == 0 {
		c.Deadline = defaultDeadline
	}
	if c.Readers == 0 {
		c.Readers = defaultReaders
	}
	pool, err := poolConfig(c)
	if err != nil {
		return nil, err
	}
	e := &Engine{target: targetOf(pool.ConnConfig), deadline: c.Deadline, committers: map[int]*committer{}}
	pool.MaxConns = int32(c.Readers)
	if e.reads, err = pgxpool.NewWithConfig(context.Background(), pool.Copy()); err != nil {
		return nil, e.fault(err)
	}
	pool.MaxConns = int32(max(commitConnections, c.Options.Committers+spareConnections))
	if e.commits, err = pgxpool.NewWithConfig(context.Background(), pool); err != nil {
		e.reads.Close()
		return nil, e.fault(err)
	}
	return e, nil
}

// Size returns how many bytes the records, their index and free space among them occupy.
func (e *Engine) Size(ctx context.Context) (int64, error) {
	var size int64
	err := e.retry(ctx, e.reads, func(ctx context.Context, c *pgxpool.Conn) error {
		return c.QueryRow(ctx, `SELECT pg_catalog.pg_total_relation_size('keymill.record')`).Scan(&size)
	})
	return size, err
}

// Close removes the tokens of this node and closes all connections.
func (e *Engine) Close() error {
	e.removeTokens()
	e.closePools()
	return nil
}

func (e *Engine) closePools() {
	e.commits.Close()
	e.reads.Close()
}

// reset closes the connections that are idle now, and the others when their requests end. The next ones
// are made to the host that can write then.
func (e *Engine) reset() {
	e.commits.Reset()
	e.reads.Reset()
}

// randomNumber returns a number from 1 to 2^63−1.
func randomNumber() int64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return max(1, int64(binary.BigEndian.Uint64(b[:])>>1))
}

func randomName() string { return fmt.Sprintf("%016x", randomNumber()) }
