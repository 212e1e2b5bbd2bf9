// Command keymill is the token server and everything that an operator types at it.
//
//	        keymill serve                          keymill key, client, user, session, …
//	              │                                               │
//	  config ── master key ── DIR ── lock                         │ HTTP over DIR/admin.sock
//	              │                                               │
//	storage ── keystore ── issuer ── endpoint ── public listener  │
//	                                     └────── admin socket ◀───┘
//
// The program has one file per verb. It decides nothing about keys, clients or tokens:
// it reads the configuration, opens the rooms in order, and prints. The files of a data
// directory DIR (0700):
//
//	lock             held while a server or doctor works on DIR
//	keymill.db       the store
//	admin.sock       the admin API; its peer must be the server's user or root
//	dev-master-key   only with --dev: the master key, made at the first start
//	dev-credentials  only with --dev: issuer, client secrets and a password, JSON
//
// Exit codes: 0 done, 1 it did not work, 2 it was typed wrongly, 3 (verify alone) there
// was no key set to check with. Every error is one line on stderr that begins with
// "keymill: ", followed by at most one line that says what to type next.
package main

import (
	"context"
	"io"
	"os"
	"strings"
	"syscall"

	"keymill/cmd/keymill/internal/terminal"

	"github.com/spf13/cobra"
)

func main() {
	// Whatever this program makes belongs to its user alone.
	syscall.Umask(0o077)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(kidsLast(args))
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	strictCompletion(root)
	return terminal.Report(errs, root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	root := group("keymill", "A token server whose keys rotate by themselves", `
Keymill signs JSON Web Tokens with keys that it rotates by itself, and publishes the
public halves so that every service verifies tokens on its own.

Start with "keymill serve --dev": it needs no configuration and prints lines to paste.`)
	root.Example = `  keymill serve --dev
  keymill audience add orders --alg EdDSA --ttl 15m --scope read
  keymill client add billing --grant client_credentials --audience orders --scope read
  keymill user import users.json --format django-json
  keymill key list`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return terminal.WithHint(terminal.Usage("%v", err), "%q tells more", cmd.CommandPath()+" --help")
	})
	root.AddCommand(
		serveCommand(), versionCommand(),
		keyCommand(), audienceCommand(), clientCommand(), userCommand(), sessionCommand(), auditCommand(),
		tokenCommand(), verifyCommand(), doctorCommand(),
	)
	return root
}

// group returns a command that only holds others. Cobra would print the help for a
// mistyped verb of a group and call that success; here it is an error that suggests.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long:  strings.TrimSpace(long),
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			err := terminal.Usage("unknown verb %q of %s", args[0], cmd.CommandPath())
			if near := terminal.Nearest(args[0], verbsOf(cmd)); near != "" {
				return terminal.WithHint(err, "did you mean %q?", cmd.CommandPath()+" "+near)
			}
			return terminal.WithHint(err, "%q lists them", cmd.CommandPath()+" --help")
		},
	}
}

// strictCompletion adds cobra's own group "completion" and makes it as strict as ours: a
// shell that it does not know would get the help, and a script would take it for success.
// Cobra binds the output here, so root has to have its own already.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		strict := group("", "", "")
		cmd.Args, cmd.RunE = strict.Args, strict.RunE
		for _, shell := range cmd.Commands() {
			shell.Args = arguments()
		}
	}
}

func verbsOf(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// arguments accepts exactly the named positional arguments.
func arguments(names ...string) cobra.PositionalArgs {
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
		return terminal.WithHint(err, "%q shows how", cmd.CommandPath()+" --help")
	}
}
