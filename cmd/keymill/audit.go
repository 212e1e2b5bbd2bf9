package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/auditlog"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

func auditCommand() *cobra.Command {
	cmd := group("audit", "Read the audit log", `
Every change to keys, audiences, clients, users and sessions writes an audit record in the
same transaction. Read them to find out who changed what, and when. Each record holds the
hash of the one before it, and "keymill doctor" checks the chain.`)
	cmd.Example = "  keymill audit tail -n 20"
	addServerFlags(cmd)
	cmd.AddCommand(auditTailCommand())
	return cmd
}

func auditTailCommand() *cobra.Command {
	t := &auditlog.Tail{}
	var out auditlog.Printer
	var file string
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print audit records, oldest first",
		Long: `Print audit records, oldest first. A line shows the number, the time, the action, who did it, on
what, and details. With --json each record is one line of JSON, as it is stored: the SHA-256 of a
line without its line break is "previous" of the next one.

Without --since and --all these are the newest records, as many as -n says. With --since TIME or
--all these are all. TIME is an instant in RFC 3339 or a duration back from now: 2h, 7d. --until
ends before its TIME. --user takes a name or an id, also a former name or that of a user who was
removed, if one of the newest 10,000 records says whose it was. --client takes an id. They select
records that were made by the user or client or are about it. --action takes an action or its first
part: "key" stands for key.rotate, key.revoke and all others of keys.

With --store FILE the command reads the store of a stopped server, or a copy, and changes
nothing. FILE can also be the URL of a database that servers share, and they can run. It needs the master key to verify it, and finds it as doctor does: with --config FILE,
$KEYMILL_MASTER_KEY_FILE, or in the unit of systemd. Without it, or if the key or the hash chain is
wrong, each record is marked "unverified". A record without a number was not in the chain yet when
the server ended.`,
		Example: `  keymill audit tail -n 20
  keymill audit tail -f
  keymill audit tail --since 2h --user alice
  keymill audit tail --action session.replay --since 7d --until 2027-01-31T00:00:00Z
  keymill audit tail --client web --all --json | jq -c 'select(.action | startswith("session."))'
  keymill audit tail --store /var/lib/keymill/keymill.db --config /etc/keymill/keymill.yaml --all`,
		Args: arguments(),
	}
	cmd.Flags().IntVarP(&t.Newest, "lines", "n", 20, "how many of the newest records to print, at most 1000")
	cmd.Flags().BoolVarP(&t.Follow, "follow", "f", false, "print new records as they come, until interrupted")
	cmd.Flags().BoolVar(&t.All, "all", false, "print all records, not only the newest")
	cmd.Flags().String("since", "", "only records from this time on (RFC 3339, or a duration back from now)")
	cmd.Flags().String("until", "", "only records before this time")
	cmd.Flags().String("user", "", "only records of the user with this name or id")
	cmd.Flags().String("client", "", "only records of the client with this id")
	cmd.Flags().String("action", "", "only records with this action, or with this first part of it")
	cmd.Flags().String("store", "", "read this `FILE` of a stopped server, a copy, or a postgres:// URL")
	addConfigFlag(cmd, &file)
	cmd.Flags().Lookup("config").Usage = "with --store: the server's YAML file, which names the master key (or $KEYMILL_CONFIG)"
	addJSONFlag(cmd, &out.JSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given, err := commandline.GivenQuery(cmd, "since", "until", "user", "client", "action", "store")
		if err != nil {
			return err
		}
		t.Bounded = cmd.Flags().Changed("lines")
		if err := t.Select(given, time.Now()); err != nil {
			return err
		}
		out.Out = cmd.OutOrStdout()
		if path := given.Get("store"); path != "" {
			return tailStore(cmd, t, out, path, file)
		}
		server, err := dial(cmd)
		if err != nil {
			return err
		}
		if err := warnOfLog(cmd, server); err != nil {
			return err
		}
		t.Source, t.Print = server.Audit, out.Print
		return t.Run(cmd.Context(), cmd.ErrOrStderr())
	}
	return cmd
}

// warnOfLog says what the server knows to be wrong with the log: records that are missing from its
// beginning, for example, are not among those that are printed.
func warnOfLog(cmd *cobra.Command, server *adminapi.Client) error {
	status, _, err := adminapi.Ask[api.Status](cmd.Context(), server, http.MethodGet, "status", nil)
	for _, w := range status.Warnings {
		if w.Check == "audit" {
			terminal.Warn(cmd.ErrOrStderr(), "%s", w.Detail)
		}
	}
	return err
}

// tailStore reads a file. Without a master key it only says that nothing was verified. Any other reason
// is an error, after the records.
func tailStore(cmd *cobra.Command, t *auditlog.Tail, out auditlog.Printer, path, file string) error {
	c, err := config.Load(file, nil, false)
	if err != nil {
		return err
	}
	store, err := auditlog.OpenStore(cmd.Context(), path, c)
	if err != nil {
		return err
	}
	defer store.Close()
	out.Unverified = store.Unverified != nil
	t.Source, t.Print = store.Read, out.Print
	if err := t.Run(cmd.Context(), cmd.ErrOrStderr()); err != nil {
		return err
	}
	if errors.Is(store.Unverified, diagnose.ErrNotInUnit) {
		fmt.Fprintln(cmd.ErrOrStderr(), "the records are not verified: give the server's --config, or KEYMILL_MASTER_KEY_FILE")
		return nil
	}
	if store.Unverified != nil {
		return fmt.Errorf("the records are not verified: %w", store.Unverified)
	}
	return nil
}
