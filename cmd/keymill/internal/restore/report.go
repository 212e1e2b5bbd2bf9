package restore

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
)

// Print says what was done, and what the administrator has to do now.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("restored database %s as it was at %s: %s, then %s", terminal.Printable(r.Header.Database),
		terminal.FormatTime(&r.Trailer.Ended), terminal.Count(r.Trailer.Records, "record"), terminal.Count(r.Trailer.Changes, "change"))
	if r.Before != "" {
		line("the store that was here is now %s", terminal.Printable(r.Before))
	}
	if r.Created != "" {
		line("the directory %s is new and belongs to the user who ran this. Give it to the server's user, if that is another one: chown -R USER: %s",
			terminal.Printable(r.Created), terminal.ShellWord(r.Created))
	}
	if r.Trailer.LeftOut > 0 {
		line("not in the backup, because another program wrote them to the store: %s", terminal.Count(r.Trailer.LeftOut, "record"))
	}
	for _, f := range r.Damage {
		line("still damaged: %s: %s", f.Check, f.Detail)
	}
	r.printKeys(line)
	switch {
	case r.Sessions:
		line("the sessions of the backup go on: also those that were ended, and of users who were disabled or changed their password, since then")
	case r.Ended:
		line("all sessions have ended: they were ended after the backup was made")
	default:
		line("all sessions have ended")
	}
	line("")
	line("What was changed after %s is not in the backup. Check and repeat:", terminal.FormatTime(&r.Trailer.Ended))
	line("  users who were added, renamed, disabled or removed, and changed passwords")
	line("  clients and audiences that were added, changed or removed, and new client secrets")
	if r.Sessions {
		line("  access tokens that were revoked one by one, which /introspect finds active again")
	}
	line("The audit log ends there too.")
	if r.Before != "" {
		line("The rest of it is in the store that was replaced: keymill audit tail --store %s", terminal.ShellWord(r.Before))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printKeys says which keys sign, verify or are revoked.
func (r *Report) printKeys(line func(format string, args ...any)) {
	k := r.Renewal
	for _, alg := range slices.Sorted(maps.Keys(k.Signing)) {
		line("%s tokens are signed with the new key %s", alg, k.Signing[alg])
	}
	line("services with a cached key set may refuse new tokens for %s after the start, and at least until %s", r.maxAge, terminal.FormatTime(&k.UnknownUntil))
	switch {
	case k.Listed:
		line("the list of revoked keys was written at %s", terminal.FormatTime(k.ListedAt))
	case k.ListedAt != nil:
		line("the list of revoked keys, written at %s, is incomplete or older than the backup", terminal.FormatTime(k.ListedAt))
	default:
		line("keymill.revoked is missing, damaged or belongs to another store")
	}
	switch {
	case len(k.Dropped) > 0 && k.Listed:
		line("revoked after the backup was made, and so revoked again: %s", strings.Join(k.Dropped, " "))
	case len(k.Dropped) > 0:
		line("revoked now, because they may have been revoked after the backup was made: %s; services refuse their tokens", strings.Join(k.Dropped, " "))
	}
	if len(k.Kept)+len(k.Added) > 0 {
		line("only verify from now on: %s", strings.Join(slices.Concat(k.Kept, k.Added), " "))
	}
}
