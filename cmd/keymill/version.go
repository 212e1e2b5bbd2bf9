package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/buildinfo"
	"keymill/cmd/keymill/internal/terminal"
)

// release is the version of the program. CHANGELOG.md says what changed in each. The linker of
// scripts/release replaces it in a snapshot, which is a build of a commit without a tag.
var release = "0.1.0"

// build says which program this is.
func build() buildinfo.Build { return buildinfo.Read(release) }

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: `Print the version of this program, the Go release that compiled it, the platform, and the commit of
the source with its time if the build recorded them. "keymill --version" prints the same line.
Include it in a bug report.`,
		Example: "  keymill version\n  keymill version --json",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !asJSON {
				_, err := fmt.Fprint(cmd.OutOrStdout(), build())
				return err
			}
			raw, err := terminal.MarshalJSON(build())
			if err != nil {
				return err
			}
			return terminal.PrintJSON(cmd.OutOrStdout(), raw)
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// addJSONFlag adds --json to a command that prints data.
func addJSONFlag(cmd *cobra.Command, into *bool) {
	cmd.Flags().BoolVar(into, "json", false, "print JSON (times in RFC 3339, UTC; null if not known yet)")
}
