package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/claimflag"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func userAddCommand() *cobra.Command {
	var u api.NewUser
	var claims []string
	var stdin, without, asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME --password-stdin",
		Short: "Add a user",
		Long: `Add a user. The id becomes the "sub" of the user's tokens, and for Django the number "user_id" if
it is all digits. Without --id the server chooses one. The password is one line of standard input,
15 characters or more. With --no-password the user cannot log in until "user passwd" sets one.

--claim NAME=VALUE puts a claim into each access token of the user. A VALUE that is JSON (3,
true, ["a","b"]) is taken as JSON, and any other as a string.`,
		Example: `  keymill user add alice --id 7 --password-stdin < password.txt
  read -rs P; printf %s "$P" | keymill user add bob --password-stdin --claim role=admin --claim level=3
  keymill user add carol --no-password --json`,
		Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if u.Claims, err = claimflag.Parse(claims); err != nil {
				return err
			}
			u.Name = args[0]
			line := "user add " + terminal.ShellWord(args[0])
			switch {
			case stdin && without:
				return terminal.Usage("--password-stdin and --no-password cannot be combined")
			case !stdin && !without:
				return terminal.WithHint(terminal.Usage("--password-stdin or --no-password is missing"), passwordHint, line)
			}
			if stdin {
				password, err := readPassword(cmd, line)
				if err != nil {
					return err
				}
				u.Password = refusal.Secret(password)
			}
			return askUser(cmd, asJSON, http.MethodPost, "users", u)
		},
	}
	f := cmd.Flags()
	f.StringVar(&u.ID, "id", "", "the user's id, which never changes (default: the server chooses one)")
	f.BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	f.BoolVar(&without, "no-password", false, "add the user without a password")
	f.StringArrayVar(&claims, "claim", nil, "NAME=VALUE, a claim of the user's access tokens (repeatable)")
	f.BoolVar(&u.Disabled, "disabled", false, "add the user disabled")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// maxPasswordBytes is the server's own limit.
const maxPasswordBytes = 4 << 10

const passwordHint = `read -rs P; printf %%s "$P" | keymill %s --password-stdin`

// readPassword reads one line from standard input. A terminal is refused, because it would
// show the password.
func readPassword(cmd *cobra.Command, line string) (string, error) {
	in := cmd.InOrStdin()
	if terminal.IsTerminal(in) {
		return "", terminal.WithHint(errors.New("standard input is a terminal, which would show the password"), passwordHint, line)
	}
	raw, err := io.ReadAll(io.LimitReader(terminal.NewTextReader(in), maxPasswordBytes+3)) // two for the end of the line, one to notice more
	if err != nil {
		return "", err
	}
	text, cut := strings.CutSuffix(string(raw), "\n")
	if cut {
		text = strings.TrimSuffix(text, "\r")
	}
	switch {
	case text == "":
		return "", errors.New("standard input is empty: no password")
	case len(text) > maxPasswordBytes:
		return "", fmt.Errorf("the password is longer than %d bytes", maxPasswordBytes)
	case strings.Contains(text, "\n"):
		return "", errors.New("standard input has more than one line")
	case !utf8.ValidString(text):
		return "", errors.New("the password is not UTF-8")
	}
	return text, nil
}
