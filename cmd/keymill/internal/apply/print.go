package apply

import (
	"fmt"
	"io"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
)

// sign is how a plan marks an act.
func sign(act string) string {
	switch act {
	case add:
		return "+"
	case remove, forget:
		return "-"
	}
	return "~"
}

// Changes reports whether the plan has something to do.
func (p *Plan) Changes() bool { return len(p.Steps) > 0 }

// Print writes one line for each step, with what it does beside, and one with the rest:
//
//   - audience orders (EdDSA, 15m, rfc9068, read write)
//     ~ client web: scopes read → read write
//   - client old (applied earlier, no longer in the files)
//     ! ends 3 live sessions
//     = 12 unchanged
func (p *Plan) Print(w io.Writer) error {
	var b strings.Builder
	for _, s := range p.Steps {
		details := ": " + strings.Join(s.Details, ", ")
		if s.Act == add || s.Act == remove || s.Act == forget {
			details = " (" + strings.Join(s.Details, ", ") + ")"
		}
		if len(s.Details) == 0 {
			details = ""
		}
		fmt.Fprintln(&b, terminal.OneLine(sign(s.Act)+" "+labelOf(s.Kind, s.Name)+details))
		for _, warning := range s.Warnings {
			fmt.Fprintln(&b, "    ! "+terminal.OneLine(warning))
		}
	}
	fmt.Fprintf(&b, "= %d unchanged\n", p.Unchanged)
	if p.Leftover > 0 {
		fmt.Fprintf(&b, "= %d applied earlier and no longer in the files; --prune removes what is left of that\n", p.Leftover)
	}
	switch {
	case p.Applied && p.Changes():
		b.WriteString("applied\n")
	case p.began && p.Changes():
		fmt.Fprintf(&b, "stopped: %d of %s done\n", p.Done, terminal.Count(len(p.Steps), "step"))
	case p.Unchecked != "":
		fmt.Fprintf(&b, "nothing was changed, and --yes cannot apply this plan: %s\n", terminal.OneLine(p.Unchecked))
	case p.Changes():
		b.WriteString("nothing was changed; --yes applies this plan\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
