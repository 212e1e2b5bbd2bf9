package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
)

// release is the version of the program. CHANGELOG.md says what changed in each.
const release = "0.1.0"

// build is what version prints.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"` // of the source; "" if the build did not record it
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuild() build {
	b := build{Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Long:    "Print the version of this program, the Go release that compiled it and the platform. With\n--json it also prints the revision of the source. Include this in a bug report.",
		Example: "  keymill version\n  keymill version --json",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			b := readBuild()
			if asJSON {
				raw, err := terminal.MarshalJSON(b)
				if err != nil {
					return err
				}
				return terminal.PrintJSON(cmd.OutOrStdout(), raw)
			}
			cmd.Printf("keymill %s (%s, %s)\n", b.Version, b.Go, b.Platform)
			return nil
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// addJSONFlag adds --json to a command that prints data.
func addJSONFlag(cmd *cobra.Command, into *bool) {
	cmd.Flags().BoolVar(into, "json", false, "print JSON (times in RFC 3339, UTC; null if not known yet)")
}
