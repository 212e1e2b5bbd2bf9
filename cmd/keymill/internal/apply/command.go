package apply

import (
	"context"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
)

// wouldChange is the exit code of a plan that has something to do.
const wouldChange = 10

// Command returns the command "apply". addFlags adds the flags that name a server, and dial returns that
// server.
func Command(addFlags func(*cobra.Command), dial func(*cobra.Command) (Server, error)) *cobra.Command {
	var files []string
	var yes, prune, asJSON bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE|DIR",
		Short: "Bring audiences, clients, verifiers and claims to what files say",
		Long: `Compare the store with files and print a plan: what would be added (+), changed (~) and removed (-).
With --yes the plan is applied. FILE is YAML; of a directory, all files *.yaml and *.yml in it are read;
"-" is standard input. Give all files together, with -f for each: a server has one set of applied entries.
An entry is the whole truth about what it names: what it leaves out is the default.

Nothing is removed without --prune. With it, the plan also removes what was applied before and is no
longer in the files; what was added by other means stays.

The server checks the plan first, so a value that it refuses changes nothing. If an entry changes after
that, apply stops there and says what was done before.

Exit codes: 0 nothing to change, or all is applied; 10 without --yes, if there is something to change;
1 failed; 2 usage error.`,
		Example: "  keymill apply -f keymill.d --yes\n  keymill apply -f keymill.d --prune\n  keymill apply -f clients.yaml --json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return terminal.WithHint(terminal.Usage("unexpected argument %q", args[0]), "give each file its own -f, or the directory of all: keymill apply -f DIR")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(files) == 0 || slices.Contains(files, ""):
				return terminal.WithHint(terminal.Usage("-f is missing or empty"), "keymill apply -f FILE or -f DIR")
			case twice(files, "-"):
				return terminal.Usage("-f - is given twice, and standard input can be read once")
			}
			plan, err := makePlan(cmd, dial, files, prune)
			if err == nil && yes {
				// A second signal ends the command at once.
				ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
				context.AfterFunc(ctx, stop)
				err = plan.Run(ctx)
				stop()
			}
			if plan != nil {
				err = printPlan(cmd, plan, asJSON, err)
			}
			if err == nil && plan.Changes() && !yes {
				err = &terminal.Error{Err: terminal.ErrSilent, Code: wouldChange}
			}
			return err
		},
	}
	addFlags(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&files, "file", "f", nil, "a `FILE` or directory to apply (repeatable); \"-\" is standard input")
	f.BoolVar(&yes, "yes", false, "apply the plan")
	f.BoolVar(&prune, "prune", false, "also remove what was applied before and is no longer in the files")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// twice reports whether s is in list more than once.
func twice(list []string, s string) bool {
	first := slices.Index(list, s)
	return first >= 0 && slices.Contains(list[first+1:], s)
}

// makePlan reads the files and makes a plan. It is nil if there is an error.
func makePlan(cmd *cobra.Command, dial func(*cobra.Command) (Server, error), names []string, prune bool) (*Plan, error) {
	files, err := Read(cmd.InOrStdin(), names...)
	if err != nil {
		return nil, err
	}
	server, err := dial(cmd)
	if err != nil {
		return nil, err
	}
	return New(cmd.Context(), server, files, prune)
}

// printPlan prints a plan, also one that failed with err.
func printPlan(cmd *cobra.Command, plan *Plan, asJSON bool, err error) error {
	var printed error
	if asJSON {
		var raw []byte
		if raw, printed = terminal.MarshalJSON(plan); printed == nil {
			printed = terminal.PrintJSON(cmd.OutOrStdout(), raw)
		}
	} else {
		printed = plan.Print(cmd.OutOrStdout())
	}
	if err != nil {
		return err
	}
	return printed
}
