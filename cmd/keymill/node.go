package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/nodetable"
	"keymill/issuer/api"
)

func nodeCommand() *cobra.Command {
	cmd := group("node", "Show the servers that share a store", `
Several servers can share one store on the network. Each of them is a node.`)
	cmd.Example = "  keymill node list"
	addServerFlags(cmd)
	cmd.AddCommand(nodeListCommand())
	return cmd
}

func nodeListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the servers of the store and what each of them does",
		Long: `List the nodes of the store by id, as the server that answers sees them: it has a star. STATE is "live" if
the heartbeat of the node came within the last 15 seconds, and "missing" otherwise; a node that has stopped cleanly is not
listed, and one that is missing is forgotten after a day. BEAT is its last heartbeat, by its own clock, and CLOCK by how
much that clock is ahead of the one of the server that answers. KEYS is the version of the signing keys, and DATA KEY the
generation of the data key, that the node has read: they differ for some seconds after a change. JOBS are those that one
node does for all.`,
		Example: `  keymill node list
  keymill node list --json | jq -r '.nodes[] | select(.live | not) | .id'`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			list, raw, err := adminapi.Ask[api.Nodes](cmd.Context(), server, http.MethodGet, "nodes", nil)
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			return nodetable.Print(cmd.OutOrStdout(), list)
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}
