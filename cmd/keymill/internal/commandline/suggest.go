package commandline

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/terminal"
)

// UnknownCommand returns the error for a command that the group does not have, with the one that was probably
// meant.
func UnknownCommand(group *cobra.Command, name string) error {
	err := terminal.Usage("unknown command %q for %q", name, group.CommandPath())
	near := sameMeaning(name, commandsOf(group))
	if near == "" {
		near = terminal.Nearest(name, commandsOf(group))
	}
	if near != "" {
		return terminal.WithHint(err, "did you mean %q?", group.CommandPath()+" "+near)
	}
	return terminal.WithHint(err, "run %q to list the commands", group.CommandPath()+" --help")
}

func commandsOf(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// sameMeaning returns the command that other programs call word, or "". It is only suggested: a word
// that removes something must not be guessed.
func sameMeaning(word string, commands []string) string {
	for _, words := range [][]string{
		{"remove", "revoke", "delete", "del", "rm", "destroy"},
		{"add", "create", "new"},
		{"list", "tail", "ls", "show", "log", "print"},
		{"show", "why", "get", "view", "describe", "info", "inspect"},
		{"set", "edit", "update", "change", "modify"},
		{"revoke", "logout", "end", "kill"},
		{"passwd", "password"}, {"rename", "mv"}, {"unblock", "unlock"},
		{"serve", "start", "run", "server"}, {"init", "setup"}, {"doctor", "check", "status"},
	} {
		for _, name := range words {
			if slices.Contains(words, word) && slices.Contains(commands, name) {
				return name
			}
		}
	}
	return ""
}

// FlagError says what is wrong with a flag, and what was probably meant.
func FlagError(cmd *cobra.Command, err error) error {
	// A flag of a mistyped command is unknown to the group, but the command is the mistake.
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return UnknownCommand(cmd, cmd.Flags().Arg(0))
	}
	usage := terminal.Usage("%w", err)
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !cmd.HasParent() && (name == "version" || strings.HasSuffix(err.Error(), " in -v") || strings.HasSuffix(err.Error(), " in -V")) {
		return terminal.WithHint(usage, "did you mean %q?", "keymill version")
	}
	if near := terminal.Nearest(name, flagsOf(cmd)); unknown && near != "" {
		return terminal.WithHint(usage, "did you mean %q?", "--"+near)
	}
	return terminal.WithHint(usage, "run %q to see the flags", cmd.CommandPath()+" --help")
}

// flagsOf returns the names of the flags of cmd.
func flagsOf(cmd *cobra.Command) (names []string) {
	for _, word := range strings.Fields(cmd.Flags().FlagUsages()) {
		if name, ok := strings.CutPrefix(word, "--"); ok && cmd.Flags().Lookup(name) != nil {
			names = append(names, name)
		}
	}
	return names
}
