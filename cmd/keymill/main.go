// Command keymill is the token server and the commands that an operator runs.
//
//	   keymill serve                        keymill key, client, user, session, …
//	        │                                              │
//	internal/config ── internal/serve                      │ HTTP over DIR/admin.sock
//	                        │                              │
//	                   admin socket ◀──────────────────────┘
//
// The program has one file per command. A command parses flags, asks the running server through
// the admin socket of its data directory, and prints the answer. It decides nothing about
// keys, clients or tokens. Package serve lists the files of a data directory.
//
// Exit codes: 0 done, 1 failed, 2 usage error, 3 (verify and session why) the token could not be
// checked, because there is no key set or no server, 10 (apply) there is something to change. Every error is one line on stderr that begins with "keymill: ", followed by at
// most one line that says what to do.
package main

import (
	"context"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/apply"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/completion"
	"keymill/cmd/keymill/internal/console"
	"keymill/cmd/keymill/internal/manual"
	"keymill/cmd/keymill/internal/migrate"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/verifiercommand"
	"keymill/keystore"
)

func main() {
	keystore.RunProof()
	// Files that this program creates are private to its user.
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
	commandline.StrictHelp(root)
	commandline.StrictCompletion(root)
	return terminal.Report(errs, root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	root := group("keymill", "A token server that rotates its keys by itself", `
Keymill signs JSON Web Tokens with keys that it rotates by itself. It publishes the public
keys, so that every service can verify tokens on its own.

Start with "keymill serve --dev": it needs no configuration and prints commands to paste.`)
	root.Example = `  keymill serve --dev
  keymill audience add orders --ttl 15m --scope read --scope write
  keymill client add billing --grant client_credentials --audience orders --scope read --json
  keymill user import users.json --format django-json
  keymill key list`
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = build().String()
	root.SetVersionTemplate("{{.Version}}")
	root.Flags().BoolP("version", "v", false, "print the version of this program")
	root.SetFlagErrorFunc(commandline.FlagError)
	root.AddCommand(
		serveCommand(), initCommand(), versionCommand(),
		keyCommand(), verifiercommand.Command(addServerFlags, addJSONFlag, dial), audienceCommand(), clientCommand(), userCommand(), sessionCommand(), nodeCommand(), auditCommand(),
		tokenCommand(), verifyCommand(), backupCommand(), restoreCommand(), migrate.Command(addConfigFlag, addJSONFlag, untilSignal), doctorCommand(), healthcheckCommand(), compactCommand(),
		console.Command(addServerFlags, dial), apply.Command(addServerFlags, applyServer), pagesCommand(), accessCommand(), manual.Command(release, build().Time),
	)
	completion.Add(root, dial)
	return root
}

// group and arguments are those of package commandline.
func group(use, short, long string) *cobra.Command { return commandline.Group(use, short, long) }

func arguments(names ...string) cobra.PositionalArgs { return commandline.Arguments(names...) }
