package main

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/django"
	"keymill/cmd/keymill/internal/userimport"
)

func userImportCommand() *cobra.Command {
	r := &userimport.Run{}
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import the users of a Django project, with their passwords",
		Long: `Import the users of a Django project. FILE is what "manage.py dumpdata auth.user" prints, or a
table in CSV whose header has at least id, username, password and is_active. "-" reads standard
input. Ids are kept. Passwords keep working: the server verifies Django's hashes of PBKDF2,
bcrypt, Argon2 and scrypt, and replaces each at the user's first login. A user whose password
is unusable is imported without one.

If the project has a user model of its own, give dumpdata its name, such as accounts.user, and
name its USERNAME_FIELD with --username-field. The value of that field is what users type to log
in, and the setting simplejwt.username_field has its name in requests.

A user whose hash the server does not verify is refused: md5, sha1, crypt, hashes without a
salt, and those that cost too much. --without-password imports such users without a password.
They can log in once "keymill user passwd" has set one.

Each user is added on its own. If one is refused, it is reported with its place in the file,
the others are imported, and the exit code is 1. You can run the command again: users that
already exist are reported, or skipped silently with --skip-existing.

--claim FIELD copies a field into the claims of the user's tokens. In CSV it is a string.`,
		Example: `  keymill user import users.json --format django-json
  python manage.py dumpdata auth.user | keymill user import - --format django-json --skip-existing
  keymill user import users.csv --username-field email --dry-run
  keymill user import users.csv --claim email --dry-run
  keymill user import users.csv --claim email --skip-existing`,
		Args: arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.In, r.Out, r.Errs = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			r.Claims, r.Dial = nonEmpty(r.Claims), func() (*adminapi.Client, error) { return dial(cmd) }
			return r.Import(cmd.Context(), args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Format, "format", "", "django-json or django-csv (default: by the extension of FILE)")
	f.StringVar(&r.UsernameField, "username-field", "username", "the field that users log in with, USERNAME_FIELD in Django; pk for the primary key")
	f.StringArrayVar(&r.Claims, "claim", nil, "a field to copy into the claims (repeatable)")
	f.BoolVar(&r.DryRun, "dry-run", false, "change nothing; report what an import would do")
	f.BoolVar(&r.SkipExisting, "skip-existing", false, "do not report users that already exist")
	f.BoolVar(&r.WithoutPassword, "without-password", false, "import users whose hash is refused without a password")
	addJSONFlag(cmd, &r.JSON)
	// The only error is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(slices.Sorted(maps.Keys(django.Formats())), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}
