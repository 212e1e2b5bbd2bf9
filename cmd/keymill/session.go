package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"

	"github.com/spf13/cobra"
)

// A sessionLine is a session as the server shows it.
type sessionLine struct {
	ID          string     `json:"session_id"`
	User        string     `json:"user_id"`
	Client      string     `json:"client_id"`
	Endpoint    string     `json:"login_endpoint"`
	State       string     `json:"state"`
	Reason      string     `json:"reason"`
	Created     *time.Time `json:"created"`
	LastUsed    *time.Time `json:"last_used"`
	Expires     *time.Time `json:"expires"`
	AbsoluteEnd *time.Time `json:"absolute_end"`
	Ended       *time.Time `json:"ended"`
	Generation  uint32     `json:"generation"`
	Graced      int        `json:"graced"`
	Shared      bool       `json:"shared"`
	Audiences   []string   `json:"audiences"`
	Scope       string     `json:"scope"`
}

func sessionCommand() *cobra.Command {
	cmd := group("session", "List, end and explain logins", `
A session is one login of one user through one client, with all the refresh tokens that
descend from it. Access tokens name it in "sid". A refresh token that comes a second time,
after its grace, ends its session: somebody has a copy.`)
	cmd.Example = "  keymill session list --user alice\n  keymill session why - < token.txt"
	addDataFlag(cmd)
	cmd.AddCommand(sessionListCommand(), sessionRevokeCommand(), sessionWhyCommand())
	return cmd
}

func sessionListCommand() *cobra.Command {
	var user, client string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list --user NAME",
		Short: "List the sessions of a user, newest first",
		Long: `List the sessions of a user, newest first, also those that have ended and are kept to
explain why. GENERATION counts refreshes; GRACED counts those of them that were answered a
second time within the grace. A retry after a lost answer looks like that, and so do two
holders of one token: "shared" means five in a row from different addresses.`,
		Example: "  keymill session list --user alice\n  keymill session list --user alice --client web --json",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if user == "" {
				return terminal.WithHint(terminal.Usage("--user is missing"), "keymill session list --user alice")
			}
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			query := url.Values{"user": {user}}
			if client != "" {
				query.Set("client", client)
			}
			list, raw, err := ask[[]sessionLine](cmd.Context(), server, http.MethodGet, "sessions?"+query.Encode(), nil)
			if err != nil || asJSON {
				return printAnswer(cmd, raw, err)
			}
			return printSessions(cmd.OutOrStdout(), list...)
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "the user's name or id")
	cmd.Flags().StringVar(&client, "client", "", "only those through this client")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func printSessions(w io.Writer, list ...sessionLine) error {
	t := terminal.NewTable(w, "SESSION", "CLIENT", "LOGIN", "STATE", "CREATED", "LAST USED", "ENDS", "GENERATION", "GRACED", "REASON")
	for _, s := range list {
		t.Row(s.ID, s.Client, s.Endpoint, s.State, terminal.Instant(s.Created), terminal.Instant(s.LastUsed), terminal.Instant(s.ends()),
			strconv.FormatUint(uint64(s.Generation), 10), s.graced(), terminal.OrDash(s.Reason))
	}
	return t.Flush()
}

// ends is when the session ends if nobody uses it, or has ended; nil where it ended together
// with others, and nothing of its own tells when.
func (s sessionLine) ends() *time.Time {
	if s.State == "revoked" {
		return s.Ended
	}
	return s.Expires
}

func (s sessionLine) graced() string {
	if s.Shared {
		return strconv.Itoa(s.Graced) + ", shared"
	}
	return strconv.Itoa(s.Graced)
}

