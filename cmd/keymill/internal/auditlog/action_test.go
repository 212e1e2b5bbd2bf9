package auditlog

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"keymill/storage/audit"
)

// TestAnActionThatNoRecordHasGetsASuggestion, and an action that exists gets none.
func TestAnActionThatNoRecordHasGetsASuggestion(t *testing.T) {
	for word, want := range map[string]string{
		"sesion": "session", "session.replayed": "session.replay", "user.removed": "user.remove", "keys": "key", "key.rotated": "key.rotate",
		"login.refuse": "login.refused", "session": "", "session.replay": "", "server.start": "", "zzzzzzzzzzzz": "",
	} {
		tail := &Tail{
			Newest: 5, Filter: audit.Filter{Action: word}, Print: func([]audit.Record) error { return nil },
			Source: func(context.Context, audit.Query) (audit.Page, error) { return audit.Page{}, nil },
		}
		var notes strings.Builder
		if err := tail.Run(t.Context(), &notes); err != nil {
			t.Fatal(err)
		}
		line := "no audit record matches\n"
		if want != "" {
			line = "no audit record matches, and no action is called " + word + "; did you mean " + want + "?\n"
		}
		if notes.String() != line {
			t.Errorf("%q, want %q", notes.String(), line)
		}
	}
}

// TestTheActionsAreThoseOfTheDocuments, which another test compares with the code.
func TestTheActionsAreThoseOfTheDocuments(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\nThe audit log is in the store")
	section, _, _ = strings.Cut(section, "\n## ")
	want, got := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(section) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		if strings.HasPrefix(line, "| `") {
			for _, m := range regexp.MustCompile("`([a-z]+\\.[a-z_]+)`").FindAllStringSubmatch(cell, -1) {
				want[m[1]] = true
			}
		}
	}
	for first, rest := range actions() {
		for name := range strings.FieldsSeq(rest) {
			got[first+"."+name] = true
			if !want[first+"."+name] {
				t.Errorf("docs/operate.md does not list %s.%s", first, name)
			}
		}
	}
	for name := range want {
		if !got[name] {
			t.Errorf("actions does not list %s", name)
		}
	}
	if len(want) < 40 {
		t.Errorf("only %d actions in the documents", len(want))
	}
}
