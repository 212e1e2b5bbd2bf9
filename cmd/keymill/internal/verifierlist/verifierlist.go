// Package verifierlist prints which verifiers were served which keys.
//
//	NAME        LAST                  USUAL    SERVED                  WAITED UNTIL
//	django-1    2026-11-26T08:00:12Z  24h0m0s  misses spare 8XkPz0aa…  2026-11-28T08:00:12Z
//	orders-api  2026-11-28T20:31:05Z  5m0s     current                 -
//
// Names, user agents and kids come from others. Tables make them printable, and callers print the
// other texts with terminal.OneLine.
package verifierlist

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

// Stages has the stage of each key: kid → "spare", "active", …
type Stages map[string]string

// StagesOf returns the stages of keys.
func StagesOf(keys []api.Key) Stages {
	stages := Stages{}
	for _, k := range keys {
		stages[k.KID] = k.Stage
	}
	return stages
}

// Print writes a table of pinned verifiers.
func (s Stages) Print(w io.Writer, list ...api.Verifier) error {
	t := terminal.NewTable(w, "NAME", "LAST", "USUAL", "SERVED", "WAITED UNTIL")
	for _, v := range list {
		t.Row(v.Name, terminal.FormatTime(v.Last), terminal.OrDash(v.Usual), s.served(v), waited(v))
	}
	return t.Flush()
}

func waited(v api.Verifier) string {
	if !v.Waited {
		return "-"
	}
	return terminal.FormatTime(v.WaitedUntil)
}

// served says whether the verifier was served the published set.
func (s Stages) served(v api.Verifier) string {
	if v.Last == nil {
		return "never came"
	}
	return s.current(v.Missing)
}

// current says which keys a set misses.
func (s Stages) current(missing []string) string {
	if len(missing) == 0 {
		return "current"
	}
	var words []string
	for _, kid := range missing {
		words = append(words, strings.TrimSpace(s[kid]+" "+short(kid)))
	}
	return "misses " + Names(words)
}

// short returns the beginning of a long kid, which is enough to find it in the list of keys.
func short(kid string) string {
	const shown = 8
	if r := []rune(kid); len(r) > shown+4 {
		return string(r[:shown]) + "…"
	}
	return kid
}

// PrintOne writes all that is known about one pinned verifier.
func (s Stages) PrintOne(w io.Writer, v api.Verifier) error {
	t := terminal.NewTable(w)
	t.Row("verifier:", v.Name)
	t.Row("URL:", v.URL)
	t.Row("header:", Header(v))
	t.Row("added:", terminal.FormatTime(&v.Added))
	t.Row("last came:", terminal.FormatTime(v.Last))
	t.Row("usually every:", terminal.OrDash(v.Usual))
	t.Row("served:", s.served(v))
	for _, kid := range v.Served {
		t.Row("", strings.TrimSpace(kid+" "+s.stage(kid)))
	}
	if len(v.Missing) > 0 {
		t.Row("misses:", strings.TrimSpace(v.Missing[0]+" "+s.stage(v.Missing[0])))
		for _, kid := range v.Missing[1:] {
			t.Row("", strings.TrimSpace(kid+" "+s.stage(kid)))
		}
	}
	t.Row("waited until:", waited(v))
	return t.Flush()
}

// stage says what became of a key. One that is not listed was dropped or revoked.
func (s Stages) stage(kid string) string {
	if stage := s[kid]; stage != "" {
		return stage
	}
	return "no longer published"
}

// Header returns the header with which a verifier names itself, as it is configured.
func Header(v api.Verifier) string { return "Keymill-Verifier: " + v.Credential }

// PrintObserved writes a table of addresses that fetched the key set without a name.
func (s Stages) PrintObserved(w io.Writer, list ...api.ObservedVerifier) error {
	t := terminal.NewTable(w, "ADDRESS", "THROUGH", "FIRST", "LAST", "FETCHES", "SERVED", "USER AGENT")
	for _, o := range list {
		t.Row(o.Address, terminal.OrDash(o.Through), terminal.FormatTime(&o.First), terminal.FormatTime(&o.Last),
			strconv.FormatUint(o.Fetches, 10), s.current(o.Missing), terminal.OrDash(o.Agent))
	}
	return t.Flush()
}

// maxNamed is how many names a line has.
const maxNamed = 3

// Names joins up to three names, and counts the others.
func Names(names []string) string { return join(names, ", ") }

func join(parts []string, separator string) string {
	named := slices.Clone(parts[:min(len(parts), maxNamed)])
	if others := len(parts) - len(named); others > 0 {
		return strings.Join(named, separator) + separator + "and " + terminal.Count(others, "other")
	}
	return strings.Join(named, separator)
}

// PrintReach writes a line for the spare of each ring whose pinned verifiers are known.
func PrintReach(w io.Writer, keys []api.Key) error {
	for _, k := range keys {
		if k.Stage != "spare" || k.Reach == nil {
			continue
		}
		line := fmt.Sprintf("ring %s: spare served to %d of %s", k.Alg, k.Reach.Served, terminal.Count(k.Reach.Pinned, "pinned verifier"))
		var behind []string
		for _, b := range k.Reach.Behind {
			behind = append(behind, lastSeen(b.Name, b.Last))
		}
		if len(behind) > 0 {
			line += "; " + join(behind, "; ")
		}
		if _, err := fmt.Fprintln(w, terminal.OneLine(line)); err != nil {
			return err
		}
	}
	return nil
}

func lastSeen(name string, last *time.Time) string {
	if last == nil {
		return name + " never came"
	}
	return fmt.Sprintf("%s last came %s, was served a set without it", name, terminal.FormatTime(last))
}
