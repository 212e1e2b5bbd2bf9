package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/diagnose"
)

// verifyStdin runs verify with the token on standard input, and checks that the output contains
// no part of the token.
func verifyStdin(t testing.TB, token string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), append([]string{"verify", "-"}, args...), strings.NewReader(token), &out, &errs)
	kept(t, token, out.String()+errs.String())
	return out.String(), errs.String(), code
}

func kept(t testing.TB, token, output string) {
	t.Helper()
	for _, piece := range strings.FieldsFunc(token, func(r rune) bool { return strings.ContainsRune(". \n\"'=&", r) }) {
		if len(piece) > 20 && strings.Contains(output, piece) {
			t.Errorf("a piece of the token is printed:\n%s", output)
		}
	}
	for _, r := range output {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' {
			t.Errorf("a terminal would obey %q in\n%q", r, output)
		}
	}
}

// A badToken is an invalid token and what verify says about it.
type badToken struct {
	name, token string
	args        []string
	check       string // in the JSON
	row         string // in the list of checks
	expected    string // these four are parts of the texts
	found       string
	reason      string
	advice      string
	signed      bool // the signature holds
}

func (i *foreignIssuer) refusals() []badToken {
	good := i.sign(i.claims())
	parts := strings.Split(good, ".")
	flipped := good[:len(good)-20] + strings.Map(func(r rune) rune {
		if r == 'A' {
			return 'B'
		}
		return 'A'
	}, good[len(good)-20:len(good)-10]) + good[len(good)-10:]
	now := time.Now().Unix()
	raw := base64.RawURLEncoding.EncodeToString
	return []badToken{
		{name: "refresh token", token: "kmr_" + strings.Repeat("a", 60), check: "form", row: "form", reason: ": it is a refresh token", advice: `"keymill session why -"`},
		{name: "secret", token: "kms_" + strings.Repeat("a", 43), check: "form", row: "form", found: "a client's secret", reason: ": it is a client's secret", advice: `it is exposed now: replace it with "keymill client rotate-secret `},
		{name: "JSON", token: `{"access_token":"` + good + `","token_type":"Bearer"}`, check: "form", row: "form", found: "a complete token response", advice: "give only the value of access_token"},
		{name: "JSON on lines", token: "{\n  \"access_token\": \"" + good + "\",\n  \"refresh_token\": \"kmr_" + strings.Repeat("a", 60) + "\"\n}\n", check: "form", row: "form", found: "a complete token response", advice: "give only the value of access_token"},
		{name: "JSON without", token: `{"error":"invalid_client"}`, check: "form", row: "form", found: "a JSON document", advice: "no access_token in this"},
		{name: "JSON member", token: `  "access_token": "` + good + `",`, check: "form", row: "form", found: "a part of a token response", advice: "give only the value of access_token"},
		{name: "parameter", token: "access_token=" + good, check: "form", row: "form", found: "a parameter", reason: ": it is a parameter with a token inside", advice: `give only what follows "access_token="`},
		{name: "form body", token: "token_type=Bearer&access_token=" + good + "&expires_in=900", check: "form", row: "form", found: "a parameter", advice: `up to the next "&"`},
		{name: "fragment", token: "https://app.example.com/cb#access_token=" + good + "&state=x", check: "form", row: "form", found: "an address with a token inside", advice: `give only what follows "access_token="`},
		{name: "query", token: "https://api.example.com/orders?access_token=" + good, check: "form", row: "form", found: "an address with a token inside", advice: `give only what follows "access_token="`},
		{name: "address", token: "https://api.example.com/orders", check: "form", row: "form", found: "an address", advice: "give the access token itself"},
		{name: "assignment", token: "export TOKEN=" + good, check: "form", row: "form", found: "an assignment", advice: `give only what follows "="`},
		{name: "UTF-16", token: "\xff\xfe" + inTwoBytes(good+"\r\n"), check: "form", row: "form", found: "UTF-16", reason: ": it is UTF-16 text", advice: "Out-File -Encoding ascii"},
		{name: "UTF-16, unmarked", token: inTwoBytes(good), check: "form", row: "form", found: "UTF-16", advice: "Out-File -Encoding ascii"},
		{name: "UTF-16, big end first", token: "\xfe\xff\x00" + inTwoBytes(good), check: "form", row: "form", found: "UTF-16", advice: "Out-File -Encoding ascii"},
		{name: "binary", token: "\x7fELF\x02\x01\x01\x00\xf3.\x00.\x00", check: "form", row: "form", found: "it is binary", reason: ": it is binary data, not text", advice: "is it the right file?"},
		{name: "broken line", token: good[:50] + "\n" + good[50:], check: "form", row: "form", found: "2 pieces", advice: "in one piece"},
		{name: "two lines", token: good + "\n" + good + "\n", check: "form", row: "form", found: "2 tokens, not one", reason: ": there are 2 tokens, not one", advice: "give one token"},
		{name: "alg twice", token: raw([]byte(`{"typ":"at+jwt","alg":"EdDSA","kid":"ed","alg":"none"}`)) + "." + parts[1] + "." + parts[2], check: "form", row: "form", found: `"alg" occurs twice`, advice: "two verifiers read two different values"},
		{name: "encrypted", token: good + "." + parts[1] + "." + parts[2], check: "form", row: "form", found: "encrypted", advice: "ask the issuer for a signed access token"},
		{name: "opaque", token: "8e0b3c1d-opaque", check: "form", row: "form", found: "3 parts, not 1", expected: "3 parts", advice: "it is not a JWT"},
		{name: "padded", token: parts[0] + "." + parts[1] + "==." + parts[2], check: "form", row: "form", found: "payload is not base64url", advice: "plain base64"},
		{name: "long", token: parts[0] + "." + strings.Repeat("a", 17<<10) + "." + parts[2], check: "form", row: "form", reason: "16384", advice: "not a log or a file"},
		{name: "no JSON", token: "bm8ganNvbiBoZXJlIGF0IGFsbA." + parts[1] + "." + parts[2], check: "form", row: "form", found: "header: not ", advice: "copy the complete token again"},
		{name: "crit", token: i.sign(i.claims(), "crit", []string{"exp"}), check: "header", row: "header", expected: "no crit", found: "crit", advice: "changes what the token means"},
		{name: "ID token", token: i.sign(i.claims("nonce", "n"), "typ", "JWT"), check: "type", row: "type", expected: "at+jwt", found: "JWT", advice: "looks like an ID token"},
		{name: "Django's own", token: i.sign(i.claims("token_type", "access"), "typ", "JWT"), check: "type", row: "type", advice: "djangorestframework-simplejwt"},
		{name: "typ JWT", token: i.sign(i.claims(), "typ", "JWT"), check: "type", row: "type", advice: "RFC 9068, section 2.1"},
		{name: "typ JWT, expected", token: good, args: []string{"--type", "JWT"}, check: "type", row: "type", expected: "JWT", found: "at+jwt", advice: "leave out --type JWT"},
		{name: "no typ, JWT expected", token: i.sign(i.claims(), "typ", nil), args: []string{"--type", "JWT"}, check: "type", row: "type", expected: "JWT", found: "none"},
		{name: "no typ", token: i.sign(i.claims(), "typ", nil), check: "type", row: "type", found: "none", advice: "RFC 9068"},
		{name: "DPoP", token: i.sign(i.claims(), "typ", "dpop+jwt"), check: "type", row: "type", found: "dpop+jwt", advice: "another purpose"},
		{name: "alg none", token: i.sign(i.claims(), "alg", "none"), check: "algorithm", row: "algorithm", expected: "RS256, EdDSA, ES256", found: "none", advice: "unsigned"},
		{name: "HMAC", token: i.sign(i.claims(), "alg", "HS256"), check: "algorithm", row: "algorithm", found: "HS256", advice: "shared secret"},
		{name: "ES384", token: i.sign(i.claims(), "alg", "ES384"), check: "algorithm", row: "algorithm", found: "ES384", advice: "from another issuer"},
		{name: "not allowed", token: good, args: []string{"--alg", "RS256"}, check: "algorithm", row: "algorithm", expected: "RS256", found: "EdDSA", advice: "--alg RS256 --alg EdDSA"},
		{name: "other key", token: i.sign(i.claims(), "alg", "RS256"), check: "algorithm", row: "algorithm", expected: "EdDSA, the algorithm of the key", found: "RS256", advice: `key "ed" is for EdDSA only: the token is forged`},
		{name: "no kid", token: i.sign(i.claims(), "kid", nil), check: "key", row: "key", expected: "a kid", found: "none", advice: "without kid"},
		{name: "unknown kid", token: i.sign(i.claims(), "kid", "gone"), check: "key", row: "key", expected: "one of the 2", found: "gone", reason: `kid "gone"`, advice: "12s of that in caches"},
		{name: "old kid", token: i.sign(i.claims("exp", now-3600), "kid", "gone"), check: "key", row: "key", advice: "it says that it expired 1h0m"},
		{name: "weak key", token: i.sign(i.claims(), "kid", "weak"), check: "key", row: "key", advice: "it is not trusted: key 0 (kid \"weak\"): "},
		{name: "foreign", token: i.sign(i.claims("iss", "https://other.example"), "kid", "gone"), check: "key", row: "key", advice: "--issuer https://other.example"},
		{name: "tampered", token: flipped, check: "signature", row: "signature", expected: "by that key", found: "not by that key", advice: "copy the complete token again; if it was complete"},
		{name: "issuer", token: i.sign(i.claims("iss", "https://other.example")), check: "issuer", row: "issuer", expected: i.url, found: "https://other.example", advice: "from another issuer than the one", signed: true},
		{name: "slash", token: i.sign(i.claims("iss", i.url+"/")), check: "issuer", row: "issuer", found: i.url + "/", advice: "only a slash", signed: true},
		{name: "audience", token: i.sign(i.claims("aud", []string{"shop", "returns"})), check: "audience", row: "audience", expected: "orders", found: "shop returns", advice: "--audience shop", signed: true},
		{name: "no audience", token: i.sign(i.claims("aud", nil)), check: "audience", row: "audience", found: "none", advice: "for no audience", signed: true},
		{name: "no sub", token: i.sign(i.claims("sub", nil)), check: "claims", row: "claims", found: "sub is missing", advice: "section 2.2", signed: true},
		{name: "odd exp", token: i.sign(i.claims("exp", "soon")), check: "claims", row: "claims", found: "exp is not a time", advice: "section 2.2", signed: true},
		{name: "expired", token: i.sign(i.claims("exp", now-3600, "iat", now-4500)), check: "expired", row: "lifetime", expected: "before exp", found: "1h0m", reason: "exp was", advice: "it expired 1h0m", signed: true},
		{name: "future", token: i.sign(i.claims("nbf", now+600)), check: "not_yet", row: "lifetime", expected: "from nbf", found: "too early", advice: "so the clocks differ", signed: true},
		{name: "iat ahead", token: i.sign(i.claims("iat", now+600)), check: "not_yet", row: "lifetime", expected: "from iat", found: "too early", advice: "and so does the issuer's", signed: true},
		{name: "scope", token: good, args: []string{"--scope", "read", "--scope", "admin"}, check: "scope", row: "scope", expected: "read admin", found: "read write", advice: "request one with the missing scope", signed: true},
	}
}

