package postgres

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

const urlForm = "postgres://ROLE@HOST/DATABASE"

// urlParameters are the parameters that a URL can have. Others would become settings of the session, which
// poolers refuse, and which could undo what the start checks.
var urlParameters = []string{
	"host", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslnegotiation",
	"connect_timeout", "application_name", "target_session_attrs",
}

// CheckURL returns an error unless OpenEngine accepts the URL. It connects to nothing. The error never contains
// the URL.
func CheckURL(text string) error {
	_, err := poolConfig(Config{URL: text})
	return err
}

// poolConfig reads the URL. Its errors never contain the URL, because that can have a password by mistake.
func poolConfig(c Config) (*pgxpool.Config, error) {
	parameters, err := checkURL(c.URL)
	if err != nil {
		return nil, err
	}
	config, err := parse(c.URL, parameters)
	if err != nil {
		return nil, err
	}
	conn := config.ConnConfig
	if !parameters.Has("sslmode") {
		mode := "verify-full"
		if onThisMachine(&conn.Config) {
			mode = "disable"
		}
		parameters.Set("sslmode", mode)
		if config, err = parse(c.URL, parameters); err != nil {
			return nil, err
		}
		conn = config.ConnConfig
	}
	if err := checkTLS(&conn.Config); err != nil {
		return nil, err
	}
	name := cmp.Or(parameters.Get("application_name"), "keymill")
	conn.RuntimeParams = map[string]string{"application_name": name, "client_encoding": "UTF8"}
	conn.Password = ""
	conn.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn.StatementCacheCapacity, conn.DescriptionCacheCapacity = preparedStatements, 0 // see query
	conn.ValidateConnect = refuseReadOnly
	if limit := c.Deadline / 2; conn.ConnectTimeout == 0 || conn.ConnectTimeout > limit {
		conn.ConnectTimeout = limit
	}
	conn.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler { return closer{c} }
	config.PingTimeout = c.Deadline / 4
	config.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
		d := dialer{dialer: net.Dialer{KeepAliveConfig: keepAlive}}
		conn.DialFunc, conn.AfterConnect = d.dial, d.connected
		if c.Password == nil {
			return nil
		}
		password, err := c.Password()
		conn.Password = password
		return err
	}
	return config, nil
}

// checkURL returns the parameters of the URL.
func checkURL(text string) (url.Values, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		return nil, errors.New("the URL of the database must have the form " + urlForm)
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, database, _ := strings.Cut(rest, "/")
	user := ""
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, authority = authority[:at], authority[at+1:]
	}
	if strings.Contains(user, ":") {
		return nil, errors.New("the URL of the database must not contain a password, because URLs are printed and logged. Give it in a file, a credential or a variable")
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("the parameters of the URL of the database cannot be read: they must have the form NAME=VALUE&NAME=VALUE")
	}
	for name := range parameters {
		if name == "password" || name == "sslpassword" || name == "passfile" {
			return nil, fmt.Errorf("the URL of the database must not have the parameter %s. Give the password in a file, a credential or a variable", name)
		}
	}
	if user == "" && !parameters.Has("user") {
		return nil, errors.New("the URL of the database does not name a role. It must have the form " + urlForm)
	}
	if database == "" && !parameters.Has("dbname") {
		return nil, errors.New("the URL of the database does not name a database. It must have the form " + urlForm)
	}
	if authority == "" && !parameters.Has("host") {
		return nil, errors.New("the URL of the database does not name a host. It must have the form " + urlForm +
			", or postgres://ROLE@/DATABASE?host=DIRECTORY for a Unix socket")
	}
	if mode := parameters.Get("target_session_attrs"); mode != "" && mode != "read-write" && mode != "primary" {
		return nil, fmt.Errorf("target_session_attrs is %s in the URL of the database, but a store must write: use read-write, or leave it out", mode)
	}
	return parameters, nil
}

// parse reads the URL with these parameters instead of its own. Parameters that are missing are
// empty, so that neither variables nor files of libpq fill them in.
func parse(text string, parameters url.Values) (*pgxpool.Config, error) {
	all := url.Values{"sslrootcert": {""}, "sslcert": {""}, "sslkey": {""}, "passfile": {""}, "sslpassword": {""}, "target_session_attrs": {"any"}}
	for name, values := range parameters {
		all[name] = values
	}
	allowed := append([]string{"passfile", "sslpassword", "database"}, urlParameters...)
	before, _, _ := strings.Cut(text, "?")
	conn, err := pgx.ParseConfigWithOptions(before+"?"+all.Encode(), pgx.ParseConfigOptions{
		ParseConfigOptions: pgconn.ParseConfigOptions{ConnStringAllowedKeys: allowed},
	})
	if err != nil {
		return nil, unreadable(err, parameters)
	}
	config, err := pgxpool.ParseConfig("postgres://keymill@localhost/keymill?sslmode=disable") // the settings of the pool
	if err != nil {
		return nil, errors.New("the variables of libpq, such as PGSERVICE, cannot be read. Remove them")
	}
	config.ConnConfig = conn
	return config, nil
}

