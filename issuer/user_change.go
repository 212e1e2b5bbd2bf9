package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/loginname"
	"keymill/issuer/names"
	"keymill/issuer/password"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/unblocked"
	"keymill/issuer/username"
	"keymill/storage"
)

// A newUser has a password, or the hash of one as another system wrote it, or neither.
type newUser struct {
	api.NewUser
	hash refusal.Secret // a PHC string, or Django's form
}

func imported(u api.ImportedUser) newUser {
	if u.WithoutPassword {
		if _, err := password.CheckHash(string(u.Hash)); err != nil {
			u.Hash = ""
		}
	}
	return newUser{api.NewUser{ID: u.ID, Name: u.Name, Disabled: u.Disabled, Claims: u.Claims}, u.Hash}
}

// AddUser adds a user.
func (i *Issuer) AddUser(ctx context.Context, u api.NewUser, by string) (api.User, error) {
	return i.addUser(ctx, newUser{NewUser: u}, "user.add", by)
}

// ImportUser adds a user of another system, who keeps the password.
func (i *Issuer) ImportUser(ctx context.Context, u api.ImportedUser, by string) (api.User, error) {
	return i.addUser(ctx, imported(u), "user.import", by)
}

func (i *Issuer) addUser(ctx context.Context, u newUser, action, by string) (api.User, error) {
	rec, err := i.newUserRecord(ctx, u)
	if err != nil {
		return api.User{}, err
	}
	id := u.ID
	if id == "" {
		id = record.NewID(i.keys.Now()).String()
	}
	class := password.Class(rec.Password)
	err = i.store.Update(ctx, func(tx storage.Tx) error {
		var err error
		if rec.Epoch, err = i.reserveID(tx, id, "user"); err != nil {
			return err
		}
		if err := checkNameUnused(tx, rec.Name); err != nil {
			return err
		}
		if err := errors.Join(tx.Put(loginname.Key(rec.Name), []byte(id)), password.Count(tx, "", class), record.PutJSON(tx, userKey(id), rec)); err != nil {
			return err
		}
		return i.decision(tx, by).audit(action, id, rec.detail())
	})
	if err != nil {
		return api.User{}, err
	}
	i.measure(ctx, class)
	return rec.show(id), nil
}

// CheckUser refuses what ImportUser would refuse now, and writes nothing. It returns the user as
// ImportUser would, without an id that the server would choose.
func (i *Issuer) CheckUser(ctx context.Context, u api.ImportedUser) (api.User, error) {
	rec, err := i.newUserRecord(ctx, imported(u))
	if err != nil {
		return api.User{}, err
	}
	return rec.show(u.ID), i.store.View(ctx, func(r storage.Reader) error {
		if u.ID != "" {
			if err := checkIDUnused(r, u.ID); err != nil {
				return err
			}
		}
		return checkNameUnused(r, rec.Name)
	})
}

// checkNameUnused refuses the name of a user that exists.
func checkNameUnused(r storage.Reader, name string) error {
	taken, err := loginname.IDOf(r, name)
	if err == nil && taken != "" {
		err = refusal.New("already_exists", "user %s already has the name %s", taken, name)
	}
	return err
}

func (i *Issuer) newUserRecord(ctx context.Context, u newUser) (*userRecord, error) {
	if u.ID != "" && (!names.IsUser(u.ID) || strings.HasPrefix(u.ID, username.IDPrefix)) {
		return nil, refusal.New("invalid_request",
			"a user id must be 1 to %d printable ASCII characters, without a space at either end and not beginning with %s", names.MaxUserBytes, username.IDPrefix)
	}
	if isAmbiguousNumber(u.ID) {
		return nil, refusal.New("invalid_request", "a user id that is a number must be written without sign, leading zeros and underscores: Python reads %s as another id", refusal.Quoted(u.ID))
	}
	name, err := username.Check(u.Name)
	if err != nil {
		return nil, err
	}
	claims, err := claim.Check(u.Claims)
	if err != nil {
		return nil, err
	}
	rec := &userRecord{
		Name: name, Disabled: u.Disabled, Claims: claims,
		Created: i.keys.Now().UTC().Truncate(time.Second),
	}
	if rec.Password, err = i.newPassword(ctx, u.Password, u.hash, name); err != nil {
		return nil, err
	}
	if rec.Password != "" {
		rec.PasswordChanged = rec.Created
	}
	return rec, nil
}

// newPassword returns the hash that is stored for a password, or for a hash of another system.
func (i *Issuer) newPassword(ctx context.Context, typed, hash refusal.Secret, name string) (refusal.Secret, error) {
	switch {
	case typed != "":
		if err := password.Check(typed, name); err != nil {
			return "", err
		}
		stored, err := i.passwords.Hash(ctx, typed)
		return refusal.Secret(stored), err
	case hash != "":
		_, err := password.CheckHash(string(hash))
		if errors.Is(err, password.ErrUnusable) {
			return "", nil
		}
		return hash, err
	}
	return "", nil
}

// detail is for the audit log. It has no values of claims, which are personal data.
func (rec *userRecord) detail() map[string]string {
	d := map[string]string{"name": rec.Name, "password": password.Scheme(string(rec.Password))}
	if names := claim.Names(rec.Claims); len(names) > 0 {
		d["claims"] = strings.Join(names, " ")
	}
	if rec.Disabled {
		d["disabled"] = "true"
	}
	return d
}

// changeUser runs change on a copy of the user's record and stores it, in one transaction.
func (i *Issuer) changeUser(ctx context.Context, nameOrID string, change func(tx storage.Tx, id string, rec *userRecord) error) (api.User, error) {
	var shown api.User
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		id, before, err := i.lookUp(tx, nameOrID)
		if err != nil {
			return err
		}
		after := *before
		if err := change(tx, id, &after); err != nil {
			return err
		}
		shown = after.show(id)
		if reflect.DeepEqual(&after, before) {
			return nil
		}
		return record.PutJSON(tx, userKey(id), &after)
	})
	return shown, err
}

