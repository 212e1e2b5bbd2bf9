package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

func sessionRotateSecretCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate-secret",
		Short: "Make later refresh tokens with a new secret",
		Long: `Publish another secret of refresh tokens. The server makes refresh tokens with it from 5 minutes later
on, when every server of the store has read it. Tokens that exist stay valid, so no session ends and no
user notices. A session gets a token of the new secret with its next refresh after that.

Use it after a theft of the store together with its master key, or where a rule asks for it. After a
theft it is not enough: a thief can make tokens with the old secret. End all sessions as well, with
"keymill session revoke --all". For those 5 minutes the server refuses another secret. A store has at
most 255.`,
		Example: "  keymill session rotate-secret\n  keymill session rotate-secret --json | jq -r .used_from",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			s, raw, err := adminapi.Ask[api.RefreshSecret](cmd.Context(), server, http.MethodPost, "sessions/rotate-secret", nil)
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			return commandline.Say(cmd, "published secret %d; refresh tokens are made with it from %s on", s.Number, terminal.FormatTime(&s.Used))
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}
