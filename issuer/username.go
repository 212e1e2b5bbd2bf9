package issuer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	maxUsername      = 150     // characters, as Django's column has it
	maxUsernameBytes = 4 << 10 // before the name is normalised, which costs time
)

// normalName returns the one spelling under which a user name is compared: NFKC as
// Django does, case kept; ok is false unless it is 1 to 150 characters, without control
// characters, no space at either end, and
// no "id:" before it, which is how verbs name a user by id. What cannot be seen, or turns the direction of
// writing, is a control too: with it, a name shows as another in a log or a terminal.
func normalName(name string) (normal string, ok bool) {
	if len(name) > maxUsernameBytes || !utf8.ValidString(name) {
		return "", false
	}
	normal = norm.NFKC.String(name)
	length := utf8.RuneCountInString(normal)
	if strings.HasPrefix(normal, byID) || length < 1 || length > maxUsername || normal != strings.TrimSpace(normal) ||
		strings.ContainsFunc(joined(normal), isControl) {
		return "", false
	}
	return normal, true
}

// joined leaves out the joiners that some scripts are written with; after a letter of the
// scripts that names are guessed in, they are there to deceive.
func joined(s string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		if (r == '\u200c' || r == '\u200d') && !unicode.In(before, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Common) {
			return -1
		}
		before = r
		return r
	}, s)
}

func isControl(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp,
		unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
