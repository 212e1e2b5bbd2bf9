package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/password"
	"keymill/issuer/refusal"
	"keymill/storage"
)

type userRecord struct {
	Name            string          `json:"name"` // as it is compared
	Disabled        bool            `json:"disabled,omitempty"`
	Password        refusal.Secret  `json:"password,omitempty"` // its hash: a PHC string, or Django's form
	Epoch           uint64          `json:"epoch"`
	Claims          json.RawMessage `json:"claims,omitempty"` // one object, checked
	Created         time.Time       `json:"created"`
	PasswordChanged time.Time       `json:"password_changed,omitzero"`
}

func userKey(id string) string { return "user/" + id }

// loginKey leads from a name to an id. Names may be long and of any script, keys may not.
func loginKey(normal string) string {
	sum := sha256.Sum256([]byte(normal))
	return "login/" + familyText.EncodeToString(sum[:])
}

func (rec *userRecord) show(id string) api.User {
	u := api.User{
		ID: id, Name: rec.Name, Disabled: rec.Disabled, Claims: api.Claims{},
		Scheme: password.Scheme(string(rec.Password)), Created: rec.Created,
	}
	if !rec.PasswordChanged.IsZero() {
		u.PasswordChanged = new(rec.PasswordChanged)
	}
	if len(rec.Claims) > 0 {
		json.Unmarshal(rec.Claims, &u.Claims) // written by us
	}
	return u
}

// User returns the user with that name or, if there is none, that id. A word that is one
// user's name and another's id is refused; "id:" before it says which is meant.
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
	if after != "" && !validUserID(after) {
		return nil, refusal.New("invalid_request", "after must be the id of a user")
	}
	var list []api.User
	err := i.store.View(ctx, func(r storage.Reader) error {
		list = []api.User{}
		return scanAfter(r, "user/", after, min(limit, maxListed), func(id string, raw []byte) error {
			rec, err := decode[userRecord](userKey(id), raw)
			if err == nil {
				list = append(list, rec.show(id))
			}
			return err
		})
	})
	return list, err
}

// byID before a word says that it is an id, whoever has it for a name.
const byID = "id:"

// lookUp finds a user for an administrator.
func (i *Issuer) lookUp(r storage.Reader, nameOrID string) (string, *userRecord, error) {
	word, surely := strings.CutPrefix(nameOrID, byID)
	rec, err := i.findUser(r, word)
	if err != nil {
		return "", nil, err
	}
	named, err := idOfName(r, word)
	switch {
	case err != nil:
		return "", nil, err
	case rec != nil && (surely || named == "" || named == word):
		return word, rec, nil
	case rec != nil:
		return "", nil, refusal.New("invalid_request", "%s is the name of user %s and the id of another: say %s%s or %s%s", word, named, byID, named, byID, word)
	case surely || named == "":
		return "", nil, refusal.New("not_found", "there is no user %s", word)
	}
	if rec, err = i.findUser(r, named); err == nil && rec == nil {
		err = errors.New("a login leads to a user that is not there")
	}
	return named, rec, err
}

// idOfName returns "" if nobody has the name.
func idOfName(r storage.Reader, name string) (string, error) {
	normal, ok := normalName(name)
	if !ok {
		return "", nil
	}
	id, err := r.Get(loginKey(normal))
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	}
	return string(id), err
}

// findUser returns nil without an error if there is no such user. Nobody may change what it
// returns.
func (i *Issuer) findUser(r storage.Reader, id string) (*userRecord, error) {
	if !validUserID(id) {
		return nil, nil
	}
	raw, err := r.Get(userKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return i.users.read(userKey(id), raw)
}

// readsAsAnother: Django finds the user of a token with Python's int(), for which "007" and
// "+7" are 7. Such ids of before stay; new ones are refused.
func readsAsAnother(id string) bool {
	return pythonInt.MatchString(id) && !canonicalInt.MatchString(id)
}

var (
	pythonInt    = regexp.MustCompile(`^[+-]?[0-9]+(_[0-9]+)*$`)
	canonicalInt = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
)

func validUserID(id string) bool { return validID(id) && len(id) <= maxUserIDBytes }
