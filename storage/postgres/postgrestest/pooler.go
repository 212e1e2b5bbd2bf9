package postgrestest

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"keymill/integration_test/freeport"
)

// A Pooler is a pgbouncer in transaction mode in front of a cluster.
type Pooler struct {
	Port int

	cluster *Cluster
	process *exec.Cmd
}

// Pooler starts a pgbouncer until the test ends. It has at most four connections for each role and
// database, which is fewer than an engine opens.
func (c *Cluster) Pooler(t testing.TB) *Pooler {
	t.Helper()
	if _, err := exec.LookPath("pgbouncer"); err != nil {
		need(t, errMissing)
	}
	port, err := freeport.Range(1)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pooler{Port: port, cluster: c}
	text := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
server_tls_sslmode = disable
`, c.Port, Role, p.Port)
	if err := c.write(p.config(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	t.Cleanup(p.stop)
	return p
}

func (p *Pooler) config() string { return "pgbouncer-" + strconv.Itoa(p.Port) + ".ini" }

// URL returns the URL of a database for Role.
func (p *Pooler) URL(database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s", Role, p.Port, database)
}

// Restart kills the pooler, with all connections, and starts it again.
func (p *Pooler) Restart(t testing.TB) {
	t.Helper()
	p.stop()
	p.start(t)
}

func (p *Pooler) start(t testing.TB) {
	t.Helper()
	p.process = exec.Command("pgbouncer", "-q", p.cluster.file(p.config()))
	p.process.Dir = p.cluster.dir
	p.process.SysProcAttr = &syscall.SysProcAttr{Credential: p.cluster.as, Pdeathsig: syscall.SIGKILL}
	if err := p.process.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(startLimit)
	for {
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(p.Port))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("pgbouncer did not start: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *Pooler) stop() {
	_ = p.process.Process.Kill()
	_ = p.process.Wait()
}
