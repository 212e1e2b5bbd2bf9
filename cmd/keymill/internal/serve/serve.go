// Package serve opens a server in order, runs it, and closes it in the opposite order.
//
//	public port, metrics port ── data directory, lock ── store ── keys ── issuer ── endpoints ── admin socket
//
// What can fail without changing the disk is opened first, so that a start that fails
// leaves the data directory as it was. Only Init, Options.Init and --dev create a store: another
// start without one is refused before it creates anything. A data directory DIR (mode 0700, or
// another user's directory that is not world-writable) holds:
//
//	lock             locked while a server, doctor or compact works on DIR
//	keymill.db       the store
//	keymill.mark     how long the store has been served, unless store.mark_file names another file
//	keymill.revoked  the keys that were ever revoked, for a restore; beside the mark
//	admin.sock       the admin API; the peer must be the server's user or root
//	dev-master-key   only with --dev: the master key, created at the first start
//	dev-ca.pem and three more, see trialca: only with --dev --tls
//	dev-credentials  only with --dev: issuer, client secrets and a password, JSON
//
// With --dev the server is a trial server: package serve creates audiences, clients and a
// user to try things with, and prints their credentials and commands to paste. No other
// package prints secrets or stores them unencrypted.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/collector"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/systemd"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/keystore"
	"keymill/storage"
)

// Options say what to serve.
type Options struct {
	Config  *config.Config // checked
	Version string         // of the program, for metrics, the admin API and the audit log
	Out     io.Writer      // gets what --dev prints
	Log     io.Writer      // may block or fail, which costs log lines and nothing else

	Init            bool   // create the store if there is none
	AcceptNewIssuer bool   // serve the store even if it was last served with another issuer
	AcceptOlder     string // the token that accepts an older copy of the store; "" accepts none

	// Reload reads the configuration again and checks it. It is called after SIGHUP.
	Reload func() (*config.Config, error)
}

// Run serves until ctx ends, a signal stops it (see catchSignals), or something that the server
// cannot work without fails. Only the last is an error. Run prints it to o.Log and returns
// terminal.ErrSilent, because printing it elsewhere could block the end of the process.
func Run(ctx context.Context, o Options) error {
	s := &server{
		serving: make(chan struct{}), manager: systemd.FromEnvironment(),
		config: o.Config, version: o.Version,
		create: o.Init || o.Config.Dev, createdBy: "system", acceptNewIssuer: o.AcceptNewIssuer, acceptOlder: o.AcceptOlder,
	}
	s.level.Set(o.Config.LogLevel)
	s.log, s.queue = newLog(o.Config.LogFormat, &s.level, o.Log)
	defer s.queue.Close()
	slog.SetDefault(s.log) // for what libraries print with package log, so that it has the format too
	if err := s.serve(ctx, o); err != nil {
		s.reportEnd(namedfile.DeniedAnywhere(err))
		return terminal.ErrSilent
	}
	return nil
}

// reportEnd writes the error that ends the server. In a log of JSON it is a line of JSON, because a
// collector may drop any other line.
func (s *server) reportEnd(err error) {
	if s.config.LogFormat != "json" {
		terminal.Report(s.queue, err)
		return
	}
	attrs := []any{"error", terminal.OneLine(terminal.Plain(err))}
	if hint := terminal.HintOf(err); hint != "" {
		attrs = append(attrs, "hint", terminal.OneLine(hint))
	}
	s.log.Error("the server cannot start or go on", attrs...)
}

func (s *server) serve(ctx context.Context, o Options) error {
	if links := s.config.ServiceLinks(); len(links) > 0 {
		s.log.Debug("ignoring variables that Kubernetes sets for its Services", "variables", strings.Join(links, " "))
	}
	defer collector.Follow()()
	if err := s.readSecrets(); err != nil {
		return err
	}
	// Signals are caught only from here on, because the master key may come from a FIFO. A
	// start that still waits for its key has nothing to clean up, so the default action of the
	// signal may end it.
	ctx, cancel := s.catchSignals(ctx, o.Reload)
	defer cancel()
	if err := s.open(ctx); err != nil {
		s.close()
		return s.unlessStopped(ctx, err)
	}
	if s.config.Dev {
		if err := s.welcome(o.Out); err != nil {
			s.close()
			return err
		}
	}
	s.warnOfPlainHTTP()
	s.warnOfMetrics()
	return s.run(ctx)
}

// unlessStopped returns nil if a signal ended the opening: it was asked to stop, and nothing is wrong.
func (s *server) unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		s.log.Info("stopped before the server was open")
		return nil
	}
	return err
}

func (s *server) readSecrets() (err error) {
	if !s.config.Dev {
		if err := s.readMasterKey(); err != nil {
			return err
		}
	}
	if _, err := s.config.StorePassword(); err != nil {
		return err
	}
	s.secret, err = s.config.WebhookSecret()
	return err
}

func (s *server) readMasterKey() (err error) {
	if err := Harden(); err != nil {
		return err
	}
	if s.master, err = s.config.MasterKey(); config.IsWeakKey(err) {
		return s.weakKeyFault(err)
	}
	return err
}

// weakKeyFault returns what is wrong first with a weak master key: that it does not open the store, if it
// does not. Only the key of the store can be changed.
func (s *server) weakKeyFault(weak error) error {
	file, err := openstore.OpenReadOnly(context.Background(), s.config)
	if err != nil {
		return weak // there is no store, or a server has it
	}
	defer file.Close()
	return WeakKeyFault(context.Background(), file, s.master, weak)
}

// WeakKeyFault returns weak, or an error that the weak master key does not open the store.
func WeakKeyFault(ctx context.Context, file storage.Store, key keystore.MasterKey, weak error) error {
	if _, err := keystore.Unlock(ctx, file, key); errors.Is(err, keystore.ErrMasterKey) {
		return fmt.Errorf("%w; besides, %s", err, terminal.Plain(weak))
	}
	return weak
}

// Harden protects the keys in memory from other processes and from crash files: no core
// file, no ptrace by the same user, /proc/PID/environ and /proc/PID/mem for root alone.
func Harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot make the process undumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot disable core files: %w", err)
	}
	return nil
}
