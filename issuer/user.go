package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"time"

	"keymill/issuer/address"
	"keymill/issuer/api"
	"keymill/issuer/loginname"
	"keymill/issuer/names"
	"keymill/issuer/password"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/username"
	"keymill/storage"
)

type userRecord struct {
	Name            string          `json:"name"` // in the spelling that is compared
	Disabled        bool            `json:"disabled,omitempty"`
	Password        refusal.Secret  `json:"password,omitempty"` // its hash: a PHC string or Django's form
	Epoch           uint64          `json:"epoch"`
	Claims          json.RawMessage `json:"claims,omitempty"` // one object, checked
	Created         time.Time       `json:"created"`
	PasswordChanged time.Time       `json:"password_changed,omitzero"`
	LastLogin       time.Time       `json:"last_login,omitzero"`
	Addresses       address.Known   `json:"addresses,omitempty"` // where the user has logged in, as keyed hashes
}

func userKey(id string) string { return "user/" + id }

func (rec *userRecord) show(id string) api.User {
	u := api.User{
		ID: id, Name: rec.Name, Disabled: rec.Disabled, Claims: api.Claims{},
		Scheme: password.Scheme(string(rec.Password)), Created: rec.Created,
	}
	if !rec.PasswordChanged.IsZero() {
		u.PasswordChanged = new(rec.PasswordChanged)
	}
	if !rec.LastLogin.IsZero() {
		u.LastLogin = new(rec.LastLogin)
	}
	if len(rec.Claims) > 0 {
		json.Unmarshal(rec.Claims, &u.Claims) // written by us
	}
	return u
}

// User returns the user with that name or that id. It refuses a word that is the name of one user and
// the id of another; "id:" before the word says that it is an id.
func (i *Issuer) User(ctx context.Context, nameOrID string) (api.User, error) {
	var shown api.User
	err := i.store.View(ctx, func(r storage.Reader) error {
		id, rec, err := i.lookUp(r, nameOrID)
		if err == nil {
			shown = rec.show(id)
		}
		return err
	})
	return shown, err
}

// Users returns up to limit users whose ids follow after, in order.
func (i *Issuer) Users(ctx context.Context, after string, limit int) ([]api.User, error) {
	if after != "" && !names.IsUser(after) {
		return nil, refusal.New("invalid_request", "after must be a user id")
	}
	var list []api.User
	err := record.View(ctx, i.store, i.damaged, func(r storage.Reader, setAside func(error)) error {
		list = []api.User{}
		return record.Span{Prefix: "user/", After: after, Limit: min(limit, maxListed)}.Each(r, setAside, func(id string, raw []byte) error {
			rec, err := record.Decode(userKey(id), raw, (*userRecord).possible)
			if err == nil {
				list = append(list, rec.show(id))
			}
			return err
		})
	})
	return list, err
}

// lookUp finds a user for an administrator.
func (i *Issuer) lookUp(r storage.Reader, nameOrID string) (string, *userRecord, error) {
	word, isID := strings.CutPrefix(nameOrID, username.IDPrefix)
	rec, err := i.findUser(r, word)
	if err != nil {
		return "", nil, err
	}
	normal, _ := username.Normal(word)
	named, err := loginname.IDOf(r, normal)
	switch {
	case err != nil:
		return "", nil, err
	case rec != nil && (isID || named == "" || named == word):
		return word, rec, nil
	case rec != nil:
		return "", nil, loginname.RefuseAmbiguous(word, named)
	case isID || named == "":
		return "", nil, refusal.New("not_found", "user %s does not exist", refusal.Quoted(word))
	}
	rec, err = i.namedUser(r, normal, named)
	return named, rec, err
}

// namedUser returns the user to whom a normal name leads. A user is renamed and removed together with the name.
func (i *Issuer) namedUser(r storage.Reader, normal, id string) (*userRecord, error) {
	rec, err := i.findUser(r, id)
	switch {
	case err == nil && rec == nil:
		err = record.Missing(storage.ErrNotFound, userKey(id), "a login name leads to it")
	case err == nil && rec.Name != normal:
		err = storage.Damaged(loginname.Key(normal), "it leads to a user of another name")
	}
	return rec, err
}

// findUser returns nil without an error if the user does not exist. The record is shared: the caller
// must not change it.
func (i *Issuer) findUser(r storage.Reader, id string) (*userRecord, error) {
	if !names.IsUser(id) {
		return nil, nil
	}
	raw, err := r.Get(userKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return i.users.Read(userKey(id), raw, (*userRecord).possible)
}

// isAmbiguousNumber reports whether Django would read the id as another id: it parses the id of a
// token with Python's int(), for which "007" and "+7" are 7. Only new users are checked.
func isAmbiguousNumber(id string) bool {
	return pythonInt.MatchString(id) && !canonicalInt.MatchString(id)
}

var (
	pythonInt    = regexp.MustCompile(`^[+-]?[0-9]+(_[0-9]+)*$`)
	canonicalInt = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
)
