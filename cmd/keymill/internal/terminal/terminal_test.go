package terminal

import (
	"strings"
	"testing"
)

func TestTheNearestWordIsFound(t *testing.T) {
	for _, tt := range []struct {
		word string
		from []string
		want string
	}{
		{"lst", []string{"list", "rotate"}, "list"},
		{"rot", []string{"list", "rotate"}, "rotate"},
		{"xyz", []string{"list", "rotate"}, ""},
		{"max_age", []string{"jwks.max_age", "data"}, "jwks.max_age"},
		{"", []string{"list"}, ""},
	} {
		if got := Nearest(tt.word, tt.from); got != tt.want {
			t.Errorf("Nearest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}

// TestNoTextCanForgeALine prints names and details that an attacker chose.
//
// R104.
func TestNoTextCanForgeALine(t *testing.T) {
	var out strings.Builder
	table := NewTable(&out)
	table.Row("audience\x1b[2J", "line\nkeymill: forged")
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	Report(&out, Usage("no audience %s", "a\r\nkeymill: forged\x1b[31m"))
	if strings.ContainsAny(out.String(), "\x1b\r") || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("printed %q", out.String())
	}
}