// inTwoBytes returns ASCII text as UTF-16, little endian, without a byte order mark.
func inTwoBytes(ascii string) string {
	var b strings.Builder
	for _, c := range []byte(ascii) {
		b.Write([]byte{c, 0})
	}
	return b.String()
}

// TestVerifyExplainsEveryFailure checks the name of the check, what it expected and found, and the
// advice. The token is never printed.
func TestVerifyExplainsEveryFailure(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	for _, r := range i.refusals() {
		t.Run(r.name, func(t *testing.T) {
			args := append([]string{"--issuer", i.url, "--audience", "orders"}, r.args...)
			out, errs, code := verifyStdin(t, r.token, args...)
			if code != 1 || !strings.HasPrefix(errs, "keymill: the token is refused: ") || strings.Count(errs, "\n") != 2 {
				t.Errorf("code %d, %s", code, errs)
			}
			reason, advice, _ := strings.Cut(errs, "\n  hint: ")
			if !strings.Contains(reason, r.reason) || !strings.Contains(advice, r.advice) {
				t.Errorf("not %q and %q in\n%s", r.reason, r.advice, errs)
			}
			r.inList(t, out)
			if r.check == "form" {
				return
			}
			if marked := strings.Contains(out, "UNVERIFIED"); marked == r.signed || strings.Contains(out, "is valid. Its claims") {
				t.Errorf("marked as unverified: %v in\n%s", marked, out)
			}
		})
		t.Run(r.name+" JSON", func(t *testing.T) { r.inJSON(t, i.url) })
	}
}

