package api

import (
	"strings"
	"testing"

	"keymill/issuer/refusal"
)

// TestConditionsAreThoseOfHTTP has the cases of RFC 9110, sections 8.8.3 and 13.1.
func TestConditionsAreThoseOfHTTP(t *testing.T) {
	const malformed, met, failed = "invalid_request", "", "precondition_failed"
	for _, tt := range []struct {
		match, none []string
		tag, want   string
	}{
		{nil, nil, `"a"`, met},
		{nil, nil, ``, met},
		{[]string{`"a"`}, nil, `"a"`, met},
		{[]string{`"a"`}, nil, `"b"`, failed},
		{[]string{`"a"`}, nil, ``, failed},
		{[]string{`W/"a"`}, nil, `"a"`, failed}, // the comparison is strong
		{[]string{`"x", "a"`}, nil, `"a"`, met},
		{[]string{`"x"`, `"a"`}, nil, `"a"`, met},
		{[]string{`"x,"a"`}, nil, `"a"`, malformed},
		{[]string{`"x,y" , ,"a",`}, nil, `"a"`, met},
		{[]string{`W/"x", "a"`}, nil, `"a"`, met},
		{[]string{`*`}, nil, `"a"`, met},
		{[]string{` * `}, nil, ``, failed},
		{[]string{`*, "a"`}, nil, `"a"`, malformed},
		{[]string{`a`}, nil, `"a"`, malformed},
		{[]string{`"a`}, nil, `"a"`, malformed},
		{[]string{`"a""b"`}, nil, `"a"`, malformed},
		{[]string{`"a" "b"`}, nil, `"a"`, malformed},
		{[]string{`w/"a"`}, nil, `"a"`, malformed},
		{[]string{`"a b"`}, nil, `"a"`, malformed},
		{[]string{``}, nil, `"a"`, malformed},
		{[]string{`,`}, nil, `"a"`, malformed},
		{[]string{`""`}, nil, `"a"`, failed},
		{nil, []string{`*`}, ``, met},
		{nil, []string{`*`}, `"a"`, failed},
		{nil, []string{`"a"`}, `"a"`, failed},
		{nil, []string{`W/"a"`}, `"a"`, failed}, // the comparison is weak
		{nil, []string{`"b"`}, `"a"`, met},
		{nil, []string{`b`}, `"a"`, malformed},
		{[]string{`"a"`}, []string{`"b"`}, `"a"`, met},
		{[]string{`"a"`}, []string{`*`}, `"a"`, failed},
	} {
		c, err := ParseCondition(tt.match, tt.none)
		if err == nil {
			err = c.Check(tt.tag)
		}
		if got := refusal.CodeOf(err); got != tt.want {
			t.Errorf("If-Match %q, If-None-Match %q, tag %s: %v, want %q", tt.match, tt.none, tt.tag, err, tt.want)
		}
	}
}

// FuzzCondition checks that a list that is read matches exactly the tags that it has.
func FuzzCondition(f *testing.F) {
	for _, s := range []string{`*`, `"a"`, `W/"a", "b"`, `"a`, `"a,b"`, `,`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCondition([]string{text}, nil)
		if err != nil {
			return
		}
		for _, tag := range c.match.tags {
			if strong := tag[0] == '"'; strong && (c.Check(tag) != nil || !strings.Contains(text, tag)) {
				t.Errorf("%q does not have %q", text, tag)
			}
		}
	})
}
