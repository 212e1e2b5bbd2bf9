package django

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"keymill/cmd/keymill/internal/terminal"
)

// readCSV reads a table with a header line, as a database exports auth_user.
func readCSV(in io.Reader, model Model) Users {
	if model.UsernameField == "pk" {
		model.UsernameField = "id"
	}
	return func(yield func(User, error) bool) {
		m := newEntryReader(in)
		r := csv.NewReader(m)
		header, err := r.Read()
		var at map[string]int // column → place
		if err == nil {
			at, err = columnsOf(header, append([]string{"id", model.UsernameField, "password", "is_active"}, model.Claims...))
		} else if err == io.EOF {
			err = errors.New("the file is empty")
		}
		if err != nil {
			yield(User{}, err)
			return
		}
		for {
			m.refill()
			row, err := r.Read()
			if err == io.EOF {
				return
			}
			u := User{}
			switch {
			case err == nil:
				u, err = parseRow(row, at, model)
			case !errors.Is(err, csv.ErrFieldCount):
				yield(User{}, err) // after a misplaced quote the rest cannot be split into rows
				return
			default:
				err = fmt.Errorf("%d values, and the header has %d", len(row), len(header))
			}
			line, _ := r.FieldPos(0)
			u.Where, u.Refused = fmt.Sprintf("line %d", line), err
			if !yield(u, nil) {
				return
			}
		}
	}
}

func columnsOf(header, wanted []string) (map[string]int, error) {
	at := map[string]int{}
	for n, name := range header {
		if _, twice := at[name]; twice {
			return nil, fmt.Errorf("line 1: column %q appears twice", name)
		}
		at[name] = n
	}
	for _, name := range wanted {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("line 1: column %s is missing; the header must have %s", name, strings.Join(wanted, ", "))
		}
	}
	return at, nil
}

func parseRow(row []string, at map[string]int, model Model) (u User, err error) {
	u.ID, u.Name = row[at["id"]], row[at[model.UsernameField]]
	if u.ID == "" || u.Name == "" {
		return u, fmt.Errorf("id or %s is empty", model.UsernameField)
	}
	// Python, PostgreSQL and SQLite write booleans differently.
	switch active := strings.ToLower(row[at["is_active"]]); {
	case slices.Contains([]string{"0", "f", "false"}, active):
		u.Disabled = true
	case !slices.Contains([]string{"1", "t", "true"}, active):
		return u, errors.New("is_active is neither true nor false")
	}
	u.setPassword(row[at["password"]])
	for _, name := range model.Claims {
		if !utf8.ValidString(row[at[name]]) {
			return u, fmt.Errorf("%s is not UTF-8", name)
		}
		value, err := terminal.MarshalJSON(row[at[name]])
		if err != nil {
			return u, err
		}
		setClaim(&u, name, value)
	}
	return u, checkText(u, model)
}
