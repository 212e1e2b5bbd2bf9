package simplejwt

import (
	"slices"
	"strings"
	"testing"
)

// A row is one request, made for a side with the tokens of that side.
type row struct {
	name string
	call func(t *testing.T, s *side) call
}

// A section has the rows of one path. The table of differences names them "section: row".
type section struct {
	name string
	rows []row
}

// expired is the section with refresh tokens of ended sessions. How long a session lives is a
// setting of the client in our server, and is not in the token.
const expired = "expired"

func sections() []section {
	return []section{
		{"obtain", slices.Concat(obtainRows(), bodyRows(obtainPath, "username"), envelopeRows())},
		{"refresh", slices.Concat(refreshRows(), tokenRows(refreshPath, "refresh"), bodyRows(refreshPath, "refresh"))},
		{"verify", slices.Concat(verifyRows(), tokenRows(verifyPath, "token"), bodyRows(verifyPath, "token"))},
		{"blacklist", slices.Concat(blacklistRows(), tokenRows(blacklistPath, "refresh"), bodyRows(blacklistPath, "refresh"))},
		{expired, expiredRows()},
	}
}

// theSameAnswers sends every row to both sides.
func (p *pair) theSameAnswers(t *testing.T) {
	for _, s := range sections() {
		t.Run(s.name, func(t *testing.T) {
			if s.name == expired {
				p.server.Run(t, "client", "set", "web", "--idle", "1s")
				defer p.server.Run(t, "client", "set", "web", "--idle", "24h")
			}
			for _, r := range s.rows {
				t.Run(r.name, func(t *testing.T) {
					if s.name != expired {
						t.Parallel() // a refused login takes a while
					}
					p.compare(t, s.name+": "+r.name, r)
				})
			}
		})
	}
}

// compare wants the same line from both sides, or exactly the two lines of the table.
func (p *pair) compare(t *testing.T, name string, r row) {
	t.Helper()
	theirs := p.theirs.do(t, r.call(t, p.theirs)).line()
	ours := p.ours.do(t, r.call(t, p.ours)).line()
	d, known := p.differences[name]
	switch {
	case !known && theirs != ours:
		t.Errorf("a difference that is not in the table\n\tsimplejwt %s\n\tours      %s", theirs, ours)
	case known && theirs == ours:
		t.Errorf("both answer %s: remove this row from the table of differences", ours)
	case known && !(d.theirs.matches(theirs) && d.ours.matches(ours)):
		t.Errorf("another difference than in the table\n\tsimplejwt %s\n\tin table  %s\n\tours      %s\n\tin table  %s",
			theirs, d.theirs, ours, d.ours)
	}
}

// matches compares a line of the table with an answer. If l ends with …, the rest is not compared.
func (l line) matches(s string) bool {
	if start, cut := strings.CutSuffix(string(l), "…"); cut {
		return strings.HasPrefix(s, start)
	}
	return s == string(l)
}

// TestTheTableOfDifferencesFitsTheMatrix: every difference belongs to a row and has a reason, and
// no two rows have one name.
func TestTheTableOfDifferencesFitsTheMatrix(t *testing.T) {
	rows := map[string]bool{}
	for _, s := range sections() {
		for _, r := range s.rows {
			name := s.name + ": " + r.name
			if rows[name] {
				t.Errorf("two rows are called %q", name)
			}
			rows[name] = true
		}
	}
	for name, d := range differences() {
		if !rows[name] {
			t.Errorf("no row is called %q", name)
		}
		if d.theirs == d.ours || d.why == "" {
			t.Errorf("%q is no difference or has no reason", name)
		}
	}
	t.Logf("counted: %d requests to simplejwt %s and to the endpoint, %d of them answered differently on purpose",
		len(rows), version(t), len(differences()))
}

// fixed is a row whose request is the same for both sides.
func fixed(name string, c call) row {
	return row{name, func(*testing.T, *side) call { return c }}
}

// bodyRows vary the body, the method and the path, before the value of the field matters.
func bodyRows(path, field string) []row {
	body := func(name, s string) row { return fixed(name, postBytes(path, jsonType, s)) }
	return []row{
		body("an array", `[{"`+field+`":"x"}]`),
		body("an empty array", `[]`),
		body("null", `null`),
		body("true", `true`),
		body("a string", `"`+field+`"`),
		body("a number", `7`),
		body("a fraction", `7.5`),
		body("an empty body", ``),
		body("a blank", ` `),
		body("cut off", `{"`+field+`":`),
		body("nonsense", `nonsense`),
		body("single quotes", `{'`+field+`':'x'}`),
		body("a comma too many", `{"`+field+`":"x",}`),
		body("two values", `{"`+field+`":"x"} {}`),
		body("NaN", `{"`+field+`":NaN}`),
		body("a byte order mark", "\xef\xbb\xbf{}"),
		body("broken UTF-8", "{\""+field+"\":\"\xff\"}"),
		body("a raw line feed in a string", "{\""+field+"\":\"a\nb\"}"),
		body("5,000 levels", `{"`+field+`":`+strings.Repeat("[", 5_000)+strings.Repeat("]", 5_000)+`}`),
		body("an empty object", `{}`),
		body("an unknown member only", `{"nonsense":"x"}`),
		body("the member in capitals", `{"`+strings.ToUpper(field)+`":"x"}`),
		fixed("plain text", postBytes(path, "text/plain", `{"`+field+`":"x"}`)),
		fixed("GET", call{method: "GET", path: path}),
		fixed("HEAD", call{method: "HEAD", path: path}),
		fixed("PUT", call{method: "PUT", path: path}),
		fixed("PATCH", call{method: "PATCH", path: path}),
		fixed("DELETE", call{method: "DELETE", path: path}),
		fixed("OPTIONS", call{method: "OPTIONS", path: path}),
		fixed("a preflight", call{method: "OPTIONS", path: path}.with("Origin", origin).
			with("Access-Control-Request-Method", "POST").with("Access-Control-Request-Headers", "content-type")),
		fixed("a preflight of a page of another origin", call{method: "OPTIONS", path: path}.
			with("Origin", "https://evil.example").with("Access-Control-Request-Method", "POST")),
		fixed("an unknown method", call{method: "BREW", path: path}),
		fixed("no slash at the end", post(strings.TrimSuffix(path, "/"), fields{field: "x"})),
		fixed("a slash too many", post(path+"/", fields{field: "x"})),
		fixed("the path in capitals", post(strings.ToUpper(path), fields{field: "x"})),
	}
}
