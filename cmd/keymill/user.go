package main

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/claimflag"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func userCommand() *cobra.Command {
	cmd := group("user", "Manage the people who log in", `
A user is a person who logs in with a name and a password. The id is the "sub" of the user's
tokens and never changes. Each command except add takes a name or an id as NAME. "id:7" always
means the id, even if another user has the name 7.`)
	cmd.Example = "  keymill user add alice --id 7 --password-stdin < password.txt\n  keymill user import users.json --format django-json\n  keymill user logout alice"
	addServerFlags(cmd)
	cmd.AddCommand(
		userAddCommand(), userSetCommand(), userRenameCommand(), userListCommand(), userShowCommand(), userPasswdCommand(),
		userSwitchCommand("enable", "Let a disabled user log in again",
			"Let a disabled user log in again, with the same password as before.", false),
		userSwitchCommand("disable", "End a user's sessions and refuse logins",
			"End every session of a user, and refuse logins until the user is enabled again. Use it when\nsomeone leaves: the id stays taken. Access tokens that exist stay valid until they expire.", true),
		userRemoveCommand(), userLogoutCommand(), userUnblockCommand(), userImportCommand(),
	)
	return cmd
}

func askUser(cmd *cobra.Command, asJSON bool, method, path string, body any) error {
	server, err := dial(cmd)
	if err != nil {
		return err
	}
	u, raw, err := adminapi.Ask[api.User](cmd.Context(), server, method, path, body)
	if err != nil || asJSON {
		return commandline.PrintAnswer(cmd, raw, err)
	}
	return printUser(cmd.OutOrStdout(), u)
}

// askUserDetails prints a user with the failed logins.
func askUserDetails(cmd *cobra.Command, asJSON bool, method, path string) error {
	server, err := dial(cmd)
	if err != nil {
		return err
	}
	u, raw, err := adminapi.Ask[api.UserDetails](cmd.Context(), server, method, path, nil)
	if err != nil || asJSON {
		return commandline.PrintAnswer(cmd, raw, err)
	}
	t := userTable(cmd.OutOrStdout(), u.User)
	t.Row("recent failures:", strconv.Itoa(u.RecentFailures))
	t.Row("blocked until:", terminal.FormatTime(u.BlockedUntil))
	if u.DrawnUntil != nil {
		t.Row("drawn until:", terminal.FormatTime(u.DrawnUntil))
	}
	for _, b := range u.Blocked {
		t.Row("blocked from:", b.From+" until "+terminal.FormatTime(&b.Until))
	}
	return t.Flush()
}

func userPath(path, name string) string { return path + "?user=" + url.QueryEscape(name) }

func printUser(w io.Writer, u api.User) error { return userTable(w, u).Flush() }

func userTable(w io.Writer, u api.User) *terminal.Table {
	t := terminal.NewTable(w)
	t.Row("user_id:", u.ID)
	t.Row("username:", u.Name)
	t.Row("state:", userState(u))
	t.Row("password:", u.Scheme)
	for _, name := range slices.Sorted(maps.Keys(u.Claims)) {
		t.Row("claim "+name+":", string(u.Claims[name]))
	}
	t.Row("created:", terminal.FormatTime(&u.Created))
	t.Row("password changed:", terminal.FormatTime(u.PasswordChanged))
	t.Row("last login:", terminal.FormatTime(u.LastLogin))
	return t
}

func userState(u api.User) string {
	if u.Disabled {
		return "disabled"
	}
	return "enabled"
}