// inList checks that the checks before the failed one passed, and that none after it was reached.
func (r badToken) inList(t *testing.T, out string) {
	t.Helper()
	list, _, _ := strings.Cut(out, "\n\n")
	lines := strings.Split(strings.TrimSpace(list), "\n")
	seen, want, other := 0, "ok", map[string]string{}
	switch r.name { // two rows stand for two steps each
	case "odd exp":
		other = map[string]string{"issuer": "not reached", "audience": "not reached"}
	case "other key":
		other = map[string]string{"type": "ok", "key": "ok"}
	}
	for _, line := range lines[1:] {
		name := strings.Fields(line)[0]
		if name == r.row {
			seen, want = seen+1, "not reached"
			if !strings.Contains(line, " FAILED ") || !strings.Contains(line, r.expected) || !strings.Contains(line, r.found) {
				t.Errorf("not FAILED, %q and %q in\n%s", r.expected, r.found, line)
			}
			continue
		}
		if want := cmp.Or(other[name], want); !strings.Contains(line, "  "+want) {
			t.Errorf("not %s: %s", want, line)
		}
	}
	if seen != 1 {
		t.Errorf("%s is not in\n%s", r.row, out)
	}
}

// keyless reports whether a verifier refuses without looking for a key.
func (r badToken) keyless() bool {
	return slices.Contains([]string{"form", "header", "type"}, r.row) || r.row == "algorithm" && r.name != "other key" || r.name == "no kid"
}

