package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
)

// created is what init prints with --json.
type created struct {
	Data       string `json:"data"` // the directory, or the URL of a shared store
	DatabaseID string `json:"database_id"`

	lines string // more lines of the configuration
}

func initCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create the store of a new server",
		Long: `Create the store of a new server, once, before its first start. "keymill serve" refuses a directory
without a store, so that a mistyped directory or a volume that is not mounted does not become
a new issuer. Run init as the server's own user and with the server's configuration: the store
is sealed under its master key. init needs no issuer.

init prints the id of the store as a line of the configuration, and a line for each of --data,
--listen and --issuer that was given and is not in the configuration. With database_id set, a server
refuses every other store and creates none. A store that exists is never changed.`,
		Example: `  keymill init --data first-store
  keymill init --data second-store --json
  keymill init --data third-store --issuer https://id.example.com > keymill.yaml
  keymill init --config /etc/keymill/keymill.yaml >> /etc/keymill/keymill.yaml`,
		Args: arguments(),
	}
	addConfigFlag(cmd, &file)
	cmd.Flags().Var(new(dirName), "data", "directory of the store; created if missing, its parent must exist")
	cmd.Flags().String("listen", "", "public address, host:port, as a line of the configuration")
	cmd.Flags().String("issuer", "", "the URL that tokens name, as a line of the configuration")
	addJSONFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given := commandline.GivenFlags(cmd, "data", "listen", "issuer")
		c, err := config.Load(file, given, false)
		if err != nil {
			return err
		}
		if err := c.CheckInit(); err != nil {
			return err
		}
		lines, err := newLines(c, given)
		if err != nil {
			return err
		}
		id, err := serve.Init(cmd.Context(), serve.Options{Config: c, Version: release})
		if err != nil {
			return err
		}
		return printCreated(cmd.OutOrStdout(), created{c.StorePlace(), id, lines}, asJSON)
	}
	return cmd
}

func addConfigFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", os.Getenv("KEYMILL_CONFIG"), "the server's YAML file with settings (or $KEYMILL_CONFIG)")
}

// printCreated prints YAML, so that the output can be appended to the configuration. It begins with a newline,
// because the last line of the configuration may have none.
func printCreated(w io.Writer, c created, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprintf(w, "\n# created a store in %s\ndatabase_id: %s\n%s", terminal.Printable(c.Data), c.DatabaseID, c.lines)
		return err
	}
	raw, err := terminal.MarshalJSON(c)
	if err != nil {
		return err
	}
	return terminal.PrintJSON(w, raw)
}

// newLines returns the flags as lines of the configuration, without those that the file has already. A server
// reads the file, so another value there is an error, except of the directory: that of the flag is used.
func newLines(c *config.Config, given map[string]string) (string, error) {
	lines := ""
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value := given[key]
		switch old, found := c.Written(key); {
		case !found:
			lines += key + ": " + yamlText(value) + "\n"
		case old != value && key != "data":
			return "", terminal.WithHint(terminal.Usage("--%s is %q, and %s has %q", key, value, c.File(), old), "change it in the file, and leave out the flag")
		}
	}
	return lines, nil
}

// plainYAML is text that YAML takes for text, or for a number: a path, a URL or an address.
var plainYAML = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9/._:-]*[A-Za-z0-9/]$`)

// yamlText quotes a value unless it can stand as it is.
func yamlText(value string) string {
	if plainYAML.MatchString(value) && !strings.EqualFold(value, "null") {
		return value
	}
	raw, err := terminal.MarshalJSON(value) // a JSON text is a YAML text
	if err != nil {
		return value
	}
	return strings.TrimSpace(string(raw))
}
