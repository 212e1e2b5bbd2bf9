package diagnose

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

// Print writes the result for people: the list of checks, the claims, and the key set. It
// writes nothing if there was no key set, because there is nothing to list.
func (c *TokenCheck) Print(w io.Writer) error {
	if c.noKeySet() && c.keys.Fetched.IsZero() {
		return nil
	}
	rows := [][]string{{"CHECK", "RESULT", "EXPECTED", "FOUND"}}
	for _, r := range c.rows() {
		line := []string{r.name, r.result}
		if r.result != notReached {
			line = append(line, cmp.Or(r.expected, "-"), cmp.Or(r.found, "-"))
		}
		rows = append(rows, line)
	}
	return errors.Join(printTable(w, rows), c.printToken(w), c.printKeySet(w))
}

// signedHeading is for a token that is refused, although its signature is valid.
const signedHeading = "The token's claims (its signature is valid):"

func (c *TokenCheck) printToken(w io.Writer) error {
	var err error
	switch {
	case c.claims != nil:
		heading := "The token is valid. Its claims:"
		if c.err != nil { // it does not grant a scope
			heading = signedHeading
		}
		fmt.Fprintln(w, "\n"+heading)
		err = c.printClaims(w)
	case c.Token.header == nil:
	case c.signed():
		fmt.Fprintln(w, "\n"+signedHeading)
		err = c.printMembers(w)
	default:
		fmt.Fprintln(w, "\nThe token's claims, UNVERIFIED (anyone may have written them):")
		err = c.printMembers(w)
	}
	if len(c.Token.leftOut) > 0 {
		fmt.Fprintf(w, "\nRemoved from around the token: %s. A service refuses a token that is sent with it.\n", strings.Join(c.Token.leftOut, ", "))
	}
	return err
}

// printMembers shows well-known names only, so that an attacker's token cannot flood the
// screen.
func (c *TokenCheck) printMembers(w io.Writer) error {
	var rows [][]string
	for _, name := range headerNames {
		if s := clipped(c.Token.headerText(name)); s != "" {
			rows = append(rows, []string{"header " + name + ":", s})
		}
	}
	for _, name := range claimNames {
		s := clipped(c.Token.claimText(name))
		if at := c.Token.numericDate(name); !at.IsZero() && slices.Contains(timeNames, name) {
			s = formatTime(at)
		}
		if s != "" {
			rows = append(rows, []string{name + ":", s})
		}
	}
	return printTable(w, rows)
}

// printClaims shows the claims of an accepted token: the well-known ones, and then the others
// sorted by name.
func (c *TokenCheck) printClaims(w io.Writer) error {
	claims := c.claims
	var others map[string]json.RawMessage
	if err := json.Unmarshal(claims.Raw, &others); err != nil {
		return err
	}
	known := append([]string{"jti"}, claimNames...)
	maps.DeleteFunc(others, func(name string, _ json.RawMessage) bool { return slices.Contains(known, name) })
	rows := [][]string{
		{"valid until:", formatTime(claims.Expires), "(" + c.left(claims.Expires, " from now") + ")"},
		{"signed by:", claims.KID, claims.Alg},
		{"issuer:", claims.Issuer},
		{"audience:", strings.Join(claims.Audience, " ")},
		{"subject:", claims.Subject},
		{"client:", claims.ClientID},
		{"scope:", cmp.Or(claims.Scope, "-")},
	}
	var more [][]string // with columns of its own
	for _, name := range slices.Sorted(maps.Keys(others)) {
		more = append(more, []string{name + ":", string(others[name])})
	}
	return errors.Join(printTable(w, rows), printTable(w, more))
}

// printTable prints a table whose first row may be its header.
func printTable(w io.Writer, rows [][]string) error {
	t := terminal.NewTable(w)
	for _, row := range rows {
		t.Row(row...)
	}
	return t.Flush()
}

// maxKeysShown bounds how many lines an issuer can put on the screen.
const maxKeysShown = 16

func (c *TokenCheck) printKeySet(w io.Writer) error {
	if c.keys.Fetched.IsZero() {
		return nil
	}
	fmt.Fprintln(w, "\nThe key set that the token was checked with:")
	rows := [][]string{
		{"from:", cmp.Or(c.keySetURL(), "-")},
		{"age:", c.keySetAge()},
	}
	if until := c.keys.FreshUntil; !until.IsZero() {
		rows = append(rows, []string{"caches:", "may hold it until " + formatTime(until) + " (" + span(max(0, until.Sub(c.now))) + " more)"})
	}
	for _, line := range c.keyLines() {
		rows = append(rows, []string{"key:", line})
	}
	for _, line := range skippedLines(c.keys.Skipped, maxKeysShown) {
		rows = append(rows, []string{"not trusted:", clipped(line)})
	}
	return printTable(w, rows)
}

// keySetURL returns where the set came from.
func (c *TokenCheck) keySetURL() string { return cmp.Or(c.keys.Location, c.seen.url) }

func (c *TokenCheck) keySetAge() string {
	s := span(max(0, c.keys.Age)) + ", fetched " + formatTime(c.keys.Fetched)
	if cached := c.cachedFor(); cached > 0 {
		s += "; caches in between held it for " + span(cached)
	}
	return s
}

// cachedFor returns how old the set was when it arrived, 0 if under a second: HTTP has no
// smaller unit.
func (c *TokenCheck) cachedFor() time.Duration {
	if d := c.keys.Age - c.now.Sub(c.keys.Fetched); d >= time.Second {
		return d
	}
	return 0
}

func (c *TokenCheck) keyLines() (lines []string) {
	kid := c.Token.headerText("kid")
	for i, k := range c.keys.Keys {
		if i == maxKeysShown {
			return append(lines, fmt.Sprintf("… and %d more", len(c.keys.Keys)-i))
		}
		lines = append(lines, keyLine(k, kid))
	}
	if len(lines) == 0 {
		lines = append(lines, "no usable key")
	}
	return lines
}

func keyLine(k jwks.Key, named string) string {
	line := clipped(k.KID) + " " + k.Alg
	if k.KID == named {
		line += ", named by the token"
	}
	return line
}