func (r badToken) inJSON(t *testing.T, issuer string) {
	t.Helper()
	out, errs, code := verifyStdin(t, r.token, append([]string{"--issuer", issuer, "--audience", "orders", "--json"}, r.args...)...)
	var v diagnose.TokenReport
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 1 || errs != "" {
		t.Fatalf("code %d, %v, %s%s", code, err, out, errs)
	}
	if v.Valid || v.Check != r.check || !strings.Contains(v.Reason, r.reason) || !strings.Contains(v.Advice, r.advice) ||
		!strings.Contains(v.Expected, r.expected) || !strings.Contains(v.Found, r.found) || v.Expected == "" || v.Found == "" {
		t.Errorf("%+v", v)
	}
	if believed := v.Claims != nil; believed != (r.check == "scope") || believed == (v.Unverified != nil) {
		t.Errorf("claims of a refused token: %+v", v)
	}
	if r.keyless() {
		if v.KeySet != nil {
			t.Errorf("no key was looked for, but there is a set: %s", out)
		}
	} else if v.KeySet == nil || len(v.KeySet.Keys) != 2 || v.KeySet.Keys[0] != (diagnose.KeyReport{KID: "ed", Alg: "EdDSA"}) || len(v.KeySet.Skipped) != 1 {
		t.Errorf("key set: %+v", v.KeySet)
	}
}