func sessionRevokeCommand() *cobra.Command {
	var client string
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke ID | --client ID | --all",
		Short: "End one session, those of a client, or every session",
		Long: `End one session, every session of a client, or every session there is; each is one write,
however many it ends. Access tokens stay valid until they expire. For those of one user:
"keymill user logout NAME".`,
		Example: "  keymill session revoke 06DXK8Y2P4ZQ1N7W3M5T9R0VBC\n  keymill session revoke --client web\n  keymill session revoke --all",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && (client != "" || all) {
				return nil
			}
			return arguments("ID")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && (client != "" || all) || client != "" && all {
				return terminal.Usage("choose one of ID, --client and --all")
			}
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return revokeMany(cmd, server, client, asJSON)
			}
			s, raw, err := ask[sessionLine](cmd.Context(), server, http.MethodDelete, "session?id="+url.QueryEscape(args[0]), nil)
			if err != nil || asJSON {
				return printAnswer(cmd, raw, err)
			}
			return printSessions(cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().StringVar(&client, "client", "", "every session of this client")
	cmd.Flags().BoolVar(&all, "all", false, "every session of every user")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// revokeMany ends the sessions of a client, or all if client is "".
func revokeMany(cmd *cobra.Command, server *adminClient, client string, asJSON bool) error {
	body := map[string]any{"all": true}
	if client != "" {
		body = map[string]any{"client": client}
	}
	if _, err := server.call(cmd.Context(), http.MethodPost, "sessions/revoke", body); err != nil || !asJSON {
		return err
	}
	raw, err := terminal.MarshalJSON(body)
	return printAnswer(cmd, raw, err)
}

// An explanation is what the server says about a refresh token.
type explanation struct {
	Good       bool         `json:"good"`
	Verdict    string       `json:"verdict"`
	Why        string       `json:"why"`
	Generation *uint32      `json:"generation"`
	Session    *sessionLine `json:"session"`
}

func sessionWhyCommand() *cobra.Command {
	var stdin, asJSON bool
	cmd := &cobra.Command{
		Use:   "why TOKEN",
		Short: "Say what a refresh token would be answered, and why",
		Long: `Say what would become of a refresh token if it were presented now, and why. Nothing changes:
looking at a token that was used before does not end its session.

Whoever holds the token can refresh with it, and every user of this machine sees arguments:
give a token that may still live as "-" or with --token-stdin, and on standard input.`,
		Example: "  keymill session why - < token.txt\n  xclip -o | keymill session why --token-stdin --json\n  keymill session why kmr_…",
		Args: func(cmd *cobra.Command, args []string) error {
			if stdin && len(args) == 0 {
				return nil
			}
			return arguments("TOKEN")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			token, err := typedToken(cmd, args, stdin)
			if err != nil {
				return err
			}
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			e, raw, err := ask[explanation](cmd.Context(), server, http.MethodPost, "session/why", map[string]string{"token": token})
			if err != nil || asJSON {
				return printAnswer(cmd, raw, err)
			}
			return e.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&stdin, "token-stdin", false, "read the token from standard input")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// maxTokenBytes is far above a refresh token, and lets a pasted access token be named as one.
const maxTokenBytes = 16 << 10

func typedToken(cmd *cobra.Command, args []string, stdin bool) (string, error) {
	if len(args) > 0 && args[0] != "-" {
		if stdin {
			return "", terminal.Usage("choose either TOKEN or --token-stdin")
		}
		return args[0], nil
	}
	raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxTokenBytes+1))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(raw))
	switch {
	case token == "":
		return "", errors.New("standard input is empty: no token")
	case len(raw) > maxTokenBytes:
		return "", fmt.Errorf("standard input is too long for a token (over %d bytes)", maxTokenBytes)
	}
	return token, nil
}

func (e explanation) print(w io.Writer) error {
	t := terminal.NewTable(w)
	t.Row("verdict:", e.Verdict)
	t.Row("why:", cmp.Or(e.Why, "-"))
	if e.Generation != nil {
		t.Row("generation:", strconv.FormatUint(uint64(*e.Generation), 10))
	}
	if s := e.Session; s != nil {
		t.Row("session:", s.ID)
		t.Row("user:", s.User)
		t.Row("client:", s.Client)
		t.Row("state:", s.State)
		t.Row("current:", "generation "+strconv.FormatUint(uint64(s.Generation), 10)+", since "+terminal.Instant(s.LastUsed))
		t.Row("created:", terminal.Instant(s.Created))
		if s.State != "revoked" {
			t.Row("expires:", terminal.Instant(s.Expires))
		}
		if s.Ended != nil {
			t.Row("ended:", terminal.Instant(s.Ended))
		}
	}
	return t.Flush()
}