// SetUser changes a user. Disabling a user ends all sessions of the user. Enabling the user does
// not restore them. Under a new name the sessions go on, because they hold the id.
func (i *Issuer) SetUser(ctx context.Context, nameOrID string, c api.UserChange, by string, only ...api.Condition) (api.User, error) {
	var claims json.RawMessage
	var name string
	var err error
	if c.Name != nil {
		if name, err = username.Check(*c.Name); err != nil {
			return api.User{}, err
		}
	}
	if c.Claims != nil {
		if claims, err = claim.Check(*c.Claims); err != nil {
			return api.User{}, err
		}
	}
	return i.changeUser(ctx, nameOrID, func(tx storage.Tx, id string, rec *userRecord) error {
		if err := api.CheckAll(only, rec.show(id).ETag()); err != nil {
			return err
		}
		if c.Name != nil && name != rec.Name {
			if err := i.decision(tx, by).rename(id, rec, name); err != nil {
				return err
			}
		}
		if c.Claims != nil && !bytes.Equal(claims, rec.Claims) {
			rec.Claims = claims
			if err := i.decision(tx, by).audit("user.set", id, rec.detail()); err != nil {
				return err
			}
		}
		switch {
		case c.Disabled == nil || *c.Disabled == rec.Disabled:
			return nil
		case *c.Disabled:
			rec.Disabled = true
			return i.endUser(i.decision(tx, by), "user.disable", id, rec)
		}
		rec.Disabled = false
		return i.decision(tx, by).audit("user.enable", id, map[string]string{"name": rec.Name})
	})
}

// rename gives a user a normalized name that no other user has. The old name is free again. The
// caller stores rec.
func (d decision) rename(id string, rec *userRecord, name string) error {
	if err := checkNameUnused(d.tx, name); err != nil {
		return err
	}
	old := rec.Name
	rec.Name = name
	return errors.Join(
		d.tx.Delete(loginname.Key(old)), d.tx.Put(loginname.Key(name), []byte(id)),
		d.audit("user.rename", id, map[string]string{"name": name, "old_name": old}),
	)
}

// SetPassword gives a user a new password and ends every session of the user.
func (i *Issuer) SetPassword(ctx context.Context, nameOrID string, typed refusal.Secret, by string) (api.User, error) {
	u, err := i.User(ctx, nameOrID)
	if err != nil {
		return api.User{}, err
	}
	if typed == "" {
		return api.User{}, refusal.New("invalid_request", "the password is empty")
	}
	stored, err := i.newPassword(ctx, typed, "", u.Name)
	if err != nil {
		return api.User{}, err
	}
	class := password.Class(stored)
	u, err = i.changeUser(ctx, username.IDPrefix+u.ID, func(tx storage.Tx, id string, rec *userRecord) error {
		if err := password.Count(tx, password.Class(rec.Password), class); err != nil {
			return err
		}
		rec.Password, rec.PasswordChanged = stored, i.keys.Now().UTC().Truncate(time.Second)
		return i.endUser(i.decision(tx, by), "user.passwd", id, rec)
	})
	if err != nil {
		return api.User{}, err
	}
	i.measure(ctx, class)
	return u, nil
}

// UnblockUser records that an administrator lets a user try to log in again. Failed logins are counted in the memory of
// each server, which reads the record with the next LoginCount of the user.
func (i *Issuer) UnblockUser(ctx context.Context, nameOrID, by string) (api.User, error) {
	return i.changeUser(ctx, nameOrID, func(tx storage.Tx, id string, rec *userRecord) error {
		d := i.decision(tx, by)
		return errors.Join(unblocked.Put(tx, id, d.now), d.audit("user.unblock", id, map[string]string{"name": rec.Name}))
	})
}

// LogoutUser ends every session of a user, with one write.
func (i *Issuer) LogoutUser(ctx context.Context, nameOrID, by string) (api.User, error) {
	return i.changeUser(ctx, nameOrID, func(tx storage.Tx, id string, rec *userRecord) error {
		return i.endUser(i.decision(tx, by), "user.logout", id, rec)
	})
}

// endUser ends every session of a user: it moves the epoch of rec, which the caller stores.
func (i *Issuer) endUser(d decision, action, id string, rec *userRecord) error {
	rec.Epoch = i.nextEpoch(rec.Epoch)
	if err := d.audit(action, id, map[string]string{"name": rec.Name}); err != nil {
		return err
	}
	return i.notify(d, "user.revoked", map[string]string{"user_id": id, "reason": strings.TrimPrefix(action, "user.")})
}

// RemoveUser removes a user and ends every session of the user. Name and id can be used
// again, the id with a later epoch.
func (i *Issuer) RemoveUser(ctx context.Context, nameOrID, by string, only ...api.Condition) error {
	return i.store.Update(ctx, func(tx storage.Tx) error {
		id, rec, err := i.lookUp(tx, nameOrID)
		if err != nil {
			return err
		}
		if err := api.CheckAll(only, rec.show(id).ETag()); err != nil {
			return err
		}
		d, gone := i.decision(tx, by), *rec
		if err := i.endUser(d, "user.remove", id, &gone); err != nil {
			return err
		}
		return errors.Join(
			tx.Delete(userKey(id)), tx.Delete(loginname.Key(rec.Name)), tx.Delete(unblocked.Key(id)), d.leave(id, gone.Epoch),
			password.Count(tx, password.Class(rec.Password), ""),
		)
	})
}
