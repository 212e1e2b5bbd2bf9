package diagnose

import (
	"context"
	"fmt"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/openstore"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/postgres"
)

// checkDatabase says what the server of a shared store is, and what its standbys are worth. The store has opened, so nothing
// of it is a fault.
func (d *Doctor) checkDatabase(ctx context.Context, store *openstore.Store) {
	s, err := store.Describe(ctx)
	d.findings.add("database", fmt.Sprintf("PostgreSQL %s, fsync is %s, synchronous_commit is %s; functions %s of schema %d",
		s.Version, s.Fsync, s.SynchronousCommit, strings.Join(s.Functions, ", "), s.Schema), err)
	if err == nil {
		d.findings.add("standby", standbyText(s), nil)
	}
}

const (
	runStandby = `run a synchronous standby, see docs/postgres.md`
	// lateStandby is how far a synchronous standby may be behind before doctor says so: each commit waits for it.
	lateStandby = time.Second
)

// standbyText says which standbys there are, and gives advice.
func standbyText(s postgres.Server) string {
	var all, advice []string
	confirms := false
	for _, b := range s.Standbys {
		switch {
		case b.Hidden:
			all = append(all, terminal.Printable(b.Name)+" (hidden)")
			confirms = true // it may
			continue
		case b.Sync == "sync", b.Sync == "quorum":
			confirms = true
			if b.Lag > lateStandby {
				advice = append(advice, fmt.Sprintf("%s is slow, and commits wait for it", terminal.Printable(b.Name)))
			}
		}
		all = append(all, fmt.Sprintf("%s (%s, %s and %s behind)", terminal.Printable(b.Name), b.Sync, terminal.Size(b.Behind), b.Lag.Round(time.Millisecond)))
	}
	switch {
	case s.StandbyNames == "":
		advice = append(advice, "no commit waits for a standby (synchronous_standby_names is empty), so a failover loses what was acknowledged last: "+runStandby)
	case !confirms:
		advice = append(advice, fmt.Sprintf("no standby of synchronous_standby_names (%s) is connected, so commits wait for one: start it", terminal.Printable(s.StandbyNames)))
	case s.SynchronousCommit == "remote_write":
		advice = append(advice, "commits wait until a standby has received them, not until it has them on disk: set synchronous_commit to on")
	}
	for _, b := range s.Standbys {
		if b.Hidden {
			advice = append(advice, "the role may not see whether they are synchronous and how far they are behind: grant it pg_read_all_stats")
			break
		}
	}
	text := "none"
	if len(all) > 0 {
		text = strings.Join(all, ", ")
	}
	if len(advice) > 0 {
		text += "; " + strings.Join(advice, "; ")
	}
	return terminal.OneLine(text)
}
