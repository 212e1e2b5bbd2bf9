package console

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
)

// Command returns the command "console". addData adds the flag --data, and dial finds the server that it
// names.
func Command(addData func(*cobra.Command), dial func(*cobra.Command) (*adminapi.Client, error)) *cobra.Command {
	var c Console
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Show a running server in a browser",
		Long: `Show a running server in a browser of this machine: its health, keys, verifiers, clients, audiences,
users, sessions and audit log. Before a page changes something, it says what will happen and asks.

The command prints a link. It works once, within 60 seconds, and only for the user who runs the
command: connections of other users of the machine are closed. A console that root runs through sudo
also answers the user who called sudo. With --open the link goes to xdg-open, through a file that
only this user can read; it is removed after use.

The console asks the server through the admin socket, as every other command does, so it runs as the
server's user or as root. It ends with Ctrl-C, or 30 minutes after the last page was asked for. For a
server on another machine, forward a port and run the console there with the same port:

  ssh -t -o ExitOnForwardFailure=yes -L 8421:127.0.0.1:8421 HOST \
    sudo keymill console --data DIR --listen 127.0.0.1:8421

If that server has an admin.listen, --server asks it from here, as a client.`,
		Example: `  keymill console
  keymill console --data /var/lib/keymill --open
  keymill console --data /var/lib/keymill --listen 127.0.0.1:8421`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return terminal.WithHint(terminal.Usage("unexpected argument %q", args[0]), "run %q for the usage", "keymill console --help")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&c.Listen, "listen", "127.0.0.1:0", "an address of loopback, IP:port; port 0 takes a free one")
	cmd.Flags().BoolVar(&c.Open, "open", false, "open the link with xdg-open")
	addData(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkListen(c.Listen); err != nil {
			return err
		}
		if c.Open && os.Geteuid() == 0 {
			return terminal.WithHint(terminal.Usage("--open would start the browser as root"), "run it without --open, and open the link yourself")
		}
		var err error
		if c.Server, err = dial(cmd); err != nil {
			return err
		}
		c.Out, c.Notes = cmd.OutOrStdout(), cmd.ErrOrStderr()
		return c.Run(cmd.Context())
	}
	return cmd
}

// checkListen refuses an address that other machines could reach.
func checkListen(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return terminal.Usage("--listen %q is not IP:port, such as 127.0.0.1:8421", address)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return terminal.WithHint(terminal.Usage("--listen %q is no address of loopback", address), "%s",
			fmt.Sprintf("listen on 127.0.0.1, and reach it from another machine with ssh -L (see %q)", "keymill console --help"))
	}
	if _, err := netip.ParseAddrPort(address); err != nil {
		return terminal.Usage("--listen %q needs a port from 0 to 65535", address)
	}
	return nil
}
