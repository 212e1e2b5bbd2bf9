package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/backupfile"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/terminal"
)

// A backupRun is one run of the command.
type backupRun struct {
	check, overwrite, asJSON bool
	recipients, lists        []string // public keys, and files of them
	identities               []string // files of secret keys
	config                   string
}

func backupCommand() *cobra.Command {
	b := &backupRun{}
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the store of the running server to a file",
		Long: `Copy the store of the running server, which goes on serving. The command prints the time of the
backup: every change that the server answered before that time is in it. FILE appears only once it is
complete. "-" writes to standard output.

A backup holds what the store holds: names of users, hashes of passwords, and private keys that are
sealed under the master key. Keep it as private as the store, and away from the master key: with
both, anyone can sign tokens. --recipient encrypts the backup with age to a public key, so that the
machine that makes backups cannot read them.

--check reads a backup as a restore does: it makes a store of it in the directory for temporary files
($TMPDIR, or /tmp), decrypted, checks every record there and removes it. Only kill -9 and a crash
leave it, as keymill-check-*. Name the master key as for doctor. Without it the pages and
the checksum are checked, and the output says what was not.`,
		Example: `  keymill backup today.backup
  keymill backup --check today.backup
  keymill backup - | ssh backup.example "cat > keymill-today"
  keymill backup --overwrite --recipient age1qqyw9… /var/backups/keymill/today.age
  keymill backup --check /var/backups/keymill/today --config /etc/keymill/keymill.yaml
  keymill backup --check --identity age-key.txt /var/backups/keymill/today.age`,
		Args: arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if b.check {
				return b.runCheck(cmd, args[0])
			}
			defer untilSignal(cmd)()
			return b.run(cmd, args[0])
		},
	}
	f := cmd.Flags()
	f.BoolVar(&b.check, "check", false, "check the backup in FILE instead of making one")
	f.BoolVar(&b.overwrite, "overwrite", false, "replace FILE")
	f.StringArrayVar(&b.recipients, "recipient", nil, "encrypt to this public `KEY` of age (repeatable)")
	f.StringArrayVar(&b.lists, "recipients-file", nil, "encrypt to all public keys in `FILE` (repeatable)")
	f.StringArrayVar(&b.identities, "identity", nil, "with --check: `FILE` with the secret key of age (repeatable)")
	addConfigFlag(cmd, &b.config)
	addServerFlags(cmd)
	addJSONFlag(cmd, &b.asJSON)
	return cmd
}

func (b *backupRun) run(cmd *cobra.Command, name string) error {
	if len(b.identities) > 0 {
		return terminal.WithHint(terminal.Usage("--identity opens a backup"), "use it with --check; to encrypt, name a --recipient")
	}
	recipients, err := backupfile.Recipients(b.recipients, b.lists)
	if err != nil {
		return err
	}
	server, err := b.dial(cmd)
	if err != nil {
		return err
	}
	if name == "-" {
		return b.toOutput(cmd, server, recipients)
	}
	if err := backupfile.CheckPlace(name, server.Data()); err != nil {
		return err
	}
	f, err := backupfile.Create(name, b.overwrite)
	if err != nil {
		return err
	}
	defer f.Remove()
	header, trailer, err := backupfile.Make(cmd.Context(), server, f, recipients, cmd.ErrOrStderr())
	if err == nil {
		err = f.Commit()
	}
	if err != nil && cmd.Context().Err() != nil {
		return fmt.Errorf("interrupted; %s was not written", name)
	}
	if err != nil {
		return err
	}
	return commandline.SayOrJSON(cmd, b.asJSON, map[string]any{"file": name, "header": header, "trailer": trailer},
		"%s is a backup of database %s as it was at %s: %s, then %s", name, header.Database,
		terminal.FormatTime(&trailer.Ended), terminal.Count(trailer.Records, "record"), terminal.Count(trailer.Changes, "change"))
}

// dial finds the server whose configuration --config names, or else that of the data directory.
func (b *backupRun) dial(cmd *cobra.Command) (*adminapi.Client, error) {
	given := cmd.Flags().Changed
	if b.config == "" || given("data") && !given("config") {
		return dial(cmd)
	}
	c, err := config.Load(b.config, commandline.GivenFlags(cmd, "data"), false)
	if err != nil {
		return nil, err
	}
	return adminapi.Dial(cmd.Context(), []string{c.Data})
}

// toOutput writes the copy to standard output. What it did goes to standard error.
func (b *backupRun) toOutput(cmd *cobra.Command, server *adminapi.Client, recipients []age.Recipient) error {
	out := cmd.OutOrStdout()
	if f, ok := out.(*os.File); ok && terminal.IsTerminal(f) {
		return terminal.WithHint(errors.New("refusing to write a backup to a terminal"), "name a file, or redirect the output")
	}
	if b.asJSON {
		return terminal.Usage("--json would be mixed with the backup; name a file instead of \"-\"")
	}
	signal.Ignore(syscall.SIGPIPE) // a closed pipe is an error with a line
	failed := make(chan error, 1)
	go func() {
		header, trailer, err := backupfile.Make(cmd.Context(), server, out, recipients, cmd.ErrOrStderr())
		if err == nil {
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "copied database %s as it was at %s\n", header.Database, terminal.FormatTime(&trailer.Ended))
		}
		failed <- err
	}()
	select {
	case err := <-failed:
		return err
	case <-cmd.Context().Done(): // the other program may never read
		return errors.New("interrupted; the backup on standard output is not whole")
	}
}

func (b *backupRun) runCheck(cmd *cobra.Command, name string) error {
	if b.overwrite || len(b.recipients) > 0 || len(b.lists) > 0 {
		return terminal.Usage("--overwrite, --recipient and --recipients-file are for making a backup, not for --check")
	}
	c, dirs, err := checkedKeys(cmd, b.config)
	if err != nil {
		return err
	}
	_ = diagnose.FindStore(c, dirs) // a trial server's has its key; a copy can be checked where there is none
	defer untilSignal(cmd)()
	p := terminal.NewProgress(cmd.ErrOrStderr())
	in, err := backupfile.OpenInput(cmd.Context(), backupfile.Source{Name: name, Stdin: cmd.InOrStdin(), Identities: b.identities}, p)
	if cmd.Context().Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil {
		return err
	}
	defer in.Close()
	d := &diagnose.Doctor{Config: c, Program: "/proc/self/exe"}
	if p.Bar() {
		d.Progress = cmd.ErrOrStderr()
	}
	findings, err := d.ExamineCopy(cmd.Context(), in)
	if err != nil {
		return err
	}
	return findings.Print(cmd.OutOrStdout(), b.asJSON)
}

// untilSignal ends the context of cmd at a signal that would end the process, so that the command can remove
// what it has begun. The caller calls stop at the end.
func untilSignal(cmd *cobra.Command) (stop func()) {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second one ends a command that waits for something else
	cmd.SetContext(ctx)
	return stop
}
