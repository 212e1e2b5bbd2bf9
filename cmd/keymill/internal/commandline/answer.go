package commandline

import (
	"fmt"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
)

// PrintAnswer ends a command that failed or that prints JSON.
func PrintAnswer(cmd *cobra.Command, raw []byte, err error) error {
	if err != nil {
		return err
	}
	return terminal.PrintJSON(cmd.OutOrStdout(), raw)
}

// Say prints what a command did, if the answer of the server does not show it.
func Say(cmd *cobra.Command, format string, args ...any) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), terminal.OneLine(fmt.Sprintf(format, args...)))
	return err
}

// SayOrJSON is Say, or prints done with --json: the server answers to some changes with nothing.
func SayOrJSON(cmd *cobra.Command, asJSON bool, done map[string]any, format string, args ...any) error {
	if !asJSON {
		return Say(cmd, format, args...)
	}
	raw, err := terminal.MarshalJSON(done)
	return PrintAnswer(cmd, raw, err)
}
