package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxShown bounds a stranger's text in an answer, in characters.
const maxShown = 80

// bareToken leaves out what comes along when a token is copied from a header, a log or a
// program, and says what that was: a service that receives it so refuses it.
func bareToken(typed string) (token string, strip []string) {
	if inUTF16(typed) {
		return typed, nil // in which nothing is what it looks like byte by byte
	}
	token, marked := strings.CutPrefix(typed, "\ufeff")
	if marked {
		strip = append(strip, "a byte order mark")
	}
	token = strings.TrimSpace(token)
	for {
		word, rest, _ := strings.Cut(token, " ")
		switch bare := strings.Trim(token, "\"'`,;"); {
		case bare != token:
			token = strings.TrimSpace(bare)
			strip = append(strip, "quotes or a comma")
		case isHeaderWord(word):
			token = strings.TrimSpace(rest)
			strip = append(strip, strconv.Quote(word))
		default:
			return token, strip
		}
	}
}

func isHeaderWord(word string) bool {
	word = strings.ToLower(strings.TrimLeft(word, "\"'`"))
	return word == "bearer" || word == "authorization:"
}

// A peek is what a token says, decoded as far as it can be and without any judgement. It
// is for display: no decision rests on it.
type peek struct {
	parts          int
	header, claims map[string]json.RawMessage
}

func peekInto(token string) peek {
	parts := strings.Split(token, ".")
	p := peek{parts: len(parts)}
	if len(parts) > 1 {
		p.header = peekPart(parts[0])
		p.claims = peekPart(parts[1]) // nil if it is encrypted
	}
	return p
}

func peekPart(part string) (members map[string]json.RawMessage) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	if err != nil || json.Unmarshal(raw, &members) != nil {
		return nil
	}
	return members
}

// text is a member as people read it, "" if there is none.
func text(members map[string]json.RawMessage, name string) string {
	raw := members[name]
	var s string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// shown is text, bounded.
func shown(members map[string]json.RawMessage, name string) string {
	return clipped(text(members, name))
}

// list is an array of strings or one string, as aud may be; nil if it is neither.
func (p peek) list(name string) (words []string) {
	var word string
	switch raw := p.claims[name]; {
	case len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &word) == nil:
		return []string{word}
	case len(raw) > 0 && json.Unmarshal(raw, &words) == nil:
		return words
	}
	return nil
}

// instant is a NumericDate as people read it, and zero if there is none.
func (p peek) instant(name string) time.Time {
	seconds, err := strconv.ParseFloat(string(p.claims[name]), 64)
	if err != nil || !(seconds >= 0 && seconds < 253402300800) { // the year 10000
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}

// suggest is a hint with what to paste, from the token itself if that is possible. It says
// that nobody vouches for it.
func (p peek) suggest(claim, flag, otherwise string) string {
	for _, value := range p.list(claim) {
		if value != "" && clipped(value) == value && printable(value) == value {
			return fmt.Sprintf("the token names %s (unverified): %s %s", quoted(value), flag, shellWord(value))
		}
	}
	return otherwise
}

// clipped bounds s in length; what a terminal would obey is quoted by whoever prints it.
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
