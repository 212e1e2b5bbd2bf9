package django

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// readJSON reads what "manage.py dumpdata auth.user" writes:
// [{"model": "auth.user", "pk": 1, "fields": {"username": …}}, …].
func readJSON(in io.Reader, model Model) Users {
	return func(yield func(User, error) bool) {
		m := newEntryReader(in)
		d := json.NewDecoder(m)
		broken := func(err error) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			yield(User{}, fmt.Errorf("byte %d: %w", d.InputOffset(), err))
		}
		if t, err := d.Token(); err != nil || t != json.Delim('[') {
			broken(unlessUnread(err, `not a JSON array, as "manage.py dumpdata auth.user" writes it`))
			return
		}
		for n := 1; d.More(); n++ {
			m.refill()
			var raw json.RawMessage
			if err := d.Decode(&raw); err != nil {
				broken(err)
				return
			}
			u, err := parseObject(raw, model)
			u.Where, u.Refused = fmt.Sprintf("entry %d", n), err
			if !yield(u, nil) {
				return
			}
		}
		if _, err := d.Token(); err != nil {
			broken(err)
			return
		}
		if _, err := d.Token(); err != io.EOF {
			broken(unlessUnread(err, "unexpected data after the array"))
		}
	}
}

// unlessUnread returns what is wrong with the JSON, or err if the file could not be read or decoded.
func unlessUnread(err error, wrong string) error {
	if syntax := (*json.SyntaxError)(nil); err == nil || err == io.EOF || errors.As(err, &syntax) {
		return errors.New(wrong)
	}
	return err
}

// parseObject reads one object strictly. encoding/json alone would take the last of
// two members of one name, and replace invalid UTF-8.
func parseObject(raw []byte, model Model) (u User, err error) {
	outer, err := readObject("the entry", raw)
	if err != nil {
		return u, err
	}
	fields, err := readObject("it", outer["fields"])
	if err != nil {
		return u, fmt.Errorf("fields: %w", err)
	}
	var hash string
	active := new(true)
	u.ID, err = primaryKey(outer["pk"])
	if model.UsernameField == "pk" {
		u.Name = u.ID
	} else {
		err = errors.Join(err, readName(fields, model.UsernameField, &u.Name))
	}
	err = errors.Join(err, readField(fields, "password", &hash))
	// Every user of AbstractBaseUser is active, unless the model has a field that says so.
	if _, ok := fields["is_active"]; ok || isAuthUser(outer["model"]) {
		err = errors.Join(err, readField(fields, "is_active", &active))
	}
	if err != nil {
		return u, firstOf(err)
	}
	if active == nil || u.Name == "" {
		return u, fmt.Errorf("%s or is_active is empty", model.UsernameField)
	}
	u.Disabled = !*active
	u.setPassword(hash)
	for _, name := range model.Claims {
		value, ok := fields[name]
		switch {
		case !ok:
			return u, fmt.Errorf("field %s is missing", name)
		case string(value) != "null":
			setClaim(&u, name, value)
		}
	}
	return u, checkText(u, model)
}

// firstOf returns the first of joined errors, so that the message is one line.
func firstOf(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()[0]
	}
	return err
}

// readObject returns the members of an object. It is as strict as the admin API. what is named
// in place of the body of a request.
func readObject(what string, raw []byte) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	err := api.EachMember(raw, func(name string, value json.RawMessage) error {
		members[name] = value
		return nil
	})
	if refused := (*refusal.Refusal)(nil); errors.As(err, &refused) {
		return nil, errors.New(strings.Replace(refused.Description, "the body", what, 1))
	}
	return members, err
}

func readField(fields map[string]json.RawMessage, name string, into any) error {
	raw, ok := fields[name]
	if !ok {
		return fmt.Errorf("field %s is missing", name)
	}
	if json.Unmarshal(raw, into) != nil {
		return fmt.Errorf("field %s has the wrong type", name)
	}
	return nil
}

// isAuthUser reports whether an entry is of Django's own user model, which has the field is_active,
// or does not say of which.
func isAuthUser(model json.RawMessage) bool { return model == nil || string(model) == `"auth.user"` }

// readName accepts a text and, as simplejwt does, a whole number.
func readName(fields map[string]json.RawMessage, name string, into *string) error {
	raw, ok := fields[name]
	switch {
	case !ok && name == "username":
		return errors.New("field username is missing; if users log in with another field, name it with --username-field")
	case !ok:
		return fmt.Errorf("field %s is missing; if it is the primary key, use --username-field pk", name)
	case isWhole(raw):
		*into = string(raw)
		return nil
	}
	return readField(fields, name, into)
}

func isWhole(raw json.RawMessage) bool {
	return len(raw) > 0 && strings.Trim(string(raw), "0123456789") == ""
}

// primaryKey accepts a number, as it is written, and a string such as a UUID.
func primaryKey(raw json.RawMessage) (string, error) {
	var id string
	switch {
	case raw == nil, string(raw) == "null":
		return "", errors.New("pk is missing")
	case raw[0] == '"':
		if err := json.Unmarshal(raw, &id); err != nil || id == "" {
			return "", errors.New("pk is empty")
		}
		return id, nil
	case !isWhole(raw):
		return "", errors.New("pk is neither a whole number nor a string")
	}
	return string(raw), nil
}