// unreadable says which part of the URL is wrong, without any text of the URL except known names.
func unreadable(err error, parameters url.Values) error {
	for name := range parameters {
		if !slices.Contains(urlParameters, name) {
			return fmt.Errorf("the URL of the database has the parameter %q, which is not one of %s", name, strings.Join(urlParameters, ", "))
		}
	}
	for _, name := range []string{"sslrootcert", "sslcert", "sslkey"} {
		if file := parameters.Get(name); file != "" && strings.Contains(err.Error(), "TLS") {
			return fmt.Errorf("a certificate that the URL of the database names cannot be used: %s=%s: %w", name, file, rootOf(err))
		}
	}
	return errors.New("the URL of the database cannot be read. It must have the form " + urlForm + ", with numbers as ports and a valid sslmode")
}

// checkTLS refuses connections to other machines that do not check who answers. Records are sealed, but
// an attacker who answers in place of the database could acknowledge commits that are not stored and
// show earlier versions of records. sslmode=require and verify-ca do not prevent that.
func checkTLS(c *pgconn.Config) error {
	for host, config := range hosts(c) {
		if local(host) || config != nil && !config.InsecureSkipVerify && config.ServerName != "" {
			continue
		}
		return fmt.Errorf("the connection to %s would not prove that it reaches the database: only sslmode=verify-full does. Leave sslmode out, and name the CA with sslrootcert=FILE if the system does not know it", host)
	}
	return nil
}

// hosts yields each host of the configuration with its TLS, which is nil for a connection without.
func hosts(c *pgconn.Config) func(func(string, *tls.Config) bool) {
	return func(yield func(string, *tls.Config) bool) {
		if !yield(c.Host, c.TLSConfig) {
			return
		}
		for _, f := range c.Fallbacks {
			if !yield(f.Host, f.TLSConfig) {
				return
			}
		}
	}
}

func onThisMachine(c *pgconn.Config) bool {
	for host := range hosts(c) {
		if !local(host) {
			return false
		}
	}
	return true
}

// local reports whether connections to the host do not leave this machine.
func local(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" { // RFC 6761, section 6.3
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// targetOf names the role, the hosts and the database.
func targetOf(c *pgx.ConnConfig) string {
	var names []string
	last := ""
	for i, f := range append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}, c.Fallbacks...) {
		name := f.Host
		if !strings.HasPrefix(name, "/") {
			name = net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port)))
		}
		if i == 0 || name != last { // a host is listed twice if it is tried with TLS and without
			names = append(names, name)
		}
		last = name
	}
	return fmt.Sprintf("PostgreSQL %s@%s/%s", c.User, strings.Join(names, ","), c.Database)
}

// keepAlive finds a host that is gone, below a connection that is idle, within about 20 s.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 3 * time.Second, Count: 3}

// A dialer makes one connection. pgx dials again to send a cancel request when it gives a connection up,
// and the dialer refuses that.
type dialer struct {
	dialer net.Dialer
	used   atomic.Bool
}

var errNoCancel = errors.New("a request is never canceled")

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.used.Load() {
		return nil, errNoCancel
	}
	return d.dialer.DialContext(ctx, network, address)
}

func (d *dialer) connected(context.Context, *pgconn.PgConn) error {
	d.used.Store(true)
	return nil
}

// A closer closes a connection when the context of its request ends. pgx would wait for the server
// before it frees the connection's place in the pool.
type closer struct{ conn *pgconn.PgConn }

func (c closer) HandleCancel(context.Context) { c.conn.Conn().Close() }
func (closer) HandleUnwatchAfterCancel()      {}

// Errors of connections that would be of no use.
var (
	errStandby  = errors.New("the server is a standby")
	errReadOnly = errors.New("default_transaction_read_only is on for the role, the database or the server")
)

// refuseReadOnly makes pgx try the next host if this one cannot write. It marks a connection to the server itself.
func refuseReadOnly(ctx context.Context, c *pgconn.PgConn) error {
	const facts = `SELECT pg_catalog.pg_is_in_recovery()::text, pg_catalog.current_setting('default_transaction_read_only'), pg_catalog.pg_backend_pid()::text`
	r := c.ExecParams(ctx, facts, nil, nil, nil, nil).Read()
	switch {
	case r.Err != nil:
		return r.Err
	case len(r.Rows) != 1:
		return errors.New("the server does not answer as PostgreSQL does")
	case string(r.Rows[0][0]) != "false":
		return errStandby
	case string(r.Rows[0][1]) != "off":
		return errReadOnly
	}
	markDirect(c, string(r.Rows[0][2]))
	return nil
}
