package issuer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	maxUsername      = 150     // characters, as Django's column has it
	maxUsernameBytes = 4 << 10 // before normalization, which takes time
)

// normalName returns the spelling under which a user name is compared: NFKC, as in Django, with case.
// ok is false unless it is 1 to 150 characters, without control characters, without a space at either
// end, and without "id:" before it, which stands before an id in commands. Characters that are
// invisible or change the direction of text are controls too: they make one name look like another
// in a log or a terminal.
func normalName(name string) (normal string, ok bool) {
	if len(name) > maxUsernameBytes || !utf8.ValidString(name) {
		return "", false
	}
	normal = norm.NFKC.String(name)
	length := utf8.RuneCountInString(normal)
	if strings.HasPrefix(normal, idPrefix) || length < 1 || length > maxUsername || normal != strings.TrimSpace(normal) ||
		strings.ContainsFunc(joined(normal), isControl) {
		return "", false
	}
	return normal, true
}

// joined removes the joiners that some scripts need. After a Latin, Greek or Cyrillic letter a joiner
// is not needed and can only deceive, so it stays and isControl finds it.
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
