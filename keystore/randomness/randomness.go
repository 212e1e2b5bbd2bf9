// Package randomness recognises 32-byte secrets that were not drawn at random: text, patterns,
// sequences and published examples. An attacker can guess such a secret.
//
// A random secret is refused by a rule with at most this probability. All rules together refuse one of
// 2^64 keys, if the key was given in hex or base64.
//
//	rule                                                        probability
//	at most 12 different bytes                                  C(256,12)·(12/256)^32    2^-74
//	neighbours that differ by at most 8 different steps         C(256,8)·(8/256)^31      2^-106
//	steps that differ by at most 8 different values             C(256,8)·(8/256)^30      2^-101
//	a pattern of at most 16 bytes that repeats                  Σ 256^-(32-p)            2^-127
//	the same forwards and backwards                             256^-16                  2^-128
//	every second byte is the same                               2·256^-15                2^-119
//	11 equal bytes in a row                                     22·256^-10               2^-75
//	only letters, digits and spaces                             (63/256)^32              2^-64.7
//	only letters of one case, digits, space, "_", "-" and "."   2·(40/256)^32            2^-84
//	printable ASCII, 24 or more of a to z and space             Σ C(32,n)·27^n·71^(32-n) 2^-69
//	UTF-8 of at most 17 printable characters                    about                    2^-67
//	a published example, or the SHA-256 of a common word                                 2^-248
//
// A file that holds the secret as 32 raw bytes holds typed text if all of them are printable. For this
// rule the probability is (98/256)^32, that is 2^-44. A key that was drawn as the documents say, in
// base64, never meets that rule.
package randomness

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Size is the length of a secret.
const Size = 32

// Fault says why secret was not drawn at random, such as "it is text". It returns "" if nothing
// is wrong. raw means that the secret was given as it is, and not in hex or base64. The result
// never quotes the secret.
func Fault(secret [Size]byte, raw bool) string {
	switch fault := patternOf(secret[:], raw); {
	case fault != "":
		return fault
	case isExample(secret):
		return "it is a published example"
	case isHashOfWord(secret):
		return "it is the hash of a common word"
	}
	return ""
}

// patternOf says which rule about the bytes of s is broken.
func patternOf(s []byte, raw bool) string {
	steps := differences(s)
	switch {
	case different(s) == 1:
		return "all its bytes are the same"
	case different(s) <= 12:
		return "it has only a few different bytes"
	case different(steps) <= 8 || different(differences(steps)) <= 8:
		return "it is a sequence"
	case repeats(s) || mirrored(s) || alternates(s):
		return "it repeats a pattern"
	case equalRun(s) >= 11:
		return "it is filled up with equal bytes"
	case isText(s, raw):
		return "it is text that a person typed"
	}
	return ""
}

func different(s []byte) int {
	var seen [256]bool
	n := 0
	for _, b := range s {
		if !seen[b] {
			seen[b] = true
			n++
		}
	}
	return n
}

// differences returns the steps between neighbours, modulo 256.
func differences(s []byte) []byte {
	var out []byte
	for i := 1; i < len(s); i++ {
		out = append(out, s[i]-s[i-1])
	}
	return out
}

// repeats reports whether s repeats its first bytes, at most half of it.
func repeats(s []byte) bool {
	for period := 1; period <= len(s)/2; period++ {
		if bytes.Equal(s[period:], s[:len(s)-period]) {
			return true
		}
	}
	return false
}

func mirrored(s []byte) bool {
	for i := range len(s) / 2 {
		if s[i] != s[len(s)-1-i] {
			return false
		}
	}
	return true
}

// alternates reports whether every second byte is the same, as in UTF-16.
func alternates(s []byte) bool {
	same := [2]bool{true, true}
	for i := 2; i < len(s); i++ {
		same[i%2] = same[i%2] && s[i] == s[i%2]
	}
	return same[0] || same[1]
}

// equalRun returns the length of the longest run of equal bytes.
func equalRun(s []byte) int {
	longest, run := 1, 1
	for i := 1; i < len(s); i++ {
		run++
		if s[i] != s[i-1] {
			run = 1
		}
		longest = max(longest, run)
	}
	return longest
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

func isText(s []byte, raw bool) bool {
	if !utf8.Valid(s) {
		return false
	}
	text := string(s)
	printable := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune("\t\n\r", r) }) < 0
	ascii := utf8.RuneCount(s) == len(s)
	switch {
	case !printable:
		return false
	case !ascii:
		return utf8.RuneCount(s) <= 17
	}
	return raw || countIn(text, lower+upper+digits+" ") == len(s) ||
		countIn(text, lower+digits+" _-.") == len(s) || countIn(text, upper+digits+" _-.") == len(s) ||
		countIn(text, lower+" ") >= 24
}

// countIn counts the characters of text that are in set.
func countIn(text, set string) int {
	n := 0
	for _, r := range text {
		if strings.ContainsRune(set, r) {
			n++
		}
	}
	return n
}

// examples are keys of 32 bytes that standards and well-known projects print. Sequences and patterns
// among them, such as 000102…1f, have rules of their own.
var examples = [...]string{
	"YD3rEBXKcb4rc67whX13gR81LAc7YQjXLZgQowkU3_Q", // AES-256 of NIST SP 800-38A, appendix F
	"HJJApetV04rzM4iGBPa18Ec5F8FAK4AJncpcvCBwdcA", // ChaCha20 of RFC 8439, appendix A
	"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", // Ed25519 of RFC 8032, section 7.1, test 1
	"TM0Imyj_ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U-4pvs", // test 2
	"xaqN9D-fg3vtt0QvMdy3sWbThTUHbwlLhc46LgtEWPc", // test 3
	"dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo", // X25519 of RFC 7748, section 6.1
	"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg", // HMAC of RFC 7520, section 3.5
	"cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4", // the specification of Fernet
	"FB0o_zt4e3Ziq3LdUUO7F2Z95cvFFx16hU8jTeR1ASM", // Airflow's files for Docker Compose
}

func isExample(secret [Size]byte) bool {
	for _, example := range examples {
		if base64.RawURLEncoding.EncodeToString(secret[:]) == example {
			return true
		}
	}
	return false
}

// words are what people type when they are asked for a secret.
const words = " admin administrator changeme default demo dev example foo foobar hello keymill key letmein master" +
	" masterkey master-key master_key passw0rd password passphrase pass pwd qwerty root secret secretkey secret-key" +
	" test test123 testing tomcat welcome 0 1 123 1234 12345 123456 1234567 12345678 123456789 1234567890"

// isHashOfWord also knows a word in capitals, with a first capital, and with the newline of echo.
func isHashOfWord(secret [Size]byte) bool {
	for word := range strings.SplitSeq(words, " ") { // the first one is empty
		for _, form := range []string{word, strings.ToUpper(word), capital(word), word + "\n", word + "123", word + "1"} {
			if sha256.Sum256([]byte(form)) == secret {
				return true
			}
		}
	}
	return false
}

func capital(word string) string {
	if word == "" {
		return word
	}
	return strings.ToUpper(word[:1]) + word[1:]
}
