// Package django reads files of Django users: what "manage.py dumpdata" prints, and tables in CSV.
package django

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"keymill/cmd/keymill/internal/terminal"
)

// A User is one entry of a dump: a row of CSV or an object of "dumpdata".
type User struct {
	Where    string // "line 7" or "entry 7"
	ID       string // the primary key
	Name     string // the value of the model's UsernameField
	Hash     string // "" if its password is unusable
	Disabled bool   // is_active is false
	Claims   map[string]json.RawMessage
	Refused  error // why this entry cannot be imported; the others can
}

// Users yields entries as they are read, so that a long file needs little memory. It
// ends with an error if the rest of the file cannot be split into entries.
type Users = iter.Seq2[User, error]

// A Model says which fields of a user model to read.
type Model struct {
	UsernameField string   // its USERNAME_FIELD, or "pk" for the primary key
	Claims        []string // the fields to copy into User.Claims
}

// A Reader reads one format.
type Reader func(in io.Reader, model Model) Users

// Formats maps what --format takes to its reader.
func Formats() map[string]Reader {
	return map[string]Reader{"django-csv": readCSV, "django-json": readJSON}
}

// maxEntryBytes is how long one entry may be, so that a file of another kind is not read
// into memory as a whole.
const maxEntryBytes = 1 << 20

// An entryReader fails if an entry is longer than maxEntryBytes. The parser calls refill
// before each entry.
type entryReader struct {
	in   io.Reader
	left int // bytes that the entry may still have
}

func (m *entryReader) refill() { m.left = maxEntryBytes }

func (m *entryReader) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, fmt.Errorf("an entry is longer than %d bytes", maxEntryBytes)
	}
	n, err := m.in.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// newEntryReader also takes UTF-16, which the shell of Windows writes behind ">".
func newEntryReader(in io.Reader) *entryReader {
	m := &entryReader{in: terminal.NewTextReader(in)}
	m.refill()
	return m
}

// setPassword leaves the hash empty if Django marks the password as unusable.
func (u *User) setPassword(hash string) {
	if !strings.HasPrefix(hash, "!") {
		u.Hash = hash
	}
}

func setClaim(u *User, name string, value json.RawMessage) {
	if u.Claims == nil {
		u.Claims = map[string]json.RawMessage{}
	}
	u.Claims[name] = value
}

// checkText refuses the character that stands for invalid bytes: two users whose names
// differ in such bytes only would become one.
func checkText(u User, model Model) error {
	for what, text := range map[string]string{"id": u.ID, model.UsernameField: u.Name, "password": u.Hash} {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%s is not UTF-8", what)
		}
		if strings.ContainsRune(text, utf8.RuneError) {
			return fmt.Errorf("%s has an invalid character (U+FFFD)", what)
		}
	}
	return nil
}