func userSetCommand() *cobra.Command {
	var claims []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "set NAME --claim NAME=VALUE",
		Short:   "Change the claims of a user's tokens",
		Long:    "Change the claims of a user's tokens. Tokens have the new claims from the next refresh on. The\nlist is replaced as a whole: --claim role=admin removes all other claims, and --claim \"\" removes\nall.",
		Example: "  keymill user set alice --claim role=admin --claim 'teams=[\"a\",\"b\"]'\n  keymill user set alice --claim \"\"",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("claim") {
				return terminal.WithHint(terminal.Usage("no change was given"), "keymill user set %s --claim role=admin", terminal.ShellWord(args[0]))
			}
			custom, err := claimflag.Parse(claims)
			if err != nil {
				return err
			}
			return askUser(cmd, asJSON, http.MethodPatch, userPath("user", args[0]), api.UserChange{Claims: &custom})
		},
	}
	cmd.Flags().StringArrayVar(&claims, "claim", nil, "NAME=VALUE, a claim of the user's access tokens (repeatable)")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func userRenameCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rename NAME NEW-NAME",
		Short: "Change the name that a user logs in with",
		Long: `Change the name that a user logs in with. The id, the "sub" of the tokens, stays the same, so
sessions and tokens stay valid. The password stays the same as well. From then on the old name
is free: another user can have it. A name that another user has is refused. Names are
compared in their normalized form (NFKC), and upper and lower case differ.`,
		Example: "  keymill user rename bob bob.smith\n  keymill user rename carol carol@example.com --json",
		Args:    arguments("NAME", "NEW-NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askUser(cmd, asJSON, http.MethodPatch, userPath("user", args[0]), api.UserChange{Name: &args[1]})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func userListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all users",
		Long:    "List all users, ordered by id. PASSWORD is the scheme that the password is hashed with.",
		Example: "  keymill user list\n  keymill user list --json | jq -r '.[] | select(.disabled) | .username'",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			list, raw, err := adminapi.AskAll(cmd.Context(), server, "users", func(u api.User) string { return u.ID })
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			t := terminal.NewTable(cmd.OutOrStdout(), "USER", "NAME", "STATE", "PASSWORD", "CREATED")
			for _, u := range list {
				t.Row(u.ID, u.Name, userState(u), u.Scheme, terminal.FormatTime(&u.Created))
			}
			return t.Flush()
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func userShowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show one user",
		Long: `Show one user: id, name, state and claims, how the password is hashed, the last login, the wrong
passwords of the last 15 minutes, and until when and from which addresses logins are refused
because of them. The failures are those at this server, and are forgotten when it restarts. The log
says why each login was refused; search it for "login refused" and the id.`,
		Example: "  keymill user show alice\n  keymill user show 7 --json | jq .blocked_until",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askUserDetails(cmd, asJSON, http.MethodGet, userPath("user", args[0]))
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func userPasswdCommand() *cobra.Command {
	var stdin, asJSON bool
	cmd := &cobra.Command{
		Use:     "passwd NAME --password-stdin",
		Short:   "Give a user a new password and end the user's sessions",
		Long:    "Give a user a new password and end all sessions of the user. The password is one line of\nstandard input, 15 characters or more.",
		Example: "  keymill user passwd alice --password-stdin < password.txt\n  head -c 18 /dev/urandom | base64 | tee new.txt | keymill user passwd alice --password-stdin",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			line := "user passwd " + terminal.ShellWord(args[0])
			if !stdin {
				return terminal.WithHint(terminal.Usage("--password-stdin is missing"), passwordHint, line)
			}
			password, err := readPassword(cmd, line)
			if err != nil {
				return err
			}
			err = askUser(cmd, asJSON, http.MethodPost, userPath("user/password", args[0]), api.SetPasswordRequest{Password: refusal.Secret(password)})
			if err != nil || asJSON {
				return err
			}
			return commandline.Say(cmd, "changed the password and ended every session of %s", args[0])
		},
	}
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// userSwitchCommand returns the command enable or disable.
func userSwitchCommand(name, short, long string, disabled bool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     name + " NAME",
		Short:   short,
		Long:    long,
		Example: "  keymill user " + name + " alice",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askUser(cmd, asJSON, http.MethodPatch, userPath("user", args[0]), api.UserChange{Disabled: &disabled})
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func userLogoutCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "logout NAME",
		Short:   "End every session of a user",
		Long:    "End every session of a user, at all clients. Use it when a device is lost. The user may log\nin again at once. Access tokens that exist stay valid until they expire.",
		Example: "  keymill user logout alice",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := askUser(cmd, asJSON, http.MethodPost, userPath("user/logout", args[0]), nil)
			if err != nil || asJSON {
				return err
			}
			return commandline.Say(cmd, "ended every session of %s", args[0])
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func userUnblockCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "unblock NAME",
		Short: "Let a user log in again after too many wrong passwords",
		Long: `Forget the failed logins of a user, so that the user can log in at once from every address, also
from one where other users have failed too often. The change is audited. Someone may be guessing
the password: "keymill user show NAME" lists the addresses. A disabled user stays disabled. It counts
on all servers that share the store.`,
		Example: "  keymill user unblock alice\n  keymill user unblock 7 --json",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askUserDetails(cmd, asJSON, http.MethodPost, userPath("user/unblock", args[0]))
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func userRemoveCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a user and end the user's sessions",
		Long:    "Remove a user and end all sessions of the user. The name and the id become free. To keep another\nuser from getting the id, disable the user instead. On a terminal the command asks first; --yes does\nnot ask.",
		Example: "  keymill user remove alice --yes",
		Args:    arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			if err := askFirst(cmd, "user "+args[0]+" is removed, and the user's sessions end"); err != nil {
				return err
			}
			if _, err = server.Call(cmd.Context(), http.MethodDelete, userPath("user", args[0]), nil); err != nil {
				return err
			}
			return commandline.SayOrJSON(cmd, asJSON, map[string]any{"user": args[0], "removed": true}, "removed user %s and ended the user's sessions", args[0])
		},
	}
	addYesFlag(cmd)
	addJSONFlag(cmd, &asJSON)
	return cmd
}
