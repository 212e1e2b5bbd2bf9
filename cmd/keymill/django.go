package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"keymill/cmd/keymill/internal/terminal"
)

// A djangoUser is one entry of a dump: a row of CSV or an object of "dumpdata".
type djangoUser struct {
	where    string // "line 7" or "entry 7"
	id       string
	name     string
	hash     string // "" if its password is unusable
	disabled bool
	claims   map[string]json.RawMessage
	refused  error // why this entry cannot be imported; the others can
}

// djangoUsers yields entries as they are read, so that a long file needs little memory. It
// ends with an error if the rest of the file cannot be split into entries.
type djangoUsers = iter.Seq2[djangoUser, error]

// A djangoModel says which fields of a user model to read.
type djangoModel struct {
	name   string   // its USERNAME_FIELD, or "pk" for the primary key
	claims []string // the fields to copy
}

// A djangoReader reads one format.
type djangoReader func(in io.Reader, model djangoModel) djangoUsers

// djangoFormats maps what --format takes to its reader.
func djangoFormats() map[string]djangoReader {
	return map[string]djangoReader{"django-csv": readDjangoCSV, "django-json": readDjangoJSON}
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
func (u *djangoUser) setPassword(hash string) {
	if !strings.HasPrefix(hash, "!") {
		u.hash = hash
	}
}

func setClaim(u *djangoUser, name string, value json.RawMessage) {
	if u.claims == nil {
		u.claims = map[string]json.RawMessage{}
	}
	u.claims[name] = value
}

// checkText refuses the character that stands for invalid bytes: two users whose names
// differ in such bytes only would become one.
func checkText(u djangoUser, model djangoModel) error {
	for what, text := range map[string]string{"id": u.id, model.name: u.name, "password": u.hash} {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%s is not UTF-8", what)
		}
		if strings.ContainsRune(text, utf8.RuneError) {
			return fmt.Errorf("%s has an invalid character (U+FFFD)", what)
		}
	}
	return nil
}
