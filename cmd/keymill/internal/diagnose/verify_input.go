package diagnose

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"keymill/jwks"
)

// A wrongInput describes what was given in place of a token, if it is recognized. It holds
// nothing of the input, which may be a secret or contain a valid token.
type wrongInput struct{ what, advice string }

// findWrongInput looks for one if the verifier refused the form of the token.
func (c *TokenCheck) findWrongInput() wrongInput {
	if !errors.Is(c.err, jwks.ErrMalformed) {
		return wrongInput{}
	}
	return recognizeInput(c.Token.text)
}

func recognizeInput(given string) wrongInput {
	switch {
	case inUTF16(given):
		return wrongInput{"it is UTF-16 text", "a token is ASCII: PowerShell writes UTF-16 with \">\", so write it with \"| Out-File -Encoding ascii\""}
	case isBinary(given):
		return wrongInput{"it is binary data, not text", "is it the right file? a token is three parts of letters and digits with dots between"}
	case strings.HasPrefix(given, "kmr_"):
		return wrongInput{"it is a refresh token", "send services the access token; \"keymill session why -\" explains a refresh token"}
	case strings.HasPrefix(given, "kms_"):
		return wrongInput{"it is a client's secret", "it is exposed now: replace it with \"keymill client rotate-secret ID --old-for 0s\", and give the access token that the client gets for it"}
	}
	if m := wrapped(given); m.what != "" {
		return m
	}
	if pieces := strings.Fields(given); len(pieces) > 1 {
		return wrongInput{severalIn(pieces), "there is a space or a line break inside: give one token, in one piece"}
	}
	return wrongInput{}
}

// wrapped recognizes a token together with the text that it was found in. It does not extract
// the token, because that text may contain more than one.
func wrapped(given string) wrongInput {
	_, after, named := strings.Cut(given, "access_token")
	after = strings.TrimLeft(after, "\"' \t\r\n")
	address := strings.HasPrefix(given, "https://") || strings.HasPrefix(given, "http://")
	switch {
	case strings.HasPrefix(given, "{") && named:
		return wrongInput{"it is a complete token response", "give only the value of access_token in it, without the quotes"}
	case strings.HasPrefix(given, "{"), strings.HasPrefix(given, "["):
		return wrongInput{"it is a JSON document", "a token is three parts with dots between; there is no access_token in this"}
	case address && named:
		return wrongInput{"it is an address with a token inside", "give only what follows \"access_token=\", up to the next \"&\" if there is one"}
	case address:
		return wrongInput{"it is an address", "give the access token itself"}
	case named && strings.HasPrefix(after, "="):
		return wrongInput{"it is a parameter with a token inside", "give only what follows \"access_token=\", up to the next \"&\" if there is one"}
	case named && strings.HasPrefix(after, ":"):
		return wrongInput{"it is a part of a token response", "give only the value of access_token, without the quotes"}
	case strings.Contains(given, "=eyJ"): // eyJ is {" in base64url, the beginning of a header
		return wrongInput{"it is an assignment with a token inside", "give only what follows \"=\""}
	}
	return wrongInput{}
}

// severalIn tells several tokens, one on each line, from one token that was broken.
func severalIn(pieces []string) string {
	tokens := 0
	for _, p := range pieces {
		if strings.Count(p, ".") == 2 {
			tokens++
		}
	}
	if tokens == len(pieces) {
		return fmt.Sprintf("there are %d tokens, not one", tokens)
	}
	return fmt.Sprintf("it is in %d pieces", len(pieces))
}

// inUTF16 recognizes UTF-16 by its byte order mark, and ASCII text in UTF-16 without a mark by
// the zero bytes.
func inUTF16(s string) bool {
	if strings.HasPrefix(s, "\xff\xfe") || strings.HasPrefix(s, "\xfe\xff") {
		return true
	}
	if len(s) < 4 {
		return false
	}
	zero := [4]bool{s[0] == 0, s[1] == 0, s[2] == 0, s[3] == 0}
	return zero == [4]bool{false, true, false, true} || zero == [4]bool{true, false, true, false}
}

func isBinary(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) })
}
