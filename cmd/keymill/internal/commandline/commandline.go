// Package commandline makes the command line strict. Cobra prints its help for a command that it does not
// know and reports success, which a script takes for an answer. Here a mistyped command, argument or flag
// is a usage error, and the error suggests what was probably meant. The package also reads the flags that
// were given and prints what a command did, in the way that is common to all commands.
package commandline

import (
	"strings"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
)

// Group returns a command that only holds others. For a mistyped command of a group, cobra
// would print the help and exit with 0. Here it is an error with a suggestion.
func Group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long:  strings.TrimSpace(long),
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return UnknownCommand(cmd, args[0])
		},
	}
}

// StrictCompletion adds cobra's own group "completion" and makes it strict: for an unknown
// shell, cobra would print the help, and a script would take that for success. Cobra reads
// the output of root here, so it must be set before.
func StrictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		strict := Group("", "", "")
		cmd.Args, cmd.RunE = strict.Args, strict.RunE
		for _, shell := range cmd.Commands() {
			shell.Args = Arguments()
		}
	}
}

// Arguments returns a check for exactly the named positional arguments.
func Arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		var err error
		switch {
		case len(args) < len(names):
			err = terminal.Usage("%s is missing", names[len(args)])
		case len(args) > len(names):
			err = terminal.Usage("unexpected argument %q", args[len(names)])
		default:
			return nil
		}
		return terminal.WithHint(err, "run %q for the usage", cmd.CommandPath()+" --help")
	}
}

// StrictHelp makes "help" fail for a command that does not exist: cobra would print the help of the
// program and exit with 0.
func StrictHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, _ := root.Find([]string{"help"})
	help.Run, help.RunE = nil, func(_ *cobra.Command, args []string) error {
		target, rest, err := root.Find(args)
		switch {
		case err != nil:
			return terminal.Usage("%w", err)
		case len(rest) > 0 && target.HasSubCommands():
			return UnknownCommand(target, rest[0])
		case len(rest) > 0:
			return Arguments()(target, rest)
		}
		target.InitDefaultHelpFlag()
		return target.Help()
	}
}
