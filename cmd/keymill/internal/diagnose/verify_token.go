package diagnose

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// maxShown bounds every text of a token or a key set that is shown, in characters.
const maxShown = 80

// The members of a token that are shown before its signature is verified.
var (
	headerNames = []string{"typ", "alg", "kid", "cty"}
	claimNames  = []string{"iss", "aud", "sub", "client_id", "scope", "exp", "iat", "nbf"}
	timeNames   = []string{"exp", "iat", "nbf"}
)

// A Token is a token as it was typed, and its members as far as they can be decoded without
// any check. The members are for display: nothing is decided by them.
type Token struct {
	text           string
	leftOut        []string // what was removed from around the token
	parts          int
	header, claims map[string]json.RawMessage
}

// ReadToken removes what is copied along with a token from a header, a log or a program: a
// byte order mark, "Authorization: Bearer", quotes, a comma.
func ReadToken(typed string) Token {
	var t Token
	t.text, t.leftOut = bareToken(typed)
	parts := strings.Split(t.text, ".")
	t.parts = len(parts)
	if len(parts) > 1 {
		t.header = decodePart(parts[0])
		t.claims = decodePart(parts[1]) // nil if it is encrypted
	}
	return t
}

// IsEmpty reports whether nothing is left.
func (t Token) IsEmpty() bool { return t.text == "" }

func bareToken(typed string) (token string, leftOut []string) {
	if inUTF16(typed) {
		return typed, nil // the bytes are not ASCII text
	}
	token, marked := strings.CutPrefix(typed, "\ufeff")
	if marked {
		leftOut = append(leftOut, "a byte order mark")
	}
	token = strings.TrimSpace(token)
	for {
		word, rest, _ := strings.Cut(token, " ")
		switch bare := strings.Trim(token, "\"'`,;"); {
		case bare != token:
			token = strings.TrimSpace(bare)
			leftOut = append(leftOut, "quotes or a comma")
		case IsHeaderWord(word):
			token = strings.TrimSpace(rest)
			leftOut = append(leftOut, strconv.Quote(word))
		default:
			return token, leftOut
		}
	}
}

// IsHeaderWord reports whether word is "Authorization:" or "Bearer", also after a quote.
func IsHeaderWord(word string) bool {
	word = strings.ToLower(strings.TrimLeft(word, "\"'`"))
	return word == "bearer" || word == "authorization:"
}

func decodePart(part string) (members map[string]json.RawMessage) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	if err != nil || json.Unmarshal(raw, &members) != nil {
		return nil
	}
	return members
}

// Claim returns a claim that can be suggested as the value of a flag: the first value that is
// short and printable. It returns "" if there is none. It is unverified.
func (t Token) Claim(name string) string {
	for _, value := range t.stringList(name) {
		unprintable := strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) })
		if value != "" && clipped(value) == value && !unprintable {
			return value
		}
	}
	return ""
}

func (t Token) headerText(name string) string { return memberText(t.header, name) }
func (t Token) claimText(name string) string  { return memberText(t.claims, name) }

// memberText returns a string member as it is and any other member as JSON; "" if it is missing.
func memberText(members map[string]json.RawMessage, name string) string {
	raw := members[name]
	var s string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// stringList returns a claim that is a string or an array of strings, as aud may be; nil if it is
// neither.
func (t Token) stringList(name string) (words []string) {
	var word string
	switch raw := t.claims[name]; {
	case len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &word) == nil:
		return []string{word}
	case len(raw) > 0 && json.Unmarshal(raw, &words) == nil:
		return words
	}
	return nil
}

// numericDate returns a claim that is a NumericDate, or the zero time if it is not one.
func (t Token) numericDate(name string) time.Time {
	seconds, err := strconv.ParseFloat(string(t.claims[name]), 64)
	if err != nil || !(seconds >= 0 && seconds < 253402300800) { // the year 10000
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

// clipped cuts s to maxShown characters. The table and the error line escape control
// characters.
func clipped(s string) string {
	n := 0
	for i := range s {
		if n++; n > maxShown {
			return s[:i] + "…"
		}
	}
	return s
}

func quoted(s string) string { return strconv.Quote(clipped(s)) }
