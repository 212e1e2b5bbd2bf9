package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

func clientCommand() *cobra.Command {
	cmd := group("client", "Manage the programs that ask for tokens", `
A client is a program that asks for tokens. A confidential client has a secret, which is shown
once, when the client is added. A public client (a page in a browser, an app) has none.`)
	cmd.Example = "  keymill client add billing --grant client_credentials --audience orders --scope read --json\n  keymill client list"
	addServerFlags(cmd)
	cmd.AddCommand(
		clientAddCommand(), clientSetCommand(), clientListCommand(), clientShowCommand(), clientRotateSecretCommand(),
		clientSwitchCommand("enable", "Let a disabled client ask for tokens again",
			"Let a disabled client ask for tokens again, with the same secret as before.", false),
		clientSwitchCommand("disable", "End a client's sessions and refuse its requests",
			"End every session of a client, and refuse its requests until it is enabled again. Access\ntokens that exist stay valid until they expire.", true),
		clientRemoveCommand(),
	)
	return cmd
}

func clientAddCommand() *cobra.Command {
	var given clientFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Add a client and print its secret once",
		Long: `Add a client. For a service of your own, allow the grant client_credentials. For a front end
through which users log in, allow refresh_token and make it --public, because a page or an app
cannot keep a secret; --origin names where its pages come from, as a browser writes it: scheme,
host and port. Pages on another site than the issuer cannot use the login with a cookie
(/session/login); the command warns about them. An app or an extension has an origin such as
capacitor://localhost. For an API that asks /introspect about tokens, give --introspect with the
API's audience.`,
		Example: `  keymill client add billing --grant client_credentials --audience orders --scope read --json
  keymill client add web --public --grant refresh_token --audience orders --origin https://app.example.com
  keymill client add kiosk --public --grant refresh_token --audience orders --idle 12h --absolute 7d --grace 0s
  keymill client add orders-api --introspect orders`,
		Args: arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := given.normalize(); err != nil {
				return err
			}
			given.client.ID = args[0]
			return given.explainLists(askClient(cmd, asJSON, http.MethodPost, "clients", given.client))
		},
	}
	cmd.Flags().BoolVar(&given.client.Public, "public", false, "the client cannot keep a secret and gets none")
	given.addTo(cmd)
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func askClient(cmd *cobra.Command, asJSON bool, method, path string, body any) error {
	server, err := dial(cmd)
	if err != nil {
		return err
	}
	c, raw, err := adminapi.Ask[api.Client](cmd.Context(), server, method, path, body)
	for _, w := range c.Warnings {
		terminal.Warn(cmd.ErrOrStderr(), "%s", w)
	}
	if err != nil || asJSON {
		return commandline.PrintAnswer(cmd, raw, err)
	}
	return printClient(cmd.OutOrStdout(), c)
}

func clientPath(id string) string { return "client?id=" + url.QueryEscape(id) }

func printClient(w io.Writer, c api.Client) error {
	t := terminal.NewTable(w)
	t.Row("client_id:", c.ID)
	if c.Secret != "" {
		t.Row("client_secret:", string(c.Secret))
	}
	t.Row("kind:", clientKind(c))
	t.Row("grants:", terminal.List(c.Grants))
	t.Row("audiences:", terminal.List(c.Audiences))
	t.Row("scopes:", terminal.List(c.Scopes))
	if len(c.Origins) > 0 {
		t.Row("origins:", terminal.List(c.Origins))
	}
	if len(c.Introspect) > 0 {
		t.Row("introspects:", terminal.List(c.Introspect))
	}
	if slices.Contains(c.Grants, "refresh_token") || c.Grace+c.Idle+c.Absolute != "" {
		t.Row("grace:", cmp.Or(c.Grace, "default (refresh.grace)"))
		t.Row("idle:", cmp.Or(c.Idle, "default (refresh.idle)"))
		t.Row("absolute:", cmp.Or(c.Absolute, "default (refresh.absolute)"))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Claims)) {
		t.Row("claim "+name+":", string(c.Claims[name]))
	}
	t.Row("created:", terminal.FormatTime(&c.Created))
	if c.OldSecretUntil != nil {
		t.Row("old secret until:", terminal.FormatTime(c.OldSecretUntil))
	}
	if err := t.Flush(); err != nil || c.Secret == "" {
		return err
	}
	_, err := fmt.Fprintln(w, "Save the secret now: it is not shown again, because Keymill stores only its hash.")
	return err
}

func clientKind(c api.Client) string {
	kind := "confidential"
	if c.Public {
		kind = "public"
	}
	if c.Disabled {
		kind += ", disabled"
	}
	return kind
}

