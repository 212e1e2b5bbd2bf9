package postgres

import (
	"strings"
	"testing"
	"time"
)

// TestAnURLSaysOnlyWhatIsSafe: what it must say, and what it must not.
func TestAnURLSaysOnlyWhatIsSafe(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"", "must have the form postgres://ROLE@HOST/DATABASE"},
		{"host=db user=keymill", "must have the form"},
		{"mysql://keymill@db/keymill", "must have the form"},
		{"postgres://keymill:hunter2@db/keymill", "must not contain a password"},
		{"postgres://keymill:@db/keymill", "must not contain a password"},
		{"postgres://keymill@db/keymill?password=hunter2", "must not have the parameter password"},
		{"postgres://keymill@db/keymill?sslpassword=hunter2", "must not have the parameter sslpassword"},
		{"postgres://keymill@db/keymill?passfile=/etc/pgpass", "must not have the parameter passfile"},
		{"postgres://db/keymill", "does not name a role"},
		{"postgres://keymill@db", "does not name a database"},
		{"postgres://keymill@/keymill", "does not name a host"},
		{"postgres://keymill@db/keymill?options=-csynchronous_commit%3Doff", `parameter "options"`},
		{"postgres://keymill@db/keymill?search_path=mine", `parameter "search_path"`},
		{"postgres://keymill@db/keymill?service=mine", `parameter "service"`},
		{"postgres://keymill@db/keymill?%zz", "NAME=VALUE"},
		{"postgres://keymill@db:hunter2/keymill", "cannot be read"},
		{"postgres://keymill@db/keymill?sslmode=hunter2", "valid sslmode"},
		{"postgres://keymill@db/keymill?target_session_attrs=standby", "must write"},
		{"postgres://keymill@db/keymill?sslrootcert=/absent.pem", "sslrootcert=/absent.pem: no such file"},
		{"postgres://keymill@db/keymill?sslmode=disable", "only sslmode=verify-full"},
		{"postgres://keymill@db/keymill?sslmode=prefer", "only sslmode=verify-full"},
		{"postgres://keymill@db/keymill?sslmode=require", "only sslmode=verify-full"},
		{"postgres://keymill@db/keymill?sslmode=verify-ca", "only sslmode=verify-full"},
		{"postgres://keymill@127.0.0.1,db/keymill?sslmode=disable", "the connection to db would not prove"},
		{"postgres://keymill@127.0.0.1.example/keymill?sslmode=disable", "only sslmode=verify-full"},
	} {
		_, err := poolConfig(Config{URL: tt.url, Deadline: time.Second})
		if err == nil {
			t.Errorf("%s is accepted", tt.url)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %q, want %q", tt.url, err, tt.want)
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is not one line without the password: %q", tt.url, err)
		}
	}
}

// TestConnectionsToOtherMachinesProveWhoAnswers, with no parameter, and whatever the variables of libpq say.
func TestConnectionsToOtherMachinesProveWhoAnswers(t *testing.T) {
	t.Setenv("PGSSLMODE", "disable")
	t.Setenv("PGPASSWORD", "hunter2")
	t.Setenv("PGOPTIONS", "-c synchronous_commit=off")
	for _, tt := range []struct {
		url    string
		tls    string // the name that certificates must have, or "" for no TLS
		target string
	}{
		{"postgres://keymill@db.example.com/tokens", "db.example.com", "PostgreSQL keymill@db.example.com:5432/tokens"},
		{"postgresql://keymill@db:5433/tokens?sslmode=verify-full", "db", "PostgreSQL keymill@db:5433/tokens"},
		{"postgres://keymill@a,b:5433/tokens", "a", "PostgreSQL keymill@a:5432,b:5433/tokens"},
		{"postgres://keymill@192.0.2.1/tokens", "192.0.2.1", "PostgreSQL keymill@192.0.2.1:5432/tokens"},
		{"postgres://keymill@localhost/tokens", "", "PostgreSQL keymill@localhost:5432/tokens"},
		{"postgres://keymill@localhost/tokens?sslmode=verify-full", "localhost", "PostgreSQL keymill@localhost:5432/tokens"},
		{"postgres://keymill@127.8.8.8/tokens", "", "PostgreSQL keymill@127.8.8.8:5432/tokens"},
		{"postgres://keymill@[::1]/tokens", "", "PostgreSQL keymill@[::1]:5432/tokens"},
		{"postgres://keymill@/tokens?host=/run/postgresql", "", "PostgreSQL keymill@/run/postgresql/tokens"},
	} {
		c, err := poolConfig(Config{URL: tt.url, Deadline: time.Second})
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		conn := c.ConnConfig
		switch {
		case tt.tls == "" && conn.TLSConfig != nil:
			t.Errorf("%s speaks TLS", tt.url)
		case tt.tls != "" && (conn.TLSConfig == nil || conn.TLSConfig.InsecureSkipVerify || conn.TLSConfig.ServerName != tt.tls):
			t.Errorf("%s does not check that the certificate is for %s", tt.url, tt.tls)
		}
		if got := targetOf(conn); got != tt.target {
			t.Errorf("%s is called %q, want %q", tt.url, got, tt.target)
		}
		if conn.Password != "" || len(conn.RuntimeParams) != 2 {
			t.Errorf("%s takes settings of variables: %v", tt.url, conn.RuntimeParams)
		}
	}
}
