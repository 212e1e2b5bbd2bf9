package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
)

// release is the version of the program. CHANGELOG.md says what changed in each. The linker of
// scripts/release replaces it in a snapshot, which is a build of a commit without a tag.
var release = "0.1.0"

// build is what version prints.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`           // commit of the source; "" if the build did not record it
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the source differed from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuild() build {
	b := build{Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String returns one line, such as "keymill 0.1.0 (go1.26.8, linux/amd64, commit 0c51… of 2026-11-28T09:14:02Z)".
func (b build) String() string {
	line := "keymill " + b.Version + " (" + b.Go + ", " + b.Platform
	if b.Revision != "" {
		line += ", commit " + b.Revision
	}
	if b.Time != "" {
		line += " of " + b.Time
	}
	if b.Modified {
		line += ", modified"
	}
	return line + ")\n"
}

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
				_, err := fmt.Fprint(cmd.OutOrStdout(), readBuild())
				return err
			}
			raw, err := terminal.MarshalJSON(readBuild())
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
