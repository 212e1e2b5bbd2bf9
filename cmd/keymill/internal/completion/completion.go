// Package completion offers a shell the names of what a running server has: audiences, clients, users, keys,
// sessions and verifiers.
package completion

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/keystore"
)

// A nameList asks the server for names that a shell offers. from is the beginning of the name.
type nameList func(ctx context.Context, server *adminapi.Client, from string) ([]string, error)

// How long a shell waits, and how many names it gets to see. A list of users is longer only at
// sites where a shell is of no use to find one.
const (
	completionTime = 2 * time.Second
	maxCompletions = 1000
)

// A Dial finds the running server that the flags of a command name.
type Dial func(cmd *cobra.Command) (*adminapi.Client, error)

// Add lets every command offer names: of what its group is about, and of what its flags
// name. A command that takes no file offers none.
func Add(root *cobra.Command, dial Dial) {
	groups := map[string]nameList{"audience": audienceNames, "client": clientNames, "user": userNames, "key": keyNames, "session": sessionNames,
		"verifier": verifierNames}
	flags := map[string]nameList{"audience": audienceNames, "introspect": audienceNames, "client": clientNames, "user": userNames, "holding": keyNames}
	for _, group := range root.Commands() {
		for _, cmd := range append(group.Commands(), group) {
			for name, list := range flags {
				if cmd.Flags().Lookup(name) != nil {
					_ = cmd.RegisterFlagCompletionFunc(name, offer(dial, list, false)) // fails only if it is registered already
				}
			}
			_, argument, _ := strings.Cut(cmd.Use, " ")
			switch {
			case cmd.HasSubCommands() || cmd.ValidArgsFunction != nil || strings.HasPrefix(argument, "FILE"):
			case strings.HasPrefix(cmd.Use, "add "), !beginsWithName(argument):
				cmd.ValidArgsFunction = cobra.NoFileCompletions
			case groups[group.Name()] != nil:
				cmd.ValidArgsFunction = offer(dial, groups[group.Name()], true)
			}
		}
	}
}

// Algorithm offers the algorithms to the flag --alg of a command.
func Algorithm(cmd *cobra.Command) {
	// The only error is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("alg", cobra.FixedCompletions(keystore.SupportedAlgorithms(), cobra.ShellCompDirectiveNoFileComp))
}

// beginsWithName reports whether the first argument of a command is the name of something that exists.
func beginsWithName(usage string) bool {
	first, _, _ := strings.Cut(usage, " ")
	return first == "NAME" || first == "ID" || first == "KID"
}

// offer returns a completion that asks the running server. Without one it offers nothing: an error
// would end up in the command line that is being typed.
func offer(dial Dial, list nameList, once bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, from string) ([]string, cobra.ShellCompDirective) {
		const done = cobra.ShellCompDirectiveNoFileComp
		if once && len(args) > 0 {
			return nil, done
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		server, err := dial(cmd)
		if err != nil {
			return nil, done
		}
		all, err := list(ctx, server, from)
		if err != nil {
			return nil, done
		}
		var names []string
		for _, name := range all {
			if strings.HasPrefix(name, from) && terminal.Printable(name) == name {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names, done
	}
}

// listNames asks for the first entries of a list, and if there are more than a shell gets, for those
// that follow what was typed.
func listNames[T any](ctx context.Context, server *adminapi.Client, list, from string, name func(T) string) (names []string, err error) {
	for _, after := range []string{"", from} {
		query := url.Values{"limit": {strconv.Itoa(maxCompletions)}, "after": {after}}
		page, _, err := adminapi.Ask[[]T](ctx, server, http.MethodGet, list+"?"+query.Encode(), nil)
		for _, entry := range page {
			names = append(names, name(entry))
		}
		if err != nil || len(page) < maxCompletions || from == "" {
			return names, err
		}
	}
	return names, nil
}

func audienceNames(ctx context.Context, server *adminapi.Client, from string) ([]string, error) {
	return listNames(ctx, server, "audiences", from, func(a api.Audience) string { return a.Name })
}

func verifierNames(ctx context.Context, server *adminapi.Client, from string) ([]string, error) {
	return listNames(ctx, server, "verifiers", from, func(v api.Verifier) string { return v.Name })
}

func clientNames(ctx context.Context, server *adminapi.Client, from string) ([]string, error) {
	return listNames(ctx, server, "clients", from, func(c api.Client) string { return c.ID })
}

// userNames offers only some names if there are very many users: they are listed by id.
func userNames(ctx context.Context, server *adminapi.Client, _ string) ([]string, error) {
	return listNames(ctx, server, "users", "", func(u api.User) string { return u.Name })
}

func keyNames(ctx context.Context, server *adminapi.Client, _ string) ([]string, error) {
	keys, _, err := adminapi.Ask[[]api.Key](ctx, server, http.MethodGet, "keys", nil)
	var names []string
	for _, k := range keys {
		names = append(names, k.KID)
	}
	return names, err
}

// sessionNames offers the live ones among the newest sessions.
func sessionNames(ctx context.Context, server *adminapi.Client, _ string) ([]string, error) {
	page, _, err := adminapi.Ask[api.SessionPage](ctx, server, http.MethodGet, "sessions?limit="+strconv.Itoa(maxCompletions), nil)
	var names []string
	for _, s := range page.Sessions {
		if s.State == "live" {
			names = append(names, s.ID)
		}
	}
	return names, err
}
