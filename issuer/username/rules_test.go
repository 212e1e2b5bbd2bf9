package username

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// invisible reports whether Unicode says that r shows nothing or is no character of a text. It shares no
// code with the rule.
func invisible(r rune) bool {
	return unicode.In(r, unicode.C, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) ||
		!unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z) // unassigned
}

// TestNoInvisibleOrBlankCharacterIsInAName goes through all code points, in every place of a name.
func TestNoInvisibleOrBlankCharacterIsInAName(t *testing.T) {
	refused, accepted := 0, 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if unicode.Is(unicode.Cs, r) {
			continue // not in UTF-8
		}
		c := string(r)
		normal := norm.NFKC.String(c)
		_, inside := Normal("a" + c + "b")
		if inside {
			accepted++
		} else {
			refused++
		}
		blanks := strings.ContainsFunc(normal, func(n rune) bool {
			return invisible(n) || n != ' ' && unicode.IsSpace(n) || slices.Contains(blank, n)
		})
		if inside && blanks {
			t.Errorf("%U is accepted between two letters", r)
		}
		unused := !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf,
			unicode.Other_Default_Ignorable_Code_Point)
		if !blanks || unused && r%101 != 0 { // of the 960,000 that are unassigned or for private use, some are enough
			continue
		}
		for _, form := range []string{"%s", "a%s", "%sa", "a\u0332%sb", "क%sष", "क%sb", "ب%sب", "한%s", "❤%s❤", "\u0332%s", "1%s1"} {
			name := fmt.Sprintf(form, c)
			joined := (r == joiner || r == nonJoiner) && (form == "क%sष" || form == "ب%sب") // see below
			if got, ok := Normal(name); ok && !joined {
				t.Errorf("%+q is accepted as %+q", name, got)
			}
		}
	}
	t.Logf("between two Latin letters %d code points are accepted and %d refused", accepted, refused)
	if accepted < 140_000 {
		t.Errorf("only %d code points are accepted", accepted)
	}
}

// TestAJoinerStandsOnlyWhereItsScriptNeedsIt: elsewhere two names differ in nothing that a reader sees.
func TestAJoinerStandsOnlyWhereItsScriptNeedsIt(t *testing.T) {
	for _, tt := range []struct {
		name string
		ok   bool
	}{
		{"ක්\u200dෂ", true},            // Sinhala
		{"ശ്രീ ജോണ\u0d4d\u200d", true}, // Malayalam, the old form of a final n
		{"क्\u200cष", true},
		{"نرگس\u200cخاتون", true}, // Persian
		{"می\u200cخواهم", true},

		{"ali\u200dce", false},
		{"ali\u200cce", false},
		{"a\u0332\u200db", false},          // after a mark of no script
		{"a\u0301\u0332\u200cb", false},    //
		{"क\u0332\u200dष", false},          // after a letter and a mark that is no virama
		{"दे\u200dव", false},               // after the sign of a vowel
		{"a\u094d\u200db", false},          // the virama stands on a letter of another script
		{"क्\u200cb", false},               // the next letter is of another script
		{"क्\u200c", false},                // and here is none
		{"क्\u200d\u200dष", false},         // one is enough
		{"क्\u200c\u200cष", false},         //
		{"ب\u200dب", false},                // joined already
		{"ب\u200c", false},                 //
		{"ب\u200c1", false},                //
		{"ا\u200cب", false},                // a letter that never joins to the next
		{"あ\u200cい", false},                // a script without joining letters
		{"한\u200d", false},                 //
		{"👩\u200d👩", false},                // of emoji, without variation selectors
		{"\u200d", false},                  //
		{"\u094d\u200dक", false},           // on nothing
		{"1\u094d\u200d2", false},          // on a digit
		{"\u0332\u200ca", false},           //
		{"क्\ufe0f\u200dष", false},         // an invisible character between
		{"क्\u034f\u200dष", false},         //
		{"नि\u200cक्\u200dष\u200d", false}, // the first and the last
	} {
		if _, ok := Normal(tt.name); ok != tt.ok {
			t.Errorf("%+q: got %v", tt.name, ok)
		}
	}
}

func TestAMarkStandsOnSomethingElse(t *testing.T) {
	for _, tt := range []struct {
		name string
		ok   bool
	}{
		{"a\u0332", true},
		{"a\u0332\u0323", true},
		{"ค\u0e31ม", true},
		{"\u0332a", false},
		{"\u0903", false},
		{"a\u0332\u0332", false},
		{"a\u20dd\u20dd", false},
		{"q\u0323\u0301\u0323", false}, // in normal order they are neighbours
	} {
		if got, ok := Normal(tt.name); ok != tt.ok {
			t.Errorf("%+q: got %+q, %v", tt.name, got, ok)
		}
	}
}

// TestARefusedNameIsToldWhy: an administrator who imports a name cannot see what is invisible in it.
func TestARefusedNameIsToldWhy(t *testing.T) {
	for name, want := range map[string]string{
		"":                        "is empty",
		"a ":                      "has a space at an end",
		"a  b":                    "has two spaces in a row",
		"a\u3000 b":               "has two spaces in a row",
		"a\u1680b":                "holds U+1680, which shows as blank",
		"a\u2800b":                "holds U+2800, which shows as blank",
		"\u3164":                  "holds U+1160, which is invisible",
		"a\uffa0":                 "holds U+1160, which is invisible",
		"\u115f":                  "holds U+115F, which is invisible",
		"a\u00adb":                "holds U+00AD, which is invisible",
		"a\U0001d159":             "holds U+1D159, which shows as blank",
		"a\x00":                   "holds U+0000, which is invisible",
		"a\ue000b":                "holds U+E000, which is invisible, a control, unassigned",
		"a\U000e0061":             "holds U+E0061, which is invisible",
		"a\u0332\u200db":          "holds U+200D, which is invisible, where no letters",
		"\u0332":                  "begins with the combining mark U+0332",
		"a\u0332\u0332":           "has the combining mark U+0332 twice in a row",
		"a·b":                     "holds a character that is allowed only beside",
		"id:7":                    "begins with id:",
		"\xff":                    "is not in UTF-8",
		strings.Repeat("x", 151):  "is too long",
		strings.Repeat("x", 5000): "is too long",
	} {
		if _, err := Check(name); err == nil || !strings.Contains(err.Error(), "this name "+want) {
			t.Errorf("%+q: got %v, want %q", name, err, want)
		}
	}
}

// TestTheWholeCheckIsOneOfEachCharacter: a name that passes it has no character that is refused alone, for
// every character of Unicode. So a name is checked once, which costs the same work for any script.
func TestTheWholeCheckIsOneOfEachCharacter(t *testing.T) {
	accepted := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		name := norm.NFKC.String("a" + string(r) + "b")
		if !isFreeform(name) {
			continue
		}
		accepted++
		for _, one := range name {
			if !unicode.Is(contextual, one) && !isFreeform(string(one)) {
				t.Errorf("%+q is accepted, and %U alone is not", name, one)
			}
		}
	}
	if accepted < 100_000 {
		t.Errorf("%d names were accepted: nothing was tested", accepted)
	}
	few, many := strings.Repeat("é", 2), strings.Repeat("é", maxCharacters)
	grown := testing.AllocsPerRun(10, func() { Normal(many) }) - testing.AllocsPerRun(10, func() { Normal(few) })
	if grown > 20 {
		t.Errorf("a name of %d characters takes %v allocations more than one of two", maxCharacters, grown)
	}
}
