package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/sessiontable"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func sessionCommand() *cobra.Command {
	cmd := group("session", "List, end and explain logins", `
A session is one login of one user through one client, with all the refresh tokens that
descend from it. Access tokens name it in "sid". If a refresh token is used again after its
grace, the session ends, because someone has a copy of the token.`)
	cmd.Example = "  keymill session list --user alice\n  keymill session why - < token.txt"
	addServerFlags(cmd)
	cmd.AddCommand(sessionListCommand(), sessionRevokeCommand(), sessionRotateSecretCommand(), sessionWhyCommand())
	return cmd
}

func sessionListCommand() *cobra.Command {
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List sessions, newest first",
		Long: `List sessions, newest first: all, those of a user, those through a client, or those of a user
through a client. Sessions that have ended are listed too, for as long as they are kept to
explain why. If there are more than --limit, the last line, on standard error, has the --after
for the next ones.

USER is the id of the user. GENERATION counts refreshes. RETRIES counts how often a replaced
refresh token was used again within the grace. A retry after a lost answer does that, and so do
two holders of one token: "shared" means five in a row from different addresses.`,
		Example: `  keymill session list
  keymill session list --user alice
  keymill session list --client web --limit 20
  keymill session list --user alice --client web --json`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return terminal.Usage("--limit %d is not 1 or more", limit)
			}
			query, err := commandline.GivenQuery(cmd, "user", "client", "after")
			if err != nil {
				return err
			}
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			list, next, err := sessiontable.List(cmd.Context(), server, query, limit)
			if err == nil && asJSON {
				var raw []byte
				if raw, err = terminal.MarshalJSON(list); err == nil {
					err = terminal.PrintJSON(cmd.OutOrStdout(), raw)
				}
			} else if err == nil {
				err = sessiontable.Print(cmd.OutOrStdout(), list...)
			}
			if err == nil && next != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "there are more sessions: add --after %s\n", next)
			}
			return err
		},
	}
	cmd.Flags().String("user", "", "only sessions of the user with this name or id")
	cmd.Flags().String("client", "", "only sessions through this client")
	cmd.Flags().String("after", "", "only sessions that began before the one with this id")
	cmd.Flags().IntVar(&limit, "limit", 100, "list at most this many")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func sessionRevokeCommand() *cobra.Command {
	var client string
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke ID | --client ID | --all",
		Short: "End one session, all sessions of a client, or all sessions",
		Long: `End one session, all sessions of a client, or all sessions of all users. Use it when a refresh
token may have leaked. Access tokens that exist stay valid until they expire. "keymill session
list" shows the ids; "keymill user logout NAME" ends all sessions of one user. On a terminal --all
asks first, and --yes does not ask.`,
		Example: `  keymill session revoke $(keymill session list --user alice | awk 'NR == 2 {print $1}')
  keymill session revoke --client web
  keymill session revoke --all --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && (client != "" || all) {
				return nil
			}
			if len(args) == 0 {
				return terminal.WithHint(terminal.Usage("session ID, --client or --all is missing"), "run %q for the usage", cmd.CommandPath()+" --help")
			}
			return arguments("ID")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && (client != "" || all) || client != "" && all {
				return terminal.Usage("ID, --client and --all cannot be combined; give one of them")
			}
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return revokeMany(cmd, server, client, asJSON)
			}
			s, raw, err := adminapi.Ask[api.Session](cmd.Context(), server, http.MethodDelete, "session?id="+url.QueryEscape(args[0]), nil)
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			return sessiontable.Print(cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().StringVar(&client, "client", "", "end all sessions of this client")
	cmd.Flags().BoolVar(&all, "all", false, "end all sessions of all users")
	addYesFlag(cmd)
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// revokeMany ends the sessions of a client, or all if client is "". The server answers with
// nothing, so --json prints what was asked.
func revokeMany(cmd *cobra.Command, server *adminapi.Client, client string, asJSON bool) error {
	body, done := map[string]any{"all": true}, "ended all sessions of all users"
	if client != "" {
		body, done = map[string]any{"client": client}, "ended all sessions of client "+client
	} else if err := askFirst(cmd, "every user has to log in again, at every client"); err != nil {
		return err
	}
	if _, err := server.Call(cmd.Context(), http.MethodPost, "sessions/revoke", body); err != nil {
		return err
	}
	return commandline.SayOrJSON(cmd, asJSON, body, "%s", done)
}

func sessionWhyCommand() *cobra.Command {
	var stdin, asJSON bool
	cmd := &cobra.Command{
		Use:   "why TOKEN",
		Short: "Explain what the server would answer to a refresh token",
		Long: `Say what the server would answer if a client used a refresh token now, and why. Use it when a
user was logged out and you want to know the reason. Nothing changes: looking at a token that
was used before does not end its session.

A refresh token is a secret, and every user of this machine sees arguments. If the token may
still be valid, give "-" or --token-stdin and pass the token on standard input.

The exit code is 0 for a token that would be accepted, 1 for one that would be refused, 2 for a
usage error (an empty token, too), and 3 if the server could not be asked, which says nothing
about the token.`,
		Example: "  keymill session why - < token.txt\n  xclip -o | keymill session why --token-stdin --json",
		Args: func(cmd *cobra.Command, args []string) error {
			if stdin && len(args) == 0 {
				return nil
			}
			return arguments("TOKEN")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := readRefreshToken(cmd, args, stdin)
			if err != nil {
				return err
			}
			e, raw, err := explain(cmd, token)
			if err != nil {
				return &terminal.Error{Err: err, Hint: terminal.HintOf(err), Code: notChecked}
			}
			if asJSON {
				err = terminal.PrintJSON(cmd.OutOrStdout(), raw)
			} else {
				err = sessiontable.PrintExplanation(cmd.OutOrStdout(), e)
			}
			switch {
			case err != nil || e.Accepted:
				return err
			case asJSON:
				return terminal.ErrSilent
			}
			return errors.New("the token would be refused: " + e.Why)
		},
	}
	cmd.Flags().BoolVar(&stdin, "token-stdin", false, "read the token from standard input")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// explain asks the server about a refresh token.
func explain(cmd *cobra.Command, token string) (e api.Explanation, raw []byte, err error) {
	server, err := dial(cmd)
	if err != nil {
		return e, nil, err
	}
	return adminapi.Ask[api.Explanation](cmd.Context(), server, http.MethodPost, "session/why", api.ExplainRequest{Token: refusal.Secret(token)})
}

// maxTokenBytes is far more than a refresh token has. A pasted access token fits too, so that
// the answer can say what it is.
const maxTokenBytes = 16 << 10

func readRefreshToken(cmd *cobra.Command, args []string, stdin bool) (string, error) {
	if len(args) > 0 && args[0] != "-" {
		if stdin {
			return "", terminal.Usage("TOKEN and --token-stdin cannot be combined; give one of them")
		}
		if strings.TrimSpace(args[0]) == "" {
			return "", emptyToken(args)
		}
		return args[0], nil
	}
	raw, err := io.ReadAll(io.LimitReader(terminal.NewTextReader(cmd.InOrStdin()), maxTokenBytes+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(raw))
	switch {
	case token == "":
		return "", emptyToken([]string{"-"})
	case len(raw) > maxTokenBytes:
		return "", terminal.Usage("standard input is too long for a token (over %d bytes)", maxTokenBytes)
	}
	return token, nil
}
