package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/django"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func userImportCommand() *cobra.Command {
	m := &importRun{}
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
		RunE: func(cmd *cobra.Command, args []string) error { return m.run(cmd, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&m.format, "format", "", "django-json or django-csv (default: by the extension of FILE)")
	f.StringVar(&m.usernameField, "username-field", "username", "the field that users log in with, USERNAME_FIELD in Django; pk for the primary key")
	f.StringArrayVar(&m.claims, "claim", nil, "a field to copy into the claims (repeatable)")
	f.BoolVar(&m.dry, "dry-run", false, "change nothing; report what an import would do")
	f.BoolVar(&m.skip, "skip-existing", false, "do not report users that already exist")
	f.BoolVar(&m.withoutPassword, "without-password", false, "import users whose hash is refused without a password")
	addJSONFlag(cmd, &m.asJSON)
	// The only error is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(slices.Sorted(maps.Keys(django.Formats())), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// maxImportFileBytes has room for some ten million users. It ends the import of a file without an end.
const maxImportFileBytes = 4 << 30

// An importRun is one run of the command.
type importRun struct {
	format            string
	usernameField     string
	claims            []string
	dry, skip, asJSON bool
	withoutPassword   bool

	errs   io.Writer
	server *adminClient
	ids    map[string]bool // in a dry run: those that came before
	names  map[string]bool // as ids
	sum    importSum
	batch  []django.User
	bodies []api.RawUser // of batch
	bytes  int           // of bodies
}

// An importSum is what --json prints.
type importSum struct {
	Imported int             `json:"imported"`
	Existing int             `json:"existing"`
	Refused  int             `json:"refused"`
	Without  int             `json:"without_password"` // of those imported: the server does not verify their hashes
	Problems []importProblem `json:"problems"`
}

// An importProblem says why a user was not imported.
type importProblem struct {
	Where       string `json:"where"` // in the file: "line 7" or "entry 7"
	ID          string `json:"user_id"`
	Name        string `json:"username"`
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (m *importRun) run(cmd *cobra.Command, name string) error {
	in, what := cmd.InOrStdin(), "standard input"
	if name != "-" {
		f, err := namedfile.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in, what = f, name
	}
	in = namedfile.Bounded(in, what, maxImportFileBytes)
	read, err := m.reader(name)
	if err != nil {
		return err
	}
	if m.usernameField == "" || m.usernameField == "password" {
		return terminal.Usage("--username-field %q is not a field that users log in with; name USERNAME_FIELD of the user model", m.usernameField)
	}
	m.errs = cmd.ErrOrStderr()
	m.sum.Problems = []importProblem{}
	m.ids, m.names = map[string]bool{}, map[string]bool{}
	if m.server, err = dial(cmd); err != nil {
		return err
	}
	broken := m.each(cmd.Context(), read(in, django.Model{UsernameField: m.usernameField, Claims: nonEmpty(m.claims)}))
	// Printed after an error too, because the entries before it are imported.
	if err := m.print(cmd.OutOrStdout()); err != nil || broken != nil {
		return errors.Join(broken, err)
	}
	if m.sum.Refused > 0 || m.sum.Existing > 0 && !m.skip {
		return terminal.ErrSilent
	}
	return nil
}

func (m *importRun) reader(name string) (django.Reader, error) {
	format := m.format
	if format == "" {
		switch strings.ToLower(filepath.Ext(name)) {
		case ".json":
			format = "django-json"
		case ".csv":
			format = "django-csv"
		default:
			return nil, terminal.WithHint(terminal.Usage("--format is missing"), "add --format django-json or --format django-csv")
		}
	}
	read, ok := django.Formats()[format]
	if !ok {
		return nil, terminal.Usage("--format %q is neither django-json nor django-csv", format)
	}
	return read, nil
}

// The limits of one request. The server refuses more.
const (
	maxImportUsers = 50
	maxImportBytes = 48 << 10
)

func (m *importRun) each(ctx context.Context, users django.Users) error {
	for u, err := range users {
		if err != nil {
			return errors.Join(m.send(ctx), err)
		}
		if u.Refused != nil {
			m.report(u, "invalid_request", u.Refused.Error())
			continue
		}
		body, err := terminal.MarshalJSON(api.ImportedUser{
			ID: u.ID, Name: u.Name, Hash: refusal.Secret(u.Hash), Disabled: u.Disabled, Claims: u.Claims,
			WithoutPassword: m.withoutPassword,
		})
		if err != nil {
			return err
		}
		if len(body) > maxImportBytes {
			m.report(u, "invalid_request", fmt.Sprintf("longer than %d bytes", maxImportBytes))
			continue
		}
		if len(m.batch) == maxImportUsers || m.bytes+len(body) > maxImportBytes {
			if err := m.send(ctx); err != nil {
				return err
			}
		}
		m.batch, m.bodies, m.bytes = append(m.batch, u), append(m.bodies, body), m.bytes+len(body)
	}
	return m.send(ctx)
}

// send imports the batch. After an error a part of it may be imported.
func (m *importRun) send(ctx context.Context) error {
	batch, bodies := m.batch, m.bodies
	m.batch, m.bodies, m.bytes = nil, nil, 0
	if len(batch) == 0 {
		return nil
	}
	request := api.ImportUsersRequest{Users: bodies, DryRun: m.dry}
	got, _, err := ask[api.ImportResults](ctx, m.server, http.MethodPost, "users/import", request)
	if err != nil {
		return terminal.WithHint(fmt.Errorf("%s to %s: %w", batch[0].Where, batch[len(batch)-1].Where, err),
			"run the command again with --skip-existing: users that were imported are skipped")
	}
	if len(got.Results) != len(batch) {
		return fmt.Errorf("the server answered about %d users of %d", len(got.Results), len(batch))
	}
	for n, r := range got.Results {
		if m.dry && r.Code == "" && (m.ids[r.ID] || m.names[r.Name]) {
			r.Code, r.Description = "conflict", "another entry before it has this id or name"
		}
		if r.Code == "" {
			m.sum.Imported++
			if batch[n].Hash != "" && r.Scheme == "none" {
				m.sum.Without++
			}
			if m.dry {
				m.ids[r.ID], m.names[r.Name] = true, true
			}
		} else {
			m.report(batch[n], r.Code, r.Description)
		}
	}
	return nil
}

// report counts a user that was not imported, and prints why unless --skip-existing.
func (m *importRun) report(u django.User, code, why string) {
	if code == "already_exists" {
		m.sum.Existing++
		if m.skip {
			return
		}
		why = "already exists"
	} else {
		m.sum.Refused++
	}
	if m.asJSON {
		m.sum.Problems = append(m.sum.Problems, importProblem{u.Where, u.ID, u.Name, code, why})
		return
	}
	entry := u.Where
	if u.Name != "" {
		entry += " (" + u.Name + ")"
	}
	fmt.Fprintf(m.errs, "keymill: %s\n", terminal.OneLine(entry+": "+why))
}

func (m *importRun) print(w io.Writer) error {
	if m.asJSON {
		raw, err := terminal.MarshalJSON(m.sum)
		if err != nil {
			return err
		}
		return terminal.PrintJSON(w, raw)
	}
	done := "imported"
	if m.dry {
		done = "would be imported"
	}
	_, err := fmt.Fprintf(w, "%d %s, %d already existed, %d refused\n", m.sum.Imported, done, m.sum.Existing, m.sum.Refused)
	if err == nil && m.sum.Without > 0 {
		_, err = fmt.Fprintf(w, "%d of those %s without a password, because their hashes are refused\n", m.sum.Without, done)
	}
	return err
}
