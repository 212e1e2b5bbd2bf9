package verifiers

import (
	"slices"
	"strings"
	"testing"
)

// TestWhatThePagesSayAboutSpellings: some libraries accept other spellings of a valid token, as their pages say. Nothing in the
// token can be changed by them, because the signature covers the bytes.
func TestWhatThePagesSayAboutSpellings(t *testing.T) {
	srv, clients := issuer(t, slow, "10m")
	mints := newMints(t, srv, clients)
	spellings := map[string]func(token string) string{
		"a dot at the end":                  func(token string) string { return token + "." },
		"a foreign character":               func(token string) string { return token[:len(token)-9] + "!" + token[len(token)-9:] },
		"a foreign character in the claims": func(token string) string { return strings.Replace(token, ".", ".!", 1) },
		"padding":                           func(token string) string { return token + "==" },
	}
	for _, tt := range []struct {
		library string
		takes   []string // spellings
	}{
		{"ruby-jwt", []string{"a dot at the end", "a foreign character", "padding"}},
		{"crypt-jwt", nil},
		{"php", nil},
		{"jose4j", []string{"a foreign character", "padding"}},
	} {
		t.Run(tt.library, func(t *testing.T) {
			s := libraryOf(t, tt.library).service(t, srv, "EdDSA", 0)
			for name, spell := range spellings {
				status := map[bool]int{true: 200, false: 401}[slices.Contains(tt.takes, name)]
				s.want(t, status, spell(mints["EdDSA"].genuine), name)
			}
		})
	}
}
