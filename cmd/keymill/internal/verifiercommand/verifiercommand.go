// Package verifiercommand holds the commands about verifiers. They ask a running server; the server decides which
// services are pinned and what they were served.
package verifiercommand

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/keychange"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/verifierlist"
	"keymill/issuer/api"
)

// A verbs holds what the commands get from the program.
type verbs struct {
	addJSON func(*cobra.Command, *bool)
	dial    func(*cobra.Command) (*adminapi.Client, error)
}

// Command returns the command "verifier" with those below it. addFlags adds the flags that name a server, and dial returns
// that server. addJSON adds --json.
func Command(addFlags func(*cobra.Command), addJSON func(*cobra.Command, *bool), dial func(*cobra.Command) (*adminapi.Client, error)) *cobra.Command {
	with := verbs{addJSON, dial}
	cmd := commandline.Group("verifier", "Know which services have which keys", `
A verifier is a service that fetches the key set to check tokens. Pin it under a name, and let it
fetch the set with that name, in the URL or in a header. The server then knows which keys the service
was served last: "key rotate" waits for pinned verifiers, and "key revoke" says which of them may
still hold the key. All other callers are observed: they are listed, and nothing waits for them.`)
	cmd.Example = "  keymill verifier add orders-api\n  keymill verifier list\n  keymill verifier list --observed"
	addFlags(cmd)
	cmd.AddCommand(with.add(), with.list(), with.show(), with.remove())
	return cmd
}

func (with verbs) add() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Pin a verifier, and print the URL that it fetches",
		Long: `Pin a verifier under a name: 1 to 63 of a-z, 0-9, "-" and "_", beginning with a letter or digit.
At most 200 verifiers can be pinned. Of a name that several instances share, only the newest fetch is
known; give each a name of its own if none may be missed.

Configure the service to fetch the printed URL, or the usual one with the printed header. Both name
the service and nothing else: they are no secret that gives access, and the key set is the same for
all. From the first fetch on, a rotation by hand waits for the service as long as it comes at its
usual interval. "keymill verifier show NAME" prints the URL and the header again.`,
		Example: "  keymill verifier add orders-api\n  keymill verifier add shop --json | jq -r .url",
		Args:    commandline.Arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := with.dialFor(cmd, args[0])
			if err != nil {
				return err
			}
			v, raw, err := adminapi.Ask[api.Verifier](cmd.Context(), server, http.MethodPost, "verifiers", api.NewVerifier{Name: args[0]})
			if known := (*adminapi.Error)(nil); errors.As(err, &known) && known.Code == "already_exists" {
				return terminal.WithHint(err, "to see its URL: keymill verifier show %s", terminal.ShellWord(args[0]))
			}
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			t := terminal.NewTable(cmd.OutOrStdout())
			t.Row("verifier:", v.Name)
			t.Row("URL:", v.URL)
			t.Row("or header:", verifierlist.Header(v))
			return t.Flush()
		},
	}
	with.addJSON(cmd, &asJSON)
	return cmd
}

// dialFor returns the server for a command about one verifier. It refuses an empty name.
func (with verbs) dialFor(cmd *cobra.Command, name string) (*adminapi.Client, error) {
	if name == "" {
		return nil, terminal.Usage("NAME is empty; is a variable not set?")
	}
	return with.dial(cmd)
}

