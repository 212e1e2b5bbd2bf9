package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/audit"
)

// auditPage is the answer of GET /admin/v1/audit.
type auditPage struct {
	Records []json.RawMessage `json:"records"`
}

func auditCommand() *cobra.Command {
	cmd := group("audit", "Read the audit log", `
Every change to keys, audiences, clients, users and sessions writes an audit record in the
same transaction. Read them to find out who changed what, and when. Each record holds the
hash of the one before it, and "keymill doctor" checks the chain.`)
	cmd.Example = "  keymill audit tail -n 20"
	addDataFlag(cmd)
	cmd.AddCommand(auditTailCommand())
	return cmd
}

func auditTailCommand() *cobra.Command {
	var lines int
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the newest audit records, oldest first",
		Long: `Print the newest audit records, oldest first. A line shows the number, the time, the action,
who did it, on what, and details. With --json each record is one line of JSON.`,
		Example: "  keymill audit tail -n 20\n  keymill audit tail -f\n  keymill audit tail -n 1000 --json | jq -c 'select(.action | startswith(\"key.\"))'",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if lines < 0 || lines > 1000 {
				return terminal.Usage("-n %d is not between 0 and 1000", lines)
			}
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			show := auditTable(cmd.OutOrStdout())
			if asJSON {
				show = auditLines(cmd.OutOrStdout())
			}
			return auditTail(cmd.Context(), server, lines, follow, show)
		},
	}
	cmd.Flags().IntVarP(&lines, "lines", "n", 20, "how many of the newest records to print, at most 1000")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print new records as they come, until interrupted")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// auditTail shows the newest records. With follow it asks for new ones every second.
func auditTail(ctx context.Context, server *adminClient, lines int, follow bool, show func([]json.RawMessage) error) error {
	// -n 0 asks for one record too: its number says where to follow from.
	page, _, err := ask[auditPage](ctx, server, http.MethodGet, "audit?limit="+strconv.Itoa(max(lines, 1)), nil)
	if err != nil {
		return err
	}
	last, err := lastSeq(page.Records, 0)
	if err != nil {
		return err
	}
	if lines > 0 {
		if err := show(page.Records); err != nil {
			return err
		}
	}
	for follow {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		page, _, err := ask[auditPage](ctx, server, http.MethodGet, fmt.Sprintf("audit?after=%d&limit=1000", last), nil)
		if err != nil {
			return err
		}
		if last, err = lastSeq(page.Records, last); err != nil {
			return err
		}
		if err := show(page.Records); err != nil {
			return err
		}
	}
	return nil
}

func lastSeq(records []json.RawMessage, before uint64) (uint64, error) {
	if len(records) == 0 {
		return before, nil
	}
	var r audit.Record
	if err := json.Unmarshal(records[len(records)-1], &r); err != nil {
		return 0, fmt.Errorf("cannot read the server's answer: %w", err)
	}
	return r.Seq, nil
}

// auditLines prints each record as one line of JSON.
func auditLines(w io.Writer) func([]json.RawMessage) error {
	return func(records []json.RawMessage) error {
		for _, r := range records {
			if _, err := fmt.Fprintf(w, "%s\n", r); err != nil {
				return err
			}
		}
		return nil
	}
}

func auditTable(w io.Writer) func([]json.RawMessage) error {
	return func(records []json.RawMessage) error {
		t := terminal.NewTable(w)
		for _, raw := range records {
			var r audit.Record
			if err := json.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("cannot read the server's answer: %w", err)
			}
			t.Row(strconv.FormatUint(r.Seq, 10), terminal.FormatTime(&r.Time), r.Action, r.By, terminal.OrDash(r.Target), detailText(r.Detail))
		}
		return t.Flush()
	}
}

// detailText writes a record's details into one cell, ordered by name.
func detailText(detail map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(detail)) {
		words = append(words, name+"="+terminal.Printable(detail[name]))
	}
	return strings.Join(words, " ")
}
