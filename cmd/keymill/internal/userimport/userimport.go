// Package userimport imports the users of another system through the admin API, in batches.
package userimport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/django"
	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// maxFileBytes has room for some ten million users. It ends the import of a file without an end.
const maxFileBytes = 4 << 30

// A Run is one run of the command.
type Run struct {
	Format          string // "django-json" or "django-csv"; "" decides by the extension of the file
	UsernameField   string
	Claims          []string // fields to copy into the claims
	DryRun          bool
	SkipExisting    bool
	JSON            bool
	WithoutPassword bool // users whose hash is refused have none

	In        io.Reader // standard input
	Out, Errs io.Writer
	Dial      func() (*adminapi.Client, error)

	server *adminapi.Client
	ids    map[string]bool // in a dry run: those that came before
	names  map[string]bool // as ids
	sum    sum
	batch  []django.User
	bodies []api.RawUser // of batch
	bytes  int           // of bodies
}

// A sum is what --json prints.
type sum struct {
	Imported int       `json:"imported"`
	Existing int       `json:"existing"`
	Refused  int       `json:"refused"`
	Without  int       `json:"without_password"` // of those imported: the server does not verify their hashes
	Problems []problem `json:"problems"`
}

// A problem says why a user was not imported.
type problem struct {
	Where       string `json:"where"` // in the file: "line 7" or "entry 7"
	ID          string `json:"user_id"`
	Name        string `json:"username"`
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// Import imports the users in the file with that name, or in standard input for "-".
func (r *Run) Import(ctx context.Context, name string) error {
	in, what := r.In, "standard input"
	if name != "-" {
		f, err := namedfile.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in, what = f, name
	}
	in = namedfile.Bounded(in, what, maxFileBytes)
	read, err := r.reader(name)
	if err != nil {
		return err
	}
	if r.UsernameField == "" || r.UsernameField == "password" {
		return terminal.Usage("--username-field %q is not a field that users log in with; name USERNAME_FIELD of the user model", r.UsernameField)
	}
	r.sum.Problems = []problem{}
	r.ids, r.names = map[string]bool{}, map[string]bool{}
	if r.server, err = r.Dial(); err != nil {
		return err
	}
	broken := r.each(ctx, read(in, django.Model{UsernameField: r.UsernameField, Claims: r.Claims}))
	// Printed after an error too, because the entries before it are imported.
	if err := r.print(r.Out); err != nil || broken != nil {
		return errors.Join(broken, err)
	}
	if r.sum.Refused > 0 || r.sum.Existing > 0 && !r.SkipExisting {
		return terminal.ErrSilent
	}
	return nil
}

func (r *Run) reader(name string) (django.Reader, error) {
	format := r.Format
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
	maxUsers = 50
	maxBytes = 48 << 10
)

func (r *Run) each(ctx context.Context, users django.Users) error {
	for u, err := range users {
		if err != nil {
			return errors.Join(r.send(ctx), err)
		}
		if u.Refused != nil {
			r.report(u, "invalid_request", u.Refused.Error())
			continue
		}
		body, err := terminal.MarshalJSON(api.ImportedUser{
			ID: u.ID, Name: u.Name, Hash: refusal.Secret(u.Hash), Disabled: u.Disabled, Claims: u.Claims,
			WithoutPassword: r.WithoutPassword,
		})
		if err != nil {
			return err
		}
		if len(body) > maxBytes {
			r.report(u, "invalid_request", fmt.Sprintf("longer than %d bytes", maxBytes))
			continue
		}
		if len(r.batch) == maxUsers || r.bytes+len(body) > maxBytes {
			if err := r.send(ctx); err != nil {
				return err
			}
		}
		r.batch, r.bodies, r.bytes = append(r.batch, u), append(r.bodies, body), r.bytes+len(body)
	}
	return r.send(ctx)
}

// send imports the batch. After an error a part of it may be imported.
func (r *Run) send(ctx context.Context) error {
	batch, bodies := r.batch, r.bodies
	r.batch, r.bodies, r.bytes = nil, nil, 0
	if len(batch) == 0 {
		return nil
	}
	request := api.ImportUsersRequest{Users: bodies, DryRun: r.DryRun}
	got, _, err := adminapi.Ask[api.ImportResults](ctx, r.server, http.MethodPost, "users/import", request)
	if err != nil {
		return terminal.WithHint(fmt.Errorf("%s to %s: %w", batch[0].Where, batch[len(batch)-1].Where, err),
			"run the command again with --skip-existing: users that were imported are skipped")
	}
	if len(got.Results) != len(batch) {
		return fmt.Errorf("the server answered about %s of %d", terminal.Count(len(got.Results), "user"), len(batch))
	}
	for n, result := range got.Results {
		if r.DryRun && result.Code == "" && (r.ids[result.ID] || r.names[result.Name]) {
			result.Code, result.Description = "conflict", "another entry before it has this id or name"
		}
		if result.Code == "" {
			r.sum.Imported++
			if batch[n].Hash != "" && result.Scheme == "none" {
				r.sum.Without++
			}
			if r.DryRun {
				r.ids[result.ID], r.names[result.Name] = true, true
			}
		} else {
			r.report(batch[n], result.Code, result.Description)
		}
	}
	return nil
}

// report counts a user that was not imported, and prints why unless --skip-existing.
func (r *Run) report(u django.User, code, why string) {
	if code == "already_exists" {
		r.sum.Existing++
		if r.SkipExisting {
			return
		}
		why = "already exists"
	} else {
		r.sum.Refused++
	}
	if r.JSON {
		r.sum.Problems = append(r.sum.Problems, problem{u.Where, u.ID, u.Name, code, why})
		return
	}
	entry := u.Where
	if u.Name != "" {
		entry += " (" + u.Name + ")"
	}
	fmt.Fprintf(r.Errs, "keymill: %s\n", terminal.OneLine(entry+": "+why))
}

func (r *Run) print(w io.Writer) error {
	if r.JSON {
		raw, err := terminal.MarshalJSON(r.sum)
		if err != nil {
			return err
		}
		return terminal.PrintJSON(w, raw)
	}
	done := "imported"
	if r.DryRun {
		done = "would be imported"
	}
	_, err := fmt.Fprintf(w, "%d %s, %d already existed, %d refused\n", r.sum.Imported, done, r.sum.Existing, r.sum.Refused)
	if err == nil && r.sum.Without > 0 {
		_, err = fmt.Fprintf(w, "%d of those %s without a password, because their hashes are refused\n", r.sum.Without, done)
	}
	return err
}