// TestVerifyShowsEveryCheckOfAValidToken, its claims, and the set with its age.
func TestVerifyShowsEveryCheckOfAValidToken(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	good := i.sign(i.claims("role", "admin"), "alg", "RS256", "kid", "rsa")
	args := []string{"--issuer", i.url, "--audience", "orders", "--scope", "read"}
	out, errs, code := verifyStdin(t, good, args...)
	if code != 0 || errs != "" || strings.Count(out, "  ok  ") != 11 || strings.Contains(out, "UNVERIFIED") {
		t.Errorf("code %d\n%s%s", code, out, errs)
	}
	age := regexp.MustCompile(`age: +(\d+)s, fetched 20`).FindStringSubmatch(out)
	if age == nil {
		t.Fatalf("no age in\n%s", out)
	}
	old, _ := strconv.Atoi(age[1]) // 12 s and what passed since the set was fetched
	for _, want := range []string{"RS256", "subject:      billing", `role:  "admin"`, i.url + "/keys", "\nThe token is valid. Its claims:\n",
		"may hold it until 20", fmt.Sprintf("(%s more)", 5*time.Minute-time.Duration(old)*time.Second), "held it for 12s", "ed EdDSA\n", "rsa RS256, named by the token", `"weak"`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	var v diagnose.TokenReport
	out, _, code = verifyStdin(t, good, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || !v.Valid || v.KID != "rsa" || v.Alg != "RS256" || v.Unverified != nil ||
		v.KeySet.URL != i.url+"/keys" || v.KeySet.AgeSeconds < 12 || old < 12 || v.KeySet.Fetched == nil || v.KeySet.FreshUntil == nil || v.Check+v.Expected+v.Found+v.Advice != "" {
		t.Errorf("code %d, %v, %s", code, err, out)
	}
}

// TestVerifyTakesAKeySetWithoutDiscovery and still checks the issuer.
func TestVerifyTakesAKeySetWithoutDiscovery(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	token := i.sign(i.claims("iss", "https://id.example.com/tenant"))
	args := []string{"--jwks", i.url + "/keys", "--audience", "orders", "--issuer"}
	if out, errs, code := verifyStdin(t, token, append(args, "https://id.example.com/tenant")...); code != 0 {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	if _, errs, code := verifyStdin(t, token, append(args, "https://id.example.com")...); code != 1 || !strings.Contains(errs, "wrong issuer") {
		t.Errorf("code %d, %s", code, errs)
	}
}

// TestVerifyAllowsAClockDifferenceOnlyWithLeeway.
func TestVerifyAllowsAClockDifferenceOnlyWithLeeway(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	token := i.sign(i.claims("exp", time.Now().Unix()-5))
	args := []string{"--issuer", i.url, "--audience", "orders"}
	if _, _, code := verifyStdin(t, token, args...); code != 1 {
		t.Errorf("code %d", code)
	}
	out, errs, code := verifyStdin(t, token, append(args, "--leeway", "30s")...)
	if past := regexp.MustCompile(`\d+s past exp, within the leeway`); code != 0 || !strings.Contains(out, "(leeway 30s)") || len(past.FindAllString(out, -1)) != 2 {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	if regexp.MustCompile(`-\d+s`).MatchString(out) {
		t.Errorf("negative time is left in\n%s", out)
	}
}

// TestVerifyComparesTheClocks and adds the time that a cache has kept the answer.
func TestVerifyComparesTheClocks(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	for ahead, want := range map[int64]string{
		0:    `, and so does the issuer's\n$`,
		600:  `, the issuer's is (9m5\ds|10m\ds) ahead\n$`,
		-600: `, the issuer's is (9m5\ds|10m\ds) behind\n$`,
	} {
		i.ahead.Store(ahead)
		token := i.sign(i.claims("iat", time.Now().Unix()+900, "exp", time.Now().Unix()+1800))
		if _, errs, _ := verifyStdin(t, token, "--issuer", i.url, "--audience", "orders"); !regexp.MustCompile(want).MatchString(errs) {
			t.Errorf("%d s ahead: %s", ahead, errs)
		}
	}
}

// TestVerifyIgnoresWhatIsPastedAlong and says so.
func TestVerifyIgnoresWhatIsPastedAlong(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	good := i.sign(i.claims())
	args := []string{"--issuer", i.url, "--audience", "orders"}
	for _, typed := range []string{"Authorization: Bearer " + good + "\r\n", "bearer " + good, `"` + good + `",`, "'Bearer " + good + "'", "\ufeff" + good + "\r\n", "  " + good + "\n\n"} {
		out, errs, code := verifyStdin(t, typed, args...)
		if code != 0 || strings.Contains(out, "Removed from around the token: ") != (strings.Trim(typed, " \n") != good) {
			t.Errorf("code %d, %s%s", code, out, errs)
		}
	}
	if out, _, _ := verifyStdin(t, "\ufeff"+good, args...); !strings.Contains(out, "Removed from around the token: a byte order mark.") {
		t.Errorf("the byte order mark is not mentioned in %s", out)
	}
	if out, _, code := verifyStdin(t, `"8e0b3c1d-opaque"`, args...); code != 1 || !strings.Contains(out, "Removed from around the token: ") {
		t.Errorf("code %d, %s", code, out)
	}
	line := []string{"verify", "Authorization:", "Bearer", good}
	if out, errs, code := typed(append(line, args...)...); code != 0 {
		t.Errorf("a header line that the shell has split: code %d, %s%s", code, out, errs)
	}
	out, errs, code := typed(append([]string{"verify", "token", good}, args...)...)
	kept(t, good, out+errs)
	if code != 2 {
		t.Errorf("two tokens: code %d, %s", code, errs)
	}
}

// TestVerifyWithoutATokenIsAUsageError: an empty variable is not a refused token.
func TestVerifyWithoutATokenIsAUsageError(t *testing.T) {
	t.Parallel()
	args := []string{"--issuer", "https://id.example.com", "--audience", "orders"}
	for _, tt := range []struct{ arg, stdin, advice string }{
		{"", "", "the variable that it comes from is probably empty"},
		{"Bearer ", "", "the variable that it comes from is probably empty"},
		{`""`, "", "the variable that it comes from is probably empty"},
		{"-", "", "did the command before it fail"},
		{"-", "\ufeff\r\n", "did the command before it fail"},
	} {
		for _, more := range [][]string{nil, {"--json"}} {
			var out, errs bytes.Buffer
			line := slices.Concat([]string{"verify", tt.arg}, args, more)
			code := run(context.Background(), line, strings.NewReader(tt.stdin), &out, &errs)
			if code != 2 || out.Len() > 0 || !strings.HasPrefix(errs.String(), "keymill: TOKEN is empty") || !strings.Contains(errs.String(), tt.advice) {
				t.Errorf("%q: code %d, %s%s", tt.arg, code, &out, &errs)
			}
		}
	}
	if out, _, _ := typed("verify", "--help"); !strings.Contains(out, "With code 2 nothing was checked: stdout is empty, also with --json") {
		t.Errorf("the help does not say so:\n%s", out)
	}
}

// TestVerifyEscapesWhatATerminalWouldObey in every place that shows a part of a token, and bounds
// the length of each.
func TestVerifyEscapesWhatATerminalWouldObey(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	const evil = "\x1b[2J\x1b]0;owned\x07\u009b31m\u202e\r\nkeymill: good\x7f"
	long := strings.Repeat("long ", 2000)
	args := []string{"--issuer", i.url, "--audience", "orders"}
	for name, token := range map[string]string{
		"typ":       i.sign(i.claims(), "typ", evil),
		"alg":       i.sign(i.claims(), "alg", evil),
		"kid":       i.sign(i.claims("sub", evil, "scope", evil), "kid", evil),
		"member":    i.sign(i.claims("aud", map[string]any{evil: evil}), "kid", "gone"),
		"iss":       i.sign(i.claims("iss", evil)),
		"aud":       i.sign(i.claims("aud", []string{evil, evil})),
		"good":      i.sign(i.claims("sub", evil, "role", evil)),
		"form":      evil + "." + evil,
		"long typ":  i.sign(i.claims(), "typ", long),
		"long kid":  i.sign(i.claims("iss", long), "kid", long[:5000]),
		"long iss":  i.sign(i.claims("iss", long)),
		"long aud":  i.sign(i.claims("aud", strings.Fields(long[:8000]))),
		"one long":  i.sign(i.claims("aud", long)),
		"long name": i.sign(i.claims(long, long[:10]), "kid", "gone"),
	} {
		for _, more := range [][]string{nil, {"--json"}} {
			out, errs, code := verifyStdin(t, token, append(args, more...)...)
			if len(out)+len(errs) > 6000 || code > 1 {
				t.Errorf("%s: code %d, %d bytes", name, code, len(out)+len(errs))
			}
			if more != nil && !json.Valid([]byte(out)) {
				t.Errorf("%s: not JSON: %s", name, out)
			}
		}
		_, errs, _ := typed(append([]string{"verify", token}, "--issuer", i.url)...)
		if kept(t, token, errs); len(errs) > 500 {
			t.Errorf("%s: %d bytes of %s", name, len(errs), errs)
		}
	}
}

// TestVerifyDoesNotTakeTheAudienceFromTheToken but suggests it.
func TestVerifyDoesNotTakeTheAudienceFromTheToken(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	good := i.sign(i.claims("aud", "my orders"))
	for _, tt := range []struct{ have, errs, hint string }{
		{"--issuer " + i.url, "--audience is missing", `"my orders" (unverified): --audience 'my orders'`},
		{"--audience orders", "--issuer is missing", "(unverified): --issuer " + i.url},
		{"--audience orders --leeway 2m --issuer " + i.url, "leeway", ""},
		{"--audience orders --leeway -1s --issuer " + i.url, "leeway", ""},
		{"--audience orders --alg ES384 --issuer " + i.url, "ES384", ""},
		{"--audience orders --type= --issuer " + i.url, "--type is empty", "--type at+jwt, or --type JWT"},
		{"--audience orders --type at+JWT --issuer " + i.url, `--type "at+JWT" is neither at+jwt nor JWT`, ""},
		{"--audience orders --type " + strings.Repeat("J", 10_000) + " --issuer " + i.url, `JJJ" is neither at+jwt nor JWT`, ""},
		{"--audience orders --issuer http://id.example.com", "only https", "https://host"},
		{"--audience orders --issuer https://id.example.com/a/../b", "https://id.example.com/a/../b", "exactly as in the claim iss"},
		{"--audience orders --jwks ftp://id.example.com/keys --issuer https://id.example.com", "only https", "--jwks as a complete URL: https://host/path"},
		{"--audience orders --scope= --issuer " + i.url, "is not one scope", "--scope read --scope write"},
	} {
		out, errs, code := verifyStdin(t, good, append(strings.Fields(tt.have), "--data", t.TempDir())...)
		if code != 2 || out != "" || !strings.Contains(errs, tt.errs) || !strings.Contains(errs, tt.hint) {
			t.Errorf("%s: code %d, %s%s", tt.have, code, out, errs)
		}
	}
}

// TestVerifySuggestsOnlyCommandsThatExist reads every command line between quotes in the
// messages of verify, and checks its commands, flags and number of arguments.
func TestVerifySuggestsOnlyCommandsThatExist(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("internal/diagnose/verify*.go")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	suggested := regexp.MustCompile(`\\"(keymill [^"\\]+)\\"`)
	found := 0
	for _, file := range append(files, "verify.go") {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range suggested.FindAllStringSubmatch(string(source), -1) {
			found++
			if err := understands(strings.ReplaceAll(match[1], "%s", "x")); err != nil {
				t.Errorf("%s suggests %q: %v", file, match[1], err)
			}
		}
	}
	if found < 6 {
		t.Errorf("only %d commands were found", found)
	}
	for _, line := range []string{"keymill audience set --alg EdDSA", "keymill client show", "keymill client inspect ID", "keymill audience set NAME --alg EdDSA"} {
		if understands(line) == nil {
			t.Errorf("the test reads %q as a command", line)
		}
	}
}

// understands parses a command line as cobra does, and does not run it.
func understands(line string) error {
	cmd, rest, err := newRoot().Find(strings.Fields(line)[1:])
	if err != nil {
		return err
	}
	if cmd.HasSubCommands() {
		return fmt.Errorf("%q needs a command", cmd.CommandPath())
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if help, _ := cmd.Flags().GetBool("help"); help {
		return nil
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
