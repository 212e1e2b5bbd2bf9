package main

import (
	"time"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/healthcheck"
	"keymill/cmd/keymill/internal/terminal"
)

func healthcheckCommand() *cobra.Command {
	var check healthcheck.Check
	var timeout string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the running server whether it is ready",
		Long: `Ask the running server for /readyz, and end with code 0 if it is ready and with 1 if it is not, or
gives no answer. One line says why. A usage error ends with code 2, as with every command; Docker takes
that for unhealthy too. It is meant for images without curl:

  HEALTHCHECK CMD ["/keymill", "healthcheck"]

The address is that of the server's settings: listen in the file of --config, in the variable
KEYMILL_LISTEN, or --listen. A server that listens on every address is asked on loopback. If
tls.cert_file is set, the check speaks TLS and does not verify the certificate: the address is one
of this machine, and no secret is sent. --url names another address; its certificate is verified.

With --data the server is asked over its admin socket, which says why it is not ready. The socket
answers only the server's user and root. --live asks whether the server answers, ready or not: use it to
decide about a restart.`,
		Example: `  keymill healthcheck
  keymill healthcheck --config /etc/keymill/keymill.yaml --timeout 1s
  keymill healthcheck --data /var/lib/keymill --json
  keymill healthcheck --live --listen 127.0.0.1:8420`,
		Args: arguments(),
	}
	f := cmd.Flags()
	addConfigFlag(cmd, &check.File)
	f.StringVar(&check.Listen, "listen", "", "the server's public address, host:port")
	f.StringVar(&check.URL, "url", "", "the server's URL, such as its issuer, in place of its address")
	f.Var((*dirName)(&check.Data), "data", "the server's data directory: ask over the admin socket")
	f.BoolVar(&check.Live, "live", false, "ask whether it answers, not whether it is ready")
	f.StringVar(&timeout, "timeout", "3s", "how long to wait for the answer")
	addJSONFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if check.Timeout, err = config.ParseDuration(timeout); err != nil || check.Timeout < time.Millisecond {
			return terminal.Usage("--timeout %q is not a duration like 3s", timeout)
		}
		if given := len(commandline.GivenFlags(cmd, "listen", "url", "data")); given > 1 {
			return terminal.Usage("--listen, --url and --data exclude each other")
		}
		healthy, err := check.Run(cmd.Context())
		if err != nil {
			return err
		}
		return commandline.SayOrJSON(cmd, asJSON, map[string]any{"server": healthy}, "%s", healthy)
	}
	return cmd
}
