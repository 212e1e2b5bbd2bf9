package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"keymill/storage"
)

// An outcome is what a failed request may have done, and whether to try again.
type outcome int

const (
	refused outcome = iota // nothing was done, and an operator must act first
	again                  // nothing was done, and the next try can succeed
	lost                   // the request may have been done
)

// SQLSTATE codes that this package treats in its own way. Those that begin with KM are from schema.sql.
const (
	codeReadOnly       = "25006"
	codeLockTableFull  = "53200"
	codeDiskFull       = "53100"
	codeNoSuchTable    = "42P01"
	codeNoSuchFunction = "42883"
	codeNoRights       = "42501"
	codeNotSupported   = "0A000"
	codeTokenChanged   = "KM001"
)

// A reason is what a code of PostgreSQL means here.
type reason struct {
	text string // what is wrong, and what to do
	outcome
}

// reasons maps codes to reasons. The message of the server follows the text.
var reasons = map[string]reason{
	"28P01":            {"the server refuses the password of the role, or got none. The setting store.password_file, or --password-file of `keymill migrate`, names its file", refused},
	"28000":            {"the server does not let the role in. Look at its pg_hba.conf, and whether the role has LOGIN", refused},
	"3D000":            {"the database does not exist. Create it, and let the role own it", refused},
	codeNoRights:       {"the role lacks a right. Grant it as the last lines of `keymill migrate --print` say", refused},
	codeNoSuchTable:    {"a table of Keymill is missing. As the owner of the database, run what `keymill migrate --print` prints", refused},
	codeNoSuchFunction: {"a function of Keymill is missing. As the owner of the database, run what `keymill migrate --print` prints", refused},
	codeDiskFull:       {"the disk of the server is full", refused},
	"KM002":            {"default_transaction_isolation of the role or the database must be 'read committed'", refused},
	"KM003":            {"synchronous_commit of the role or the database must be on, remote_write or remote_apply", refused},
	codeReadOnly:       {"the server cannot write: it is a standby, or default_transaction_read_only is on", again},
	"40001":            {"the transaction conflicts with others", again},
	"40P01":            {"the transaction conflicts with others", again},
	codeLockTableFull:  {"the lock table of the server is full. Raise max_locks_per_transaction", again},
	"53300":            {"the server has too many connections. Raise max_connections or lower the number of nodes", again},
	"57014":            {"the server ended the request. Look at its statement_timeout", again},
	"55P03":            {"the server ended the request. Look at its lock_timeout", again},
	"25P03":            {"the server ended an idle transaction", again},
	codeNoStatement:    {"a statement that was prepared is gone, so a pooler stands between", again},
	codeHasStatement:   {"a statement was prepared on another connection, so a pooler stands between", again},
	codeTokenChanged:   {"the token of this node has changed", again},
}

// tableChanged is the reason of an error for which changedTable is true.
var tableChanged = reason{"a table was changed, and the statements for it are prepared again", again}

// reasonOf returns what the error means here, if that is known.
func reasonOf(e *pgconn.PgError) (r reason, known bool) {
	if changedTable(e) {
		return tableChanged, true
	}
	r, known = reasons[e.Code]
	return r, known
}

// connectFailure marks an error from before a request was sent.
type connectFailure struct{ error }

func (f connectFailure) Unwrap() error { return f.error }

// classify says what the failed request may have done.
func classify(err error) outcome {
	_, own := errors.AsType[errFunction](err)
	_, early := errors.AsType[connectFailure](err)
	server, unsent := serverError(err), early || pgconn.SafeToRetry(err)
	switch {
	case own:
		return refused
	case server != nil && (unsent || ends(server)):
		if r, known := reasonOf(server); known {
			return r.outcome
		}
		if strings.HasPrefix(server.Code, "08") || strings.HasPrefix(server.Code, "57") || strings.HasPrefix(server.Code, "53") {
			return again
		}
		return refused
	case unsent && tlsFailure(err) != "":
		return refused
	case unsent:
		return again
	}
	return lost
}

// ends reports whether the server says that the transaction was rolled back. A message that ends the
// session can come after a commit. Those of class 08 come from a pooler, which does not know.
func ends(e *pgconn.PgError) bool {
	return e.SeverityUnlocalized == "ERROR" && !strings.HasPrefix(e.Code, "08") && !strings.HasPrefix(e.Code, "57P")
}

func serverError(err error) *pgconn.PgError {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e
	}
	return nil
}

func hasCode(err error, code string) bool {
	e := serverError(err)
	return e != nil && e.Code == code
}

// cannotWrite reports whether the connection is to a server that cannot write, or not any longer.
func cannotWrite(err error) bool {
	return hasCode(err, codeReadOnly) || errors.Is(err, errStandby) || errors.Is(err, errReadOnly)
}

// A fault is one line about a database, and what it means to a caller of a Store.
type fault struct {
	line  string
	kind  error // an error of package storage
	cause error
}

func (f *fault) Error() string   { return f.line }
func (f *fault) Unwrap() []error { return []error{f.kind, f.cause} }

// fault says in one line what is wrong with which database. Nothing was written.
func (e *Engine) fault(err error) error {
	kind := storage.ErrUnavailable
	if hasCode(err, codeDiskFull) {
		kind = storage.ErrNoSpace
	}
	if _, done := errors.AsType[*fault](err); done || err == nil {
		return err
	}
	return &fault{line: fmt.Sprintf("%s: %s", e.target, explain(err)), kind: kind, cause: err}
}

// explain says what is wrong. No error of pgx contains a password, and details of the server, which can
// contain records, are left out.
func explain(err error) string {
	if s := serverError(err); s != nil {
		said := oneLine(s.Message) + " (" + s.Code + ")"
		if r, known := reasonOf(s); known {
			return r.text + ": " + said
		}
		return "the server says: " + said
	}
	if text := tlsFailure(err); text != "" {
		return text
	}
	switch {
	case errors.Is(err, errStandby):
		return "the server is a standby, or all hosts are. Name the primary"
	case errors.Is(err, errReadOnly):
		return errReadOnly.Error() + ". Turn it off"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, net.ErrClosed): // closer closes what is silent
		return "the server does not answer in time"
	}
	return "no connection: " + oneLine(rootOf(err).Error())
}

// tlsFailure says why TLS fails, or returns "".
func tlsFailure(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the certificate of the server is not accepted: " + oneLine(rootOf(err).Error()) +
			". Name its CA with sslrootcert=FILE, and the host as the certificate does"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate of the server is for another host: " + oneLine(rootOf(err).Error())
	}
	if err != nil && strings.Contains(err.Error(), "refused TLS connection") {
		return "the server does not speak TLS. Turn ssl on there"
	}
	return ""
}

// rootOf returns the innermost error, which tells what failed without the layers of pgx. Of several hosts
// it takes the first.
func rootOf(err error) error {
	for {
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			if u.Unwrap() == nil {
				return err
			}
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			if len(u.Unwrap()) == 0 {
				return err
			}
			err = u.Unwrap()[0]
		default:
			return err
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
