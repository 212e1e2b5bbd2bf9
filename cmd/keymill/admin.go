package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/apply"
	"keymill/cmd/keymill/internal/remote"
)

// addDataFlag adds --data to a command that needs the data directory.
func addDataFlag(cmd *cobra.Command) {
	cmd.PersistentFlags().Var(new(dirName), "data", "the server's data directory (or $KEYMILL_DATA; else keymill-data, keymill-dev)")
}

// addServerFlags adds the flags that name a running server, here or on the network.
func addServerFlags(cmd *cobra.Command) {
	addDataFlag(cmd)
	for _, f := range remote.Flags() {
		cmd.PersistentFlags().String(f.Name, "", f.Help+" (or $"+f.Variable+")")
	}
}

// A dirName is the value of --data. An empty name is refused: it usually comes from
// a variable that is not set, and the command would use a default directory.
type dirName string

func (d *dirName) String() string { return string(*d) }
func (d *dirName) Type() string   { return "string" }

func (d *dirName) Set(text string) error {
	if text == "" {
		return errors.New("the value is empty; is a variable not set?")
	}
	*d = dirName(text)
	return nil
}

// dataDirs returns where to look for the data directory: where the flag or the variable
// says, or else the two defaults.
func dataDirs(cmd *cobra.Command) []string {
	if f := cmd.Flags().Lookup("data"); f != nil && f.Value.String() != "" {
		return []string{f.Value.String()}
	}
	if dir := os.Getenv("KEYMILL_DATA"); dir != "" {
		return []string{dir}
	}
	return []string{"keymill-data", "keymill-dev"}
}

// dial finds the running server that the flags name.
func dial(cmd *cobra.Command) (*adminapi.Client, error) {
	typed := func(flag string) (string, bool) {
		f := cmd.Flags().Lookup(flag)
		if f == nil {
			return "", false
		}
		return f.Value.String(), f.Changed
	}
	return remote.Dial(cmd.Context(), remote.Request{Dirs: dataDirs(cmd), Typed: typed, In: cmd.InOrStdin()})
}

// applyServer is dial for package apply.
func applyServer(cmd *cobra.Command) (apply.Server, error) {
	server, err := dial(cmd)
	if err != nil {
		return nil, err
	}
	return server.Apply, nil
}
