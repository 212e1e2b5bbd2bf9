package postgres

import (
	"sort"
	"strings"
	"unicode/utf8"
)

// Bounds of ranges can be any bytes, and values of the type text only UTF-8 without zero bytes.

// atLeast returns the first text that is not before bound, if there is one. So for every text k,
// k >= bound is k >= atLeast(bound), and k < bound is k < atLeast(bound).
func atLeast(bound string) (text string, some bool) {
	valid := 0 // length of the longest prefix that is text
	for valid < len(bound) {
		r, size := utf8.DecodeRuneInString(bound[valid:])
		if r == 0 || r == utf8.RuneError && size == 1 {
			break
		}
		valid += size
	}
	prefix, rest := bound[:valid], bound[valid:]
	if rest == "" {
		return prefix, true
	}
	for {
		if r, some := runeAfter(rest); some {
			return prefix + string(r), true
		}
		if prefix == "" {
			return "", false
		}
		// No text with this prefix is late enough, so the last rune of the prefix has to grow.
		_, size := utf8.DecodeLastRuneInString(prefix)
		prefix, rest = prefix[:len(prefix)-size], prefix[len(prefix)-size:]+"\xff"
	}
}

// runeAfter returns the first rune whose encoding is not before rest, which is not an encoding itself.
func runeAfter(rest string) (rune, bool) {
	i := sort.Search(utf8.MaxRune-surrogates, func(i int) bool { return strings.Compare(string(nth(i)), rest) >= 0 })
	r := nth(i)
	return r, r <= utf8.MaxRune
}

// Surrogates have no encoding.
const (
	firstSurrogate = 0xd800
	surrogates     = 0x800 // how many there are
)

// nth returns the rune at the place i of those that texts can have, which begin with 1.
func nth(i int) rune {
	r := rune(i + 1)
	if r >= firstSurrogate {
		r += surrogates
	}
	return r
}

// endOf returns the text for the end of a range, if the range has one.
func endOf(end string) (text string, bounded bool) {
	if end == "" {
		return "", false
	}
	return atLeast(end)
}
