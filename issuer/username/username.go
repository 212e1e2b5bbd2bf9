// Package username decides which names users can have, and under which spelling a name is compared.
//
// A name is compared after NFKC, as in Django, and with case. Its characters are those of the
// FreeformClass of PRECIS (RFC 8264, section 4.3): letters, marks, digits, symbols, punctuation and
// spaces of every script. It has no character that is invisible (Default_Ignorable_Code_Point), a
// control, for private use or unassigned. Some characters, such as the joiners U+200C and U+200D, are
// allowed only where their script needs them (RFC 5892, appendix A).
//
// A name must not look like another name in a log, on a page or in a terminal. So these are refused
// too: characters that show as blank and are not the ASCII space, two spaces in a row, a joiner whose
// neighbours are of another script, and a combining mark on nothing or on the same mark.
//
// The IdentifierClass (RFC 8265) was rejected: it has no space and few symbols, and Django users have
// such names.
package username

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"keymill/issuer/refusal"
)

const (
	// IDPrefix marks a word as an id and not a name, in commands and in the admin API.
	IDPrefix = "id:"

	maxCharacters = 150     // as in Django's column
	maxBytes      = 4 << 10 // before normalization, which takes time
)

// Normal returns the spelling under which a name is compared. ok is false for a name that no user
// can have, and normal is "".
func Normal(name string) (normal string, ok bool) {
	normal, wrong := normalize(name)
	return normal, wrong == ""
}

// Check returns the normal spelling, or refuses the name with invalid_request and says what is wrong.
func Check(name string) (string, error) {
	normal, wrong := normalize(name)
	if wrong != "" {
		return "", refusal.New("invalid_request", "a user name must be 1 to %d characters, none of them invisible, "+
			"without a space at either end and not beginning with %s; this name %s", maxCharacters, IDPrefix, wrong)
	}
	return normal, nil
}

// Possible reports whether a stored name is in the normal spelling and within the limits. It does not
// check characters: an earlier version may have refused fewer.
func Possible(name string) bool {
	length := utf8.RuneCountInString(name)
	return utf8.ValidString(name) && length > 0 && length <= maxCharacters && norm.NFKC.IsNormalString(name) &&
		!strings.HasPrefix(name, IDPrefix) && name == strings.TrimSpace(name)
}

// normalize returns the normal spelling, or "" and what is wrong with the name.
func normalize(name string) (normal, wrong string) {
	switch {
	case len(name) > maxBytes:
		return "", "is too long"
	case !utf8.ValidString(name):
		return "", "is not in UTF-8"
	}
	normal = norm.NFKC.String(name)
	switch length := utf8.RuneCountInString(normal); {
	case length == 0:
		return "", "is empty"
	case length > maxCharacters:
		return "", "is too long"
	case strings.HasPrefix(normal, IDPrefix):
		return "", "begins with " + IDPrefix
	case normal != strings.TrimSpace(normal):
		return "", "has a space at an end"
	}
	if wrong = misleading([]rune(normal)); wrong != "" {
		return "", wrong
	}
	return normal, ""
}
