package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"keymill/integration_test/freeport"
	"keymill/integration_test/server"
	"keymill/storage/postgres/postgrestest"
)

// Sharing servers have their store in PostgreSQL. One more has it in a file.
type sharingServers struct {
	first, alone *server.Server // the first that shares, and the one with a file
	more         []*server.Companion
	engine       *engine
	url          string // of the store

	nodes []target // those that share
	file  target
}

// startSharing starts the server with a file and one with a database. The server with the file starts first, or the
// other one.
func startSharing(cluster *postgrestest.Cluster, fileFirst bool) (s *sharingServers, err error) {
	s = &sharingServers{}
	database, err := cluster.CreateDatabase()
	if err != nil {
		return s, err
	}
	s.url = cluster.URL(postgrestest.Role, database)
	if s.engine, err = openEngine(cluster); err != nil {
		return s, err
	}
	for n := range 2 {
		if (n == 0) == fileFirst {
			s.alone, s.file, err = startKeymill("", "")
		} else {
			var first target
			s.first, first, err = startKeymill("", "store: "+s.url+"\nnode: {id: node-1}\n")
			s.nodes = []target{first}
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// grow starts more servers until n share the store.
func (s *sharingServers) grow(n int) error {
	for len(s.nodes) < n {
		next, err := s.startNext(fmt.Sprintf("node-%d", len(s.nodes)+1))
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, next)
	}
	return nil
}

// startNext starts another server with the store, the issuer and the master key of the first one.
func (s *sharingServers) startNext(id string) (target, error) {
	address, err := freeport.Address()
	if err != nil {
		return target{}, err
	}
	dir := filepath.Join(s.first.Dir, id) // Close of the first server removes it
	if err := os.Mkdir(dir, 0o700); err != nil {
		return target{}, err
	}
	config := filepath.Join(dir, "keymill.yaml")
	text := fmt.Sprintf("listen: %s\nissuer: %s\ninsecure: true\ndata: %s\nmaster_key_file: %s\nstore: %s\nnode: {id: %s}\nsimplejwt:\n  client: bench-web\n",
		address, s.first.Issuer, filepath.Join(dir, "data"), filepath.Join(s.first.Dir, "master.key"), s.url, id)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return target{}, err
	}
	cmd := exec.Command(s.first.Binary(), "serve", "--config", config)
	cmd.Env = server.Environment()
	c, err := server.Launch(cmd)
	if err != nil {
		return target{}, err
	}
	s.more = append(s.more, c)
	return target{address: address, pid: cmd.Process.Pid, accounts: s.nodes[0].accounts}, awaitReady(address, c)
}

// awaitReady returns when the server at address is ready.
func awaitReady(address string, c *server.Companion) error {
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if r, err := http.Get("http://" + address + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-c.Done():
			return fmt.Errorf("the server at %s ended before it was ready", address)
		default:
		}
	}
	return fmt.Errorf("the server at %s is not ready", address)
}

func (s *sharingServers) close() error {
	var errs []error
	for _, c := range s.more {
		errs = append(errs, c.Close())
	}
	for _, one := range []*server.Server{s.first, s.alone} {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	if s.engine != nil {
		errs = append(errs, s.engine.conn.Close(context.Background()))
	}
	return errors.Join(errs...)
}

// An engine reads what a PostgreSQL has used.
type engine struct {
	cluster *postgrestest.Cluster
	conn    *pgx.Conn
}

func openEngine(cluster *postgrestest.Cluster) (*engine, error) {
	conn, err := pgx.Connect(context.Background(), cluster.URL(postgrestest.Superuser, postgrestest.Superuser)+"?sslmode=disable")
	if err != nil {
		return nil, err
	}
	return &engine{cluster, conn}, nil
}

// used returns its processor time and the bytes of WAL that it has written, both since some time in the past.
func (e *engine) used() (cpu time.Duration, wal int64, err error) {
	err = e.conn.QueryRow(context.Background(), "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&wal)
	return e.cluster.ProcessorTime(), wal, err
}

// A side is what is loaded in turns with another one: one server, or several.
type side struct {
	totals
	engineCPU time.Duration
	wal       int64

	targets []target
	engine  *engine
	load    *load
}

// dialAll opens so many connections to each of the servers.
func dialAll(targets []target, connections int, sc scenario) (*load, error) {
	all := &load{}
	for _, t := range targets {
		l, err := dial(t.address, connections, func() caller { return sc.caller(t) })
		if err != nil {
			all.close()
			return nil, err
		}
		all.connections = append(all.connections, l.connections...)
	}
	return all, nil
}

// slice runs the load once and adds what it did.
func (s *side) slice(d time.Duration) error {
	engineBefore, walBefore, err := s.engine.used()
	if err != nil {
		return err
	}
	before, err := s.cpuTime()
	if err != nil {
		return err
	}
	seen, err := s.load.run(d)
	if err != nil {
		return err
	}
	after, err := s.cpuTime()
	if err != nil {
		return err
	}
	engineAfter, walAfter, err := s.engine.used()
	if err != nil {
		return err
	}
	s.join(totals{
		perSecond: []float64{seen.perSecond()}, latencies: seen.latencies, cpu: after - before,
		perCPU: []float64{float64(len(seen.latencies)) / max(after-before, time.Microsecond).Seconds()},
	})
	s.engineCPU += engineAfter - engineBefore
	s.wal += walAfter - walBefore
	return nil
}

// cpuTime returns the processor time of all of its servers.
func (s *side) cpuTime() (sum time.Duration, err error) {
	for _, t := range s.targets {
		one, err := cpuTime(t.pid)
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// requests returns how many requests were answered, and at least 1.
func (s *side) requests() float64 { return float64(max(1, len(s.latencies))) }
