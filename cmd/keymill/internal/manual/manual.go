// Package manual writes the help of the commands as pages of man(1), in section 1. The page of
// "keymill key list" is keymill-key-list. scripts/release packs them.
//
// cobra has such a generator. It needs a Markdown parser and a second YAML library, which would be
// dependencies of the product, and it runs the lines of a table together.
package manual

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keymill/cmd/keymill/internal/terminal"
)

// Command returns the hidden command "manual", which prints one page. version is that of the program,
// and time is that of its source, in RFC 3339 or "".
func Command(version, time string) *cobra.Command {
	var list bool
	cmd := &cobra.Command{
		Use:     "manual [PAGE]",
		Short:   "Print the manual of a command for man(1)",
		Long:    "Print one page of the manual, in the format of man(1). Without PAGE it is the page of keymill itself.",
		Example: "  keymill manual keymill-key-list | man -l -\n  keymill manual --list",
		Hidden:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return terminal.Usage("%s prints one page, and %d are named", cmd.CommandPath(), len(args))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "print the names of all pages")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		pages := commands(cmd.Root())
		for _, c := range pages {
			switch {
			case list:
				fmt.Fprintln(cmd.OutOrStdout(), name(c))
			case len(args) == 0 || args[0] == name(c):
				day, _, _ := strings.Cut(time, "T")
				return write(cmd.OutOrStdout(), c, version, day)
			}
		}
		if list {
			return nil
		}
		return terminal.WithHint(terminal.Usage("there is no page %q", args[0]), "run %q", cmd.CommandPath()+" --list")
	}
	return cmd
}

// commands returns cmd and all commands below it that are not hidden.
func commands(cmd *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, commands(c)...)
		}
	}
	return list
}

func name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// write prints the page of a command.
func write(w io.Writer, cmd *cobra.Command, version, day string) error {
	p := &page{}
	p.line(".TH %s 1 %q %q Keymill", strings.ToUpper(name(cmd)), day, "keymill "+version)
	p.line(".SH NAME\n%s \\- %s", escape(name(cmd)), escape(cmd.Short))
	usage := cmd.UseLine()
	if !cmd.HasParent() {
		usage += " COMMAND [flags]"
	}
	p.line(".SH SYNOPSIS\n.B %s", escape(usage))
	p.line(".SH DESCRIPTION")
	p.text(cmd.Long)
	if below := commands(cmd)[1:]; len(below) > 0 {
		p.line(".SH COMMANDS")
		for _, c := range below {
			p.item(c.CommandPath(), c.Short)
		}
	}
	p.flags("OPTIONS", cmd.NonInheritedFlags())
	p.flags("OPTIONS OF ALL THESE COMMANDS", cmd.InheritedFlags())
	if cmd.Example != "" {
		p.line(".SH EXAMPLES")
		p.text(cmd.Example)
	}
	p.line(".SH EXIT STATUS")
	p.text("0 done, 1 failed, 2 usage error, 3 (verify and session why) the token could not be checked.")
	if cmd.HasParent() {
		p.line(".SH SEE ALSO\n.BR %s (1)", escape(name(cmd.Parent())))
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// A page is text in the language of groff_man(7).
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// text adds paragraphs, which empty lines separate. Lines that begin with a space stay as they are.
func (p *page) text(text string) {
	filled := true
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		line = strings.TrimRight(line, "\n")
		switch indented := strings.HasPrefix(line, " "); {
		case line == "":
			p.line(".sp")
			continue
		case indented && filled:
			p.line(".nf")
			filled = false
		case !indented && !filled:
			p.line(".fi")
			filled = true
		}
		p.line("%s", escape(line))
	}
	if !filled {
		p.line(".fi")
	}
}

func (p *page) item(term, text string) { p.line(".TP\n.B %s\n%s", escape(term), escape(text)) }

func (p *page) flags(heading string, flags *pflag.FlagSet) {
	if flags.HasAvailableFlags() {
		p.line(".SH %s", heading)
	}
	flags.VisitAll(func(f *pflag.Flag) {
		kind, usage := pflag.UnquoteUsage(f)
		term := "--" + f.Name
		if f.Shorthand != "" {
			term = "-" + f.Shorthand + ", " + term
		}
		if kind != "" {
			term += " " + kind
		}
		if !f.Hidden {
			p.item(term, usage)
		}
	})
}

// escape protects what roff would read as its own: a backslash, a hyphen that a reader copies, and a
// period or an apostrophe at the beginning of a line.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}
