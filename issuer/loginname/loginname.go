// Package loginname leads from login names to users: from the name that a user has now, and from names that users had
// before.
//
//	login/<hash>   which user has the name (SHA-256 of the name, base32hex)
package loginname

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"

	"keymill/issuer/names"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/username"
	"keymill/storage"
	"keymill/storage/audit"
)

// Key returns the key that leads from a normal name to an id. A name can be too long for a key, and in
// any script.
func Key(normal string) string {
	sum := sha256.Sum256([]byte(normal))
	return "login/" + record.Encoding.EncodeToString(sum[:])
}

// IDOf returns the id of the user with that normal name, "" if there is none. The normal name is ""
// for a name that no user can have.
func IDOf(r storage.Reader, normal string) (string, error) {
	if normal == "" {
		return "", nil
	}
	id, err := r.Get(Key(normal))
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return string(id), checkID(Key(normal), id)
}

// CheckRecord returns an error that matches storage.ErrDamaged unless the record can be one of this package.
func CheckRecord(key string, raw []byte) error {
	sum, err := record.Encoding.DecodeString(strings.TrimPrefix(key, "login/"))
	if err != nil || len(sum) != sha256.Size || "login/"+record.Encoding.EncodeToString(sum) != key {
		return storage.Damaged(key, "no such record has this name")
	}
	return checkID(key, raw)
}

func checkID(key string, raw []byte) error {
	if !names.IsUser(string(raw)) {
		return storage.Damaged(key, "it does not lead to the id of a user")
	}
	return nil
}

// FindAudited replaces f.User, the name or the id of a user, by the id. If no user has that name or
// id now, the newest 10,000 records say which user had it. If they name several, it is refused; if
// they name none, f.Name selects the older records that have the name.
func FindAudited(ctx context.Context, s storage.Store, f *audit.Filter) error {
	word, isID := strings.CutPrefix(f.User, username.IDPrefix)
	f.User = word
	if isID || word == "" {
		return nil
	}
	var named string
	if err := s.View(ctx, func(r storage.Reader) (err error) {
		normal, _ := username.Normal(word)
		named, err = IDOf(r, normal)
		switch {
		case err != nil:
			return err
		case named != "" && named != word && names.IsUser(word):
			if others, err := r.GetAll("user/" + word); err != nil {
				return err
			} else if others[0] != nil {
				return RefuseAmbiguous(word, named)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if named != "" {
		f.User = named
		return nil
	}
	f.Name, _ = username.Normal(word)
	return findFormerUser(ctx, s, f)
}

// findFormerUser replaces f.User by the id of the user who had the name f.Name or the id f.User.
func findFormerUser(ctx context.Context, s storage.Store, f *audit.Filter) error {
	p, err := audit.Read(ctx, s, audit.Query{Filter: audit.Filter{User: f.User, Name: f.Name, Action: "user"}, Limit: 1000})
	if err != nil {
		return err
	}
	var ids []string
	for _, r := range p.Records {
		ids = append(ids, username.IDPrefix+r.Target)
	}
	slices.Sort(ids)
	switch ids = slices.Compact(ids); len(ids) {
	case 0:
	case 1:
		f.User = strings.TrimPrefix(ids[0], username.IDPrefix)
	default:
		return refusal.New("invalid_request", "%s is a name that several users had: write one of %s", refusal.Quoted(f.User), strings.Join(ids, ", "))
	}
	return nil
}

// RefuseAmbiguous refuses a word that is the name of a user and the id of another.
func RefuseAmbiguous(word, named string) error {
	return refusal.New("invalid_request", "%s is the name of user %s and the id of another user: write %s%s or %s%s", word, named, username.IDPrefix, named, username.IDPrefix, word)
}
