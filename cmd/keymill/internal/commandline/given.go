package commandline

import (
	"net/url"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
)

// GivenFlags returns the settings that were given as flags.
func GivenFlags(cmd *cobra.Command, names ...string) map[string]string {
	given := map[string]string{}
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			given[name] = f.Value.String()
		}
	}
	return given
}

// GivenQuery returns the flags that were given as a query. An empty value is refused: it usually
// comes from a variable that is not set, and the command would be about everything.
func GivenQuery(cmd *cobra.Command, names ...string) (url.Values, error) {
	query := url.Values{}
	for name, value := range GivenFlags(cmd, names...) {
		if value == "" {
			return nil, terminal.Usage("--%s is empty; is a variable not set?", name)
		}
		query.Set(name, value)
	}
	return query, nil
}