func clientSetCommand() *cobra.Command {
	var given clientFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "set ID",
		Short:   "Change what a client is allowed, or how long its sessions live",
		Long:    "Change only what the flags name. A list is replaced as a whole: --scope read removes all other\nscopes, and --scope \"\" removes all. So it is with --claim. --grace \"\", --idle \"\" and\n--absolute \"\" restore the defaults refresh.grace, refresh.idle and refresh.absolute; --grace 0s\nmeans no grace.",
		Example: "  keymill client set billing --scope read --scope refund\n  keymill client set web --origin https://app.example.com --origin https://beta.example.com\n  keymill client set web --idle 7d --grace 10s",
		Args:    arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := given.normalize(); err != nil {
				return err
			}
			change := given.change(cmd)
			if change == (api.ClientChange{}) {
				return terminal.WithHint(terminal.Usage("no change was given"), "keymill client set %s --scope read", terminal.ShellWord(args[0]))
			}
			return given.explainLists(askClient(cmd, asJSON, http.MethodPatch, clientPath(args[0]), change))
		},
	}
	given.addTo(cmd)
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func clientListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all clients",
		Long:    "List all clients, ordered by id.",
		Example: "  keymill client list\n  keymill client list --json | jq -r '.[] | select(.disabled) | .client_id'",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			list, raw, err := adminapi.AskAll(cmd.Context(), server, "clients", func(c api.Client) string { return c.ID })
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			t := terminal.NewTable(cmd.OutOrStdout(), "CLIENT", "KIND", "GRANTS", "AUDIENCES", "SCOPES")
			for _, c := range list {
				t.Row(c.ID, clientKind(c), terminal.List(c.Grants), terminal.List(c.Audiences), terminal.List(c.Scopes))
			}
			return t.Flush()
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func clientShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one client",
		Long:    "Show one client: what it is allowed, and how long its sessions live.",
		Example: "  keymill client show billing",
		Args:    arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askClient(cmd, asJSON, http.MethodGet, clientPath(args[0]), nil)
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func clientRotateSecretCommand() *cobra.Command {
	var oldFor string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate-secret ID",
		Short: "Create a new secret; the old one works for a while longer",
		Long: `Create a new secret for a confidential client and print it once. The old secret works for
--old-for longer, so that you can give the client the new one without an outage. If the old
secret has leaked, end it at once with --old-for 0s.`,
		Example: "  keymill client rotate-secret billing --old-for 24h\n  keymill client rotate-secret billing --old-for 0s",
		Args:    arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := toAPIDuration("old-for", oldFor)
			if err != nil {
				return err
			}
			return askClient(cmd, asJSON, http.MethodPost, "client/secret?id="+url.QueryEscape(args[0]), api.RotateSecretRequest{OldFor: d})
		},
	}
	cmd.Flags().StringVar(&oldFor, "old-for", "24h", "how much longer the old secret works")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// clientSwitchCommand returns the command enable or disable.
func clientSwitchCommand(name, short, long string, disabled bool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     name + " ID",
		Short:   short,
		Long:    long,
		Example: "  keymill client " + name + " billing",
		Args:    arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askClient(cmd, asJSON, http.MethodPatch, clientPath(args[0]), api.ClientChange{Disabled: &disabled})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func clientRemoveCommand() *cobra.Command {
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "remove ID",
		Short: "Remove a client",
		Long: `Remove a client and end its sessions. Access tokens that exist stay valid until they expire. If a
login endpoint uses the client, or if it has live sessions, the command asks first. Without a
terminal to ask on it refuses, and --yes removes the client.`,
		Example: "  keymill client remove billing --yes",
		Args:    arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			path := clientPath(args[0])
			if !yes {
				_, err = server.Call(cmd.Context(), http.MethodDelete, path+"&unused=true", nil)
				if yes, err = confirmed(cmd, err, "keymill client remove "+terminal.ShellWord(args[0])+" --yes"); err != nil {
					return err
				}
			}
			if yes {
				if _, err = server.Call(cmd.Context(), http.MethodDelete, path, nil); err != nil {
					return err
				}
			}
			return commandline.SayOrJSON(cmd, asJSON, map[string]any{"client_id": args[0], "removed": true}, "removed client %s", args[0])
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask, also if users log in through the client")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// confirmed asks whether to do what the server refused because of a use, and returns whether it is
// still to be done. It asks only on a terminal, where the answer comes from a person.
func confirmed(cmd *cobra.Command, refused error, command string) (yes bool, err error) {
	var inUse *adminapi.Error
	if !errors.As(refused, &inUse) || inUse.Code != "in_use" {
		return false, refused
	}
	refused = terminal.WithHint(refused, "%s", command)
	if !terminal.IsTerminal(cmd.InOrStdin()) {
		return false, refused
	}
	return true, agreed(cmd, inUse.Detail)
}

// agreed asks the person at the terminal, and returns an error unless the answer is yes.
func agreed(cmd *cobra.Command, question string) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "%s. Continue? [y/N] ", terminal.OneLine(question))
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // an error is an empty answer, which is no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}

// addYesFlag adds --yes to a command that calls askFirst.
func addYesFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("yes", false, "do not ask, also on a terminal")
}

// askFirst asks on a terminal, unless --yes was given. Scripts are not asked.
func askFirst(cmd *cobra.Command, question string) error {
	if yes, _ := cmd.Flags().GetBool("yes"); yes || !terminal.IsTerminal(cmd.InOrStdin()) {
		return nil
	}
	return agreed(cmd, question)
}
