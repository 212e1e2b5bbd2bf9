package diagnose

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"keymill/jwks"
)

// A mistake is what was given in place of a token, if that can be told. It holds nothing of
// the input, which may be a secret or contain a valid token.
type mistake struct{ is, advice string }

// findMistake looks for one if the verifier refused the form of the token.
func (c *TokenCheck) findMistake() mistake {
	if !errors.Is(c.err, jwks.ErrMalformed) {
		return mistake{}
	}
	return mistakenFor(c.Token.text)
}

func mistakenFor(given string) mistake {
	switch {
	case inUTF16(given):
		return mistake{"it is UTF-16 text", "a token is ASCII: PowerShell writes UTF-16 with \">\", so write it with \"| Out-File -Encoding ascii\""}
	case isBinary(given):
		return mistake{"it is binary, not text", "is it the right file? a token is three parts of letters and digits with dots between"}
	case strings.HasPrefix(given, "kmr_"):
		return mistake{"it is a refresh token", "only Keymill takes that: \"keymill session why -\" explains it; services take access tokens"}
	case strings.HasPrefix(given, "kms_"):
		return mistake{"it is a client's secret", "it has now been shown where it does not belong: replace it with \"keymill client rotate-secret ID --old-for 0s\", and give the access token that the client gets for it"}
	}
	if m := wrapped(given); m.is != "" {
		return m
	}
	if pieces := strings.Fields(given); len(pieces) > 1 {
		return mistake{severalIn(pieces), "there is a space or a line break inside: give one token, in one piece"}
	}
	return mistake{}
}

// wrapped recognises a token together with the text that it was found in. It does not take
// the token out, since that text may contain more than one.
func wrapped(given string) mistake {
	_, after, named := strings.Cut(given, "access_token")
	after = strings.TrimLeft(after, "\"' \t\r\n")
	address := strings.HasPrefix(given, "https://") || strings.HasPrefix(given, "http://")
	switch {
	case strings.HasPrefix(given, "{") && named:
		return mistake{"it is a whole token response", "give only the value of access_token in it, without the quotes"}
	case strings.HasPrefix(given, "{"), strings.HasPrefix(given, "["):
		return mistake{"it is a JSON document", "a token is three parts with dots between; there is no access_token in this"}
	case address && named:
		return mistake{"it is an address with a token inside", "give only what follows \"access_token=\", up to the next \"&\" if there is one"}
	case address:
		return mistake{"it is an address", "give the access token itself"}
	case named && strings.HasPrefix(after, "="):
		return mistake{"it is a parameter with a token inside", "give only what follows \"access_token=\", up to the next \"&\" if there is one"}
	case named && strings.HasPrefix(after, ":"):
		return mistake{"it is a piece of a token response", "give only the value of access_token, without the quotes"}
	case strings.Contains(given, "=eyJ"): // eyJ is {" in base64url, the beginning of a header
		return mistake{"it is an assignment with a token inside", "give only what follows \"=\""}
	}
	return mistake{}
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

// inUTF16 recognises UTF-16 by its byte order mark, and ASCII text in UTF-16 without a mark by
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
