package password

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"keymill/issuer/refusal"

	"golang.org/x/text/unicode/norm"
)

const (
	minLength = 15 // characters: the password is the only factor (NIST SP 800-63B-4, section 3.1.1.2)
	minWalk   = 3  // characters of a sequence

	// MaxBytes is the length of the longest password, as typed.
	MaxBytes = 4 << 10
)

// Check refuses a password that a user chooses now; passwords that exist are not checked until they
// change. Length is the only rule: digits and capitals are not required. So a password that is long
// but easy to guess is refused: one that repeats a shorter text, or that consists only of
// sequences, common words and the user's name. A list of the 3,000 most common passwords would
// refuse three more, one of 20,000 two dozen; they are among the well-known words.
func Check(password refusal.Secret, name string) error {
	typed := string(password)
	if len(typed) > MaxBytes {
		return refusal.New("invalid_request", "the password is longer than %d bytes", MaxBytes)
	}
	if !utf8.ValidString(typed) {
		return refusal.New("invalid_request", "the password is not valid UTF-8")
	}
	if n := utf8.RuneCountInString(norm.NFC.String(typed)); n < minLength {
		return refusal.New("invalid_request", "the password has %d characters; at least %d are required", n, minLength)
	}
	plain, known := fold(typed), append(nameParts(name), wellKnown...)
	switch {
	case repeats(plain):
		return refusal.New("invalid_request", "the password is a short text repeated; choose one with %d characters that are not a repetition", minLength)
	case madeOf(plain, known) || madeOf(squeeze(plain), known):
		return refusal.New("invalid_request",
			"the password consists only of common words, sequences and the user's name; add other words")
	}
	return nil
}

// fold removes differences that a guesser would try together: case, width, ligatures.
func fold(s string) string { return norm.NFKC.String(strings.ToLower(norm.NFKC.String(s))) }

// squeeze removes everything but letters and digits, if they are at least half of s.
func squeeze(s string) string {
	short := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, s)
	if 2*len(short) < len(s) {
		return s
	}
	return short
}

// nameParts returns a user name and its parts, as those of a mail address.
func nameParts(name string) []string {
	name = fold(name)
	parts := []string{name, squeeze(name)}
	parts = append(parts, strings.FieldsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})...)
	long := parts[:0]
	for _, part := range parts {
		if utf8.RuneCountInString(part) >= minWalk {
			long = append(long, part)
		}
	}
	return long
}

// repeats reports whether s is a unit of less than 15 characters, two or more times. The last
// may be cut off.
func repeats(s string) bool {
	r := []rune(s)
	for unit := 1; unit < minLength && 2*unit <= len(r); unit++ {
		n := unit
		for n < len(r) && r[n] == r[n-unit] {
			n++
		}
		if n == len(r) {
			return true
		}
	}
	return false
}

// madeOf reports whether s consists of words, walks along a sequence and runs of one character,
// without a gap.
func madeOf(s string, words []string) bool {
	ends := make([]bool, len(s)+1) // ends[n]: s[:n] consists of them
	ends[0] = s != ""
	for at, ok := range ends {
		if !ok {
			continue
		}
		rest := s[at:]
		for _, word := range words {
			if strings.HasPrefix(rest, word) {
				ends[at+len(word)] = true
			}
		}
		walk, length := longestWalk(rest), 0
		for n := range rest[:walk] {
			ends[at+n] = ends[at+n] || length >= minWalk
			length++
		}
		ends[at+walk] = ends[at+walk] || length >= minWalk
	}
	return ends[len(s)]
}

// longestWalk returns how many bytes at the start of s follow one sequence or repeat one
// character. A walk that is longer than its sequence counts as two walks.
func longestWalk(s string) int {
	_, size := utf8.DecodeRuneInString(s)
	longest := size
	for longest < len(s) && strings.HasPrefix(s[longest:], s[:size]) {
		longest += size
	}
	for _, line := range sequences {
		for longest < len(s) {
			_, size := utf8.DecodeRuneInString(s[longest:])
			if !strings.Contains(line, s[:longest+size]) {
				break
			}
			longest += size
		}
	}
	return longest
}

// sequences are what walks follow: forwards, backwards, and from the end to the start. Long
// passwords that many people have are walks over the keyboard: along a row, down the columns, or
// with a finger of each hand.
var sequences = walks(
	"1234567890", "abcdefghijklmnopqrstuvwxyz", "!@#$%^&*()_+",
	"qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./",
	"qwertzuiop", "yxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn",
	"qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", "azertyuiopqsdfghjklmwxcvbn",
	"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p", "qazwsxedcrfvtgbyhnujmikolp",
	"1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0", "1a2b3c4d5e6f7g8h9i0j", "a1b2c3d4e5f6g7h8i9j0",
	"йцукенгшщзхъфывапролджэячсмитьбю", "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
	count(100),
)

func walks(lines ...string) []string {
	var all []string
	for _, line := range lines {
		r := []rune(line + line)
		for a, b := 0, len(r)-1; a < b; a, b = a+1, b-1 {
			r[a], r[b] = r[b], r[a]
		}
		all = append(all, line+line, string(r))
	}
	return all
}

// count returns 123456789101112 and so on.
func count(to int) string {
	var s []byte
	for n := range to {
		s = strconv.AppendInt(s, int64(n+1), 10)
	}
	return string(s)
}

// wellKnown are words that add nothing to a password, folded. The second part are long passwords
// of leaked lists that no rule would refuse.
var wellKnown = strings.Fields(`
	password passwort passw0rd p@ssword p@ssw0rd pa$$word pa$$w0rd pass word wachtwoord contraseña motdepasse
	admin administrator root user guest login keymill django server secret private access
	changeme letmein welcome default test testing hello example demo temp please enter open
	iloveyou love trustno1 whatever dragon monkey master shadow sunshine princess superman batman
	starwars football baseball basketball soccer hockey summer winter spring autumn
	january february march april june july august september october november december
	monday tuesday wednesday thursday friday saturday sunday
	this that the is my new old your our for and not

	demon1q2w3e4r5t tagesgruppe2010 john!20130605at1753 juliadronina1996 doomsayer.2.7mords.v
	doomsayer.2.7mords.vv stefangreil1983 somanypickles27 9121318barssuki polniypizdec1102
	polniypizdec0211 polniypizdec110211 migrationschool neworleans12345 inactive1996aug
	yfdbufnjh10305070 asdfghjklhudson1 asdfghjklwinston1 kartoffelpuffer kirik26trimyasov
	lightpower12345 vladcherktecktonik sdf7asdf6asdg8df
`)
