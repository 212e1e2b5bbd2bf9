package main

import (
	"fmt"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/serve"
)

func serveCommand() *cobra.Command {
	var file string
	var dev, trialTLS, init, acceptNewIssuer bool
	var acceptOlder string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the token server",
		Long:  serveManual(),
		Example: `  keymill serve --dev
  keymill serve --dev --tls
  keymill serve --config /etc/keymill/keymill.yaml
  keymill serve --data /var/lib/keymill --issuer https://id.example.com
  keymill serve --init --data /var/lib/keymill --issuer https://id.example.com
  KEYMILL_LOG_FORMAT=json keymill serve --config keymill.yaml`,
		Args: arguments(),
	}
	f := cmd.Flags()
	addConfigFlag(cmd, &file)
	f.BoolVar(&dev, "dev", false, "run a trial server on loopback, with test clients")
	f.BoolVar(&trialTLS, "tls", false, "with --dev: speak TLS with a certificate of a CA of its own")
	f.BoolVar(&init, "init", false, "create the store if there is none, for a first start")
	f.BoolVar(&acceptNewIssuer, "accept-new-issuer", false, "serve the store with another issuer than the last time")
	f.StringVar(&acceptOlder, "accept-older-store", "", "serve an older store and end all sessions; its refusal has `TOKEN`")
	f.Var(new(dirName), "data", "directory of the store, which keymill init creates")
	f.String("listen", "", "public address, host:port")
	f.String("issuer", "", "the URL that tokens name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		// Go would end the process as soon as it writes to a stdout or stderr without a reader.
		signal.Ignore(syscall.SIGPIPE)
		given := commandline.GivenFlags(cmd, "data", "listen", "issuer")
		load := func() (*config.Config, error) {
			c, err := config.Load(file, given, dev)
			if err != nil {
				return nil, err
			}
			c.TrialTLS = trialTLS
			return c, c.Check()
		}
		c, err := load()
		if err != nil {
			return err
		}
		return serve.Run(cmd.Context(), serve.Options{
			Config: c, Version: release, Out: cmd.OutOrStdout(), Log: cmd.ErrOrStderr(),
			Init: init, AcceptNewIssuer: acceptNewIssuer, AcceptOlder: acceptOlder, Reload: load,
		})
	}
	return cmd
}

func serveManual() string {
	var b strings.Builder
	b.WriteString(`Run the token server until SIGTERM or SIGINT. It finishes the requests in flight first.
On SIGHUP it reads the configuration again and applies log.level, http.trusted_proxies, the
webhook's secret and the TLS files, all or none of them; with --dev it stops.

Without --dev it needs an https issuer, a master key, which encrypts the keys at rest, and the
store that "keymill init" creates. --init creates the store if there is none; use it for a first
start only. With database_id set, a server refuses every other store and creates none.

The server also refuses a store that was last served with another issuer, because services that
expect the old issuer refuse the new tokens. --accept-new-issuer allows the change, once.

With --dev it needs no configuration: it listens on loopback only, keeps its own master key
in its data directory, creates test clients and a test user, and prints commands to paste. A
store that --dev created can be served only with --dev, and --dev serves no other store. With
--tls it speaks https, for software that refuses http. Its certificate is of a CA in the data
directory, and it prints the lines that let other programs trust that CA.

Each setting is a key in the YAML file ("keys: {rotate_every: 30d}") and an environment
variable. A flag overrides the environment, and the environment overrides the file. Write
durations like 90s, 15m, 12h or 30d. In the environment, lists are separated by commas.
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
