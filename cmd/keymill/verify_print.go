package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"keymill/jwks"
)

// noKeySet is the exit code for a token that nobody could judge.
const noKeySet = 3

// outcome is what ends the program after the answer is on stdout.
func (v *verification) outcome() error {
	switch failedCheck(v.err) {
	case "key_set", "other":
		return hint(&complaint{err: fmt.Errorf("no key set to check with: %s", v.fault()), code: noKeySet}, "%s", v.advice())
	}
	return hint(fmt.Errorf("the token is refused: %w", v.err), "%s", v.advice())
}

// printReport is the answer for people: the list of checks, what the token says, and the
// set that it was checked with.
func (v *verification) printReport(w io.Writer) error {
	if v.err != nil && v.keys.Fetched.IsZero() && failedCheck(v.err) == "key_set" {
		return v.outcome() // there is nothing to list
	}
	t := newTable(w, "CHECK", "RESULT", "EXPECTED", "FOUND")
	for _, c := range v.checks() {
		if c.result == notReached {
			t.row(c.name, c.result)
			continue
		}
		t.row(c.name, c.result, orDash(c.expected), orDash(c.found))
	}
	err := errors.Join(t.flush(), v.printToken(w), v.printKeys(w))
	if err == nil && v.err != nil {
		return v.outcome()
	}
	return err
}

func (v *verification) printToken(w io.Writer) error {
	var err error
	switch {
	case v.claims != nil:
		fmt.Fprintln(w, "\nThe token says:")
		err = printClaims(w, v.claims, v.left(v.claims.Expires, " from now"))
	case v.says.header == nil:
	case v.signed():
		fmt.Fprintln(w, "\nThe token says, and its signature holds:")
		err = v.printPeek(w)
	default:
		fmt.Fprintln(w, "\nThe token says, UNVERIFIED (anybody may have written it):")
		err = v.printPeek(w)
	}
	if len(v.strip) > 0 {
		fmt.Fprintf(w, "\nLeft out around it: %s. A service that receives it so refuses it.\n", strings.Join(v.strip, ", "))
	}
	return err
}

// printPeek shows known names only, so that a stranger's token cannot flood the screen.
func (v *verification) printPeek(w io.Writer) error {
	t := newTable(w)
	for _, name := range headerNames {
		if s := shown(v.says.header, name); s != "" {
			t.row("header "+name+":", s)
		}
	}
	for _, name := range claimNames {
		s := shown(v.says.claims, name)
		if at := v.says.instant(name); !at.IsZero() && slices.Contains(instantNames, name) {
			s = instant(&at)
		}
		if s != "" {
			t.row(name+":", s)
		}
	}
	return t.flush()
}

var (
	headerNames  = []string{"typ", "alg", "kid", "cty"}
	instantNames = []string{"exp", "iat", "nbf"}
	claimNames   = []string{"iss", "aud", "sub", "client_id", "scope", "exp", "iat", "nbf"}
)

// maxKeysShown bounds what an issuer can put on the screen.
const maxKeysShown = 16

func (v *verification) printKeys(w io.Writer) error {
	if v.keys.Fetched.IsZero() {
		return nil
	}
	fmt.Fprintln(w, "\nThe key set that it was checked with:")
	t := newTable(w)
	t.row("from:", orDash(v.keyLocation()))
	t.row("age:", v.keyAge())
	if f := v.keys.FreshUntil; !f.IsZero() {
		t.row("caches:", "may hold it until "+instant(&f)+" ("+span(max(0, f.Sub(v.now)))+" more)")
	}
	for _, line := range v.keyLines() {
		t.row("key:", line)
	}
	skipped := v.keys.Skipped
	shown := skipped.Keys[:min(len(skipped.Keys), maxKeysShown)]
	for _, k := range shown {
		t.row("not trusted:", clipped(k.String()))
	}
	if more := skipped.Count - len(shown); more > 0 {
		t.row("not trusted:", fmt.Sprintf("… and %d more", more))
	}
	return t.flush()
}

// keyLocation is where the set was seen to come from.
func (v *verification) keyLocation() string {
	if v.keys.Location != "" {
		return v.keys.Location
	}
	return v.seen.url
}

func (v *verification) keyAge() string {
	s := span(max(0, v.keys.Age)) + ", fetched " + instant(&v.keys.Fetched)
	if cached := v.cached(); cached > 0 {
		s += "; caches in between held it for " + span(cached)
	}
	return s
}

// cached is how old the set was when it came; a second is below what HTTP can tell.
func (v *verification) cached() time.Duration {
	if d := v.keys.Age - v.now.Sub(v.keys.Fetched); d >= time.Second {
		return d
	}
	return 0
}

func (v *verification) keyLines() (lines []string) {
	named, _ := v.namedKey()
	for i, k := range v.keys.Keys {
		if i == maxKeysShown {
			return append(lines, fmt.Sprintf("… and %d more", len(v.keys.Keys)-i))
		}
		line := clipped(k.KID) + " " + k.Alg
		if k.KID == named.KID {
			line += ", named by the token"
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		lines = append(lines, "none that can be trusted")
	}
	return lines
}

func printClaims(w io.Writer, c *jwks.Claims, left string) error {
	t := newTable(w)
	t.row("valid until:", instant(&c.Expires), "("+left+")")
	t.row("signed by:", c.KID, c.Alg)
	t.row("issuer:", c.Issuer)
	t.row("audience:", listed(c.Audience))
	t.row("subject:", c.Subject)
	t.row("client:", c.ClientID)
	t.row("scope:", orDash(c.Scope))
	return errors.Join(t.flush(), printOthers(w, c.Raw))
}

// printOthers shows the claims that printClaims has no line for.
func printOthers(w io.Writer, raw []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	t := newTable(w)
	var names []string
	for name := range all {
		switch name {
		case "iss", "aud", "sub", "client_id", "scope", "exp", "iat", "nbf", "jti":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		t.row(name+":", string(all[name]))
	}
	return t.flush()
}
