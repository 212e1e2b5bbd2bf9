package migrate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/postgres"
)

// planText is the line before a migration begins.
func (m *migration) planText() string {
	how := "no server has it"
	if m.result.Served {
		how = "its servers answer 503 to logins and refreshes until the end, and serve everything else"
	}
	verb := "moving"
	if m.result.Resumed {
		verb = "going on to move"
	}
	size := "" // that of a database is not known at once
	if m.facts.Bytes > 0 {
		size = ", about " + terminal.Size(m.facts.Bytes)
	}
	return terminal.OneLine(fmt.Sprintf("%s database %s%s, from %s to %s: %s", verb, m.facts.Meta.DatabaseID, size, m.fromAddr, m.toAddr, how))
}

// Print writes what was done, and what comes next.
func (r *Result) Print(w io.Writer) error {
	switch r.Outcome {
	case "planned":
		_, err := fmt.Fprintln(w, "nothing was changed, because of --dry-run")
		return err
	case "freed":
		_, err := fmt.Fprintf(w, "%s is written again; it was not moved\n", terminal.Printable(r.From))
		return err
	}
	line := fmt.Sprintf("moved %s, %s, to %s, and compared each\n", terminal.Count(r.Records, "record"), terminal.Size(r.Bytes), terminal.Printable(r.To))
	if r.Records == 0 {
		line = fmt.Sprintf("%s was moved to %s by an earlier run\n", terminal.Printable(r.From), terminal.Printable(r.To))
	}
	if r.LeftOut > 0 {
		line += fmt.Sprintf("not moved, because another program wrote them to the store: %s\n", terminal.Count(r.LeftOut, "record"))
	}
	line += "no server starts on the old place from now on\n"
	if r.Served {
		line += "the servers that still run there sign and publish keys with what they had; start those of the new place, then stop them\n"
	}
	_, err := io.WriteString(w, line)
	return err
}

// printSQL prints the SQL that makes the tables of a database.
func printSQL(w io.Writer, o Options) error {
	if o.From+o.To != "" || o.Abort || o.DryRun {
		return terminal.Usage("--print prints SQL and moves nothing; leave out the other flags")
	}
	_, err := io.WriteString(w, postgres.Schema())
	return err
}

// isMissing reports whether a target is not there yet.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, postgres.ErrNoTables) || errors.Is(err, errNoStore)
}

// errNoStore means that a data directory has no store.
var errNoStore = errors.New("there is no store")

// isConflict reports whether a server refused a step because of another migration.
func isConflict(err error) bool {
	var refused *adminapi.Error
	return errors.As(err, &refused) && refused.Code == "in_use"
}
