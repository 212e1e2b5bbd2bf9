package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/keystore"
)

func serveCommand() *cobra.Command {
	var file string
	var dev bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the token server",
		Long:  serveManual(),
		Example: `  keymill serve --dev
  keymill serve --config /etc/keymill.yaml
  keymill serve --data /var/lib/keymill --issuer https://id.example.com
  KEYMILL_LOG_FORMAT=json keymill serve --config keymill.yaml`,
		Args: arguments(),
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", os.Getenv("KEYMILL_CONFIG"), "YAML file with settings (or $KEYMILL_CONFIG)")
	f.BoolVar(&dev, "dev", false, "a trial server on loopback: own keys, ready clients, lines to paste")
	f.Var(new(dirName), "data", "directory of the store; made if absent")
	f.String("listen", "", "public address, host:port")
	f.String("issuer", "", "the URL that tokens name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := config.Load(file, givenFlags(cmd, "data", "listen", "issuer"), dev)
		if err != nil {
			return err
		}
		if err := c.Check(); err != nil {
			return err
		}
		return serve(cmd, c)
	}
	return cmd
}

// givenFlags returns the settings that were typed.
func givenFlags(cmd *cobra.Command, names ...string) map[string]string {
	given := map[string]string{}
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			given[name] = f.Value.String()
		}
	}
	return given
}

// serve runs the server until a signal ends it.
func serve(cmd *cobra.Command, c *config.Config) error {
	log := newLogger(c, cmd.ErrOrStderr())
	collectLess()
	var master keystore.MasterKey
	if !c.Dev {
		if err := harden(); err != nil {
			return err
		}
		var err error
		if master, err = c.MasterKey(); err != nil {
			return err
		}
	}
	secret, err := c.WebhookSecret()
	if err != nil {
		return err
	}
	// Only now, as the master key may come from a FIFO: a start that waits for it has
	// nothing to finish, and a signal ends it as the system would.
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s := &server{config: c, log: log, master: master, secret: secret}
	if err := s.open(ctx); err != nil {
		s.close()
		return err
	}
	if c.Dev {
		if err := printWelcome(cmd.OutOrStdout(), c); err != nil {
			s.close()
			return err
		}
	}
	return s.run(ctx, stop)
}

// collectLess lets the heap grow to three times what is alive instead of twice. So little
// of it is alive, some 5 MB, that under load the collector would run 40 times a second,
// and a tenth of all the work would be its own. GOGC goes before it.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

// harden keeps the keys in memory from other processes and from crash files: no core, no
// ptrace by the same user, /proc/PID/environ and /proc/PID/mem for root alone.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot make the process undumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot forbid core files: %w", err)
	}
	return nil
}

func newLogger(c *config.Config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// listen takes the public port. It comes before the store is opened, so that a port in
// use is found while nothing has changed on disk; early connections wait in the backlog.
func listen(c *config.Config) (net.Listener, error) {
	l, err := net.Listen("tcp", c.Listen)
	if err == nil {
		return l, nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	err = c.Wrong("listen", "cannot listen on %s: %v", c.Listen, err)
	if errors.Is(errno, syscall.EADDRINUSE) {
		return nil, terminal.WithHint(err, "another program has the port; stop it, or choose another with --listen HOST:PORT")
	}
	return nil, err
}

func serveManual() string {
	var b strings.Builder
	b.WriteString(`Run the token server until SIGTERM or SIGINT; requests in flight are finished first.

Without --dev it needs an https issuer and a master key, which seals the keys at rest.
With --dev it needs nothing: it listens on loopback only, keeps its own master key in its
data directory, makes clients to try things with, and prints lines to paste. A store that
--dev made is served with --dev only, and no other store is.

Each setting is a key of the YAML file ("keys: {rotate_every: 30d}") and a variable of the
environment; a flag goes before the environment, the environment before the file.
Durations are written like 90s, 15m, 12h or 30d; lists in the environment with commas.
`)
	for _, s := range config.Settings() {
		fmt.Fprintf(&b, "\n  %s  (%s)\n", s.Key, s.Variable())
		for _, line := range wrap(s.Help, 82) {
			fmt.Fprintf(&b, "      %s\n", line)
		}
		switch {
		case s.Default != "" && s.DevDefault != "":
			fmt.Fprintf(&b, "      default: %s, with --dev %s\n", s.Default, s.DevDefault)
		case s.Default != "":
			fmt.Fprintf(&b, "      default: %s\n", s.Default)
		case s.DevDefault != "":
			fmt.Fprintf(&b, "      default: none, with --dev %s\n", s.DevDefault)
		}
	}
	return strings.TrimSpace(b.String())
}

// wrap breaks text at spaces into lines of at most width bytes.
func wrap(text string, width int) []string {
	var lines []string
	var line string
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