func (with verbs) list() *cobra.Command {
	var observed, asJSON bool
	var holding string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the verifiers and whether they have the published keys",
		Long: `List the pinned verifiers by name. LAST is when the verifier was last served the key set, and USUAL
how often it comes. SERVED is "current" if the set that it was served last has every key that is
published now, and names the keys otherwise. WAITED UNTIL is not "-" if "key rotate" refuses because
of this verifier; it ends at that time if the verifier does not come again.

--holding KID lists those whose last set has that key, for example one that was revoked. --observed
lists the addresses that fetched the set without a name, latest first. They are kept in memory, at
most 1,000. THROUGH is the proxy that they came through.`,
		Example: `  keymill verifier list
  keymill verifier list --observed
  keymill verifier list --json | jq -r '.[] | select(.waited) | .name'`,
		Args: commandline.Arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := commandline.GivenQuery(cmd, "holding")
			if err != nil {
				return err
			}
			if observed && query.Has("holding") {
				return terminal.Usage("--observed and --holding cannot be combined; give one of them")
			}
			server, err := with.dial(cmd)
			if err != nil {
				return err
			}
			if observed {
				return listObserved(cmd, server, asJSON)
			}
			list, raw, err := adminapi.AskAll(cmd.Context(), server, "verifiers", func(v api.Verifier) string { return v.Name })
			if err == nil && query.Has("holding") {
				list = slices.DeleteFunc(list, func(v api.Verifier) bool { return !keychange.Holds(v, holding) })
				raw, err = terminal.MarshalJSON(append([]api.Verifier{}, list...))
			}
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			stages, err := askStages(cmd, server)
			if err != nil {
				return err
			}
			return stages.Print(cmd.OutOrStdout(), list...)
		},
	}
	cmd.Flags().BoolVar(&observed, "observed", false, "list the addresses that fetched the key set without a name")
	cmd.Flags().StringVar(&holding, "holding", "", "only verifiers whose last set has the key with this `KID`")
	with.addJSON(cmd, &asJSON)
	return cmd
}

// askStages asks for the keys: a verifier is served kids, and their stages say what they are.
func askStages(cmd *cobra.Command, server *adminapi.Client) (verifierlist.Stages, error) {
	keys, _, err := adminapi.Ask[[]api.Key](cmd.Context(), server, http.MethodGet, "keys", nil)
	return verifierlist.StagesOf(keys), err
}

func listObserved(cmd *cobra.Command, server *adminapi.Client, asJSON bool) error {
	list, raw, err := adminapi.Ask[[]api.ObservedVerifier](cmd.Context(), server, http.MethodGet, "verifiers/observed", nil)
	if err != nil || asJSON {
		return commandline.PrintAnswer(cmd, raw, err)
	}
	stages, err := askStages(cmd, server)
	if err != nil {
		return err
	}
	return stages.PrintObserved(cmd.OutOrStdout(), list...)
}

func pathOf(name string) string { return "verifier?name=" + url.QueryEscape(name) }

func (with verbs) show() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show one pinned verifier",
		Long: `Show one pinned verifier: its URL and header, when it was last served the key set, which keys that
set had, and which published keys it misses.`,
		Example: "  keymill verifier show orders-api\n  keymill verifier show orders-api --json | jq -r '.missing[]'",
		Args:    commandline.Arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := with.dialFor(cmd, args[0])
			if err != nil {
				return err
			}
			v, raw, err := adminapi.Ask[api.Verifier](cmd.Context(), server, http.MethodGet, pathOf(args[0]), nil)
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			stages, err := askStages(cmd, server)
			if err != nil {
				return err
			}
			return stages.PrintOne(cmd.OutOrStdout(), v)
		},
	}
	with.addJSON(cmd, &asJSON)
	return cmd
}

func (with verbs) remove() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a pinned verifier, so that no rotation waits for it",
		Long: `Forget a pinned verifier. No rotation waits for it from then on. Its URL and header go on working:
the caller gets the same key set, and is observed like any other. If the name is added again, they
name it again.`,
		Example: "  keymill verifier remove orders-api",
		Args:    commandline.Arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := with.dialFor(cmd, args[0])
			if err != nil {
				return err
			}
			if _, err = server.Call(cmd.Context(), http.MethodDelete, pathOf(args[0]), nil); err != nil {
				return err
			}
			return commandline.SayOrJSON(cmd, asJSON, map[string]any{"name": args[0], "removed": true}, "removed verifier %s", args[0])
		},
	}
	with.addJSON(cmd, &asJSON)
	return cmd
}
