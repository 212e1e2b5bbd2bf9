package username

import (
	"fmt"
	"slices"
	"unicode"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
)

const (
	nonJoiner = '\u200c' // asks for letters that do not join
	joiner    = '\u200d' // asks for letters that join

	virama = 9 // the canonical combining class of the marks that take away the vowel of a letter
)

// blank lists the characters that show as nothing although Unicode counts them as symbols, letters
// or marks. No property of Unicode has them.
var blank = []rune{
	'\u2800',     // Braille pattern blank
	'\ufffc',     // object replacement character
	'\U0001107f', // Brahmi number joiner
	'\U00013441', // Egyptian hieroglyph full blank
	'\U00013442', // Egyptian hieroglyph half blank
	'\U00016fe4', // Khitan small script filler
	'\U0001d159', // musical symbol null notehead
}

// misleading returns what lets a name in NFKC look like another one, "" if nothing does.
func misleading(name []rune) string {
	// The check of the whole name is one of each character too. Those of single characters cost as much
	// each, and only tell which one is refused.
	freeform := isFreeform(string(name))
	for n, r := range name {
		switch {
		case '!' <= r && r <= '~':
		case slices.Contains(blank, r) || r != ' ' && unicode.Is(unicode.Z, r):
			return fmt.Sprintf("holds %U, which shows as blank", r)
		case !freeform && !unicode.Is(contextual, r) && !isFreeform(string(r)):
			return fmt.Sprintf("holds %U, which is invisible, a control, unassigned or not for names (RFC 8264)", r)
		case r == ' ' && name[n-1] == ' ': // the name does not begin with a space
			return "has two spaces in a row"
		case unicode.Is(unicode.M, r) && n == 0:
			return fmt.Sprintf("begins with the combining mark %U", r)
		case unicode.In(r, unicode.Mn, unicode.Me) && name[n-1] == r:
			return fmt.Sprintf("has the combining mark %U twice in a row", r)
		case (r == joiner || r == nonJoiner) && !joins(name, n):
			return fmt.Sprintf("holds %U, which is invisible, where no letters of one script need it", r)
		}
	}
	if !freeform {
		return "holds a character that is allowed only beside certain others (RFC 5892, appendix A)"
	}
	return ""
}

// joins reports whether the joiner at n is between letters of one script: U+200C between two
// letters, U+200D after the virama of a letter, also at the end. RFC 5892 looks at the virama only,
// and not at what it stands on. Elsewhere a joiner changes nothing that a reader sees.
func joins(name []rune, n int) bool {
	base := n - 1
	for base >= 0 && unicode.Is(unicode.M, name[base]) {
		base--
	}
	if base < 0 {
		return false
	}
	if name[n] == nonJoiner {
		return n+1 < len(name) && unicode.IsLetter(name[n+1]) && sameScript(name[base], name[n+1])
	}
	return norm.NFKC.PropertiesString(string(name[n-1])).CCC() == virama && sameScript(name[base], name[n-1])
}

// sameScript reports whether a and b are of one script. Characters that several scripts share
// (Common, Inherited) are of none.
func sameScript(a, b rune) bool {
	if unicode.In(a, unicode.Common, unicode.Inherited) {
		return false
	}
	for _, script := range unicode.Scripts {
		if unicode.Is(script, a) {
			return unicode.Is(script, b)
		}
	}
	return false
}

// contextual has the characters that RFC 5892, appendix A, allows in some places only.
var contextual = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0xb7, Hi: 0xb7, Stride: 1}, {Lo: 0x375, Hi: 0x375, Stride: 1}, {Lo: 0x5f3, Hi: 0x5f4, Stride: 1},
		{Lo: 0x660, Hi: 0x669, Stride: 1}, {Lo: 0x6f0, Hi: 0x6f9, Stride: 1}, {Lo: 0x200c, Hi: 0x200d, Stride: 1},
		{Lo: 0x30fb, Hi: 0x30fb, Stride: 1},
	},
	LatinOffset: 1,
}

var freeform = precis.NewFreeform(precis.Norm(norm.NFKC))

// isFreeform reports whether s in NFKC is a string of the FreeformClass.
func isFreeform(s string) bool {
	_, err := freeform.String(s)
	return err == nil
}
