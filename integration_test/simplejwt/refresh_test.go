package simplejwt

import (
	"net/url"
	"strings"
	"testing"
)

// issued returns a row with one token that the side has issued.
func issued(name, path, field string, token func(t *testing.T, s *side) string) row {
	return row{name, func(t *testing.T, s *side) call { return post(path, fields{field: token(t, s)}) }}
}

// access and unspent are for rows that do not use the tokens up.
func access(_ *testing.T, s *side) string  { return s.kept.Access }
func unspent(_ *testing.T, s *side) string { return s.kept.Refresh }

// current returns a refresh token that a row may use up.
func current(t *testing.T, s *side) string { return s.login(t, "alice").Refresh }

// spent returns a refresh token that has been exchanged.
func spent(t *testing.T, s *side) string {
	first := current(t, s)
	s.refresh(t, first)
	return first
}

// blacklisted returns a refresh token whose session has been ended.
func blacklisted(t *testing.T, s *side) string {
	token := current(t, s)
	s.do(t, post(blacklistPath, fields{"refresh": token}))
	return token
}

// replayed returns the successor of a token that was presented a second time.
func replayed(t *testing.T, s *side) string {
	first := current(t, s)
	second := s.refresh(t, first).Refresh
	s.do(t, post(refreshPath, fields{"refresh": first}))
	return second
}

// administered returns a token of a user whom an administrator changes after the login.
func administered(act, name string) func(t *testing.T, s *side) string {
	return func(t *testing.T, s *side) string {
		token := s.login(t, name).Refresh
		s.user(t, act, name)
		return token
	}
}

func refreshRows() []row {
	in := func(name string, token func(*testing.T, *side) string) row {
		return issued(name, refreshPath, "refresh", token)
	}
	return []row{
		in("the current token", current),
		in("the successor", func(t *testing.T, s *side) string { return s.refresh(t, current(t, s)).Refresh }),
		in("the tenth successor", func(t *testing.T, s *side) string {
			token := current(t, s)
			for range 10 {
				token = s.refresh(t, token).Refresh
			}
			return token
		}),
		in("a spent token", spent),
		in("a token spent long ago", func(t *testing.T, s *side) string {
			first := current(t, s)
			s.refresh(t, s.refresh(t, first).Refresh)
			return first
		}),
		in("the successor of a token that was presented twice", replayed),
		in("a blacklisted token", blacklisted),
		in("the successor of a blacklisted token's login", func(t *testing.T, s *side) string {
			first := current(t, s)
			second := s.refresh(t, first).Refresh
			s.do(t, post(blacklistPath, fields{"refresh": first}))
			return second
		}),
		in("an access token", access),
		in("an expired access token", func(t *testing.T, s *side) string { return s.old.Access }),
		in("the token of a user who was disabled", administered("disable", "frida")),
		in("the token of a user with a new password", administered("passwd", "ines")),
		in("the token of a user who was removed", administered("remove", "jonas")),
	}
}

func verifyRows() []row {
	in := func(name string, token func(*testing.T, *side) string) row {
		return issued(name, verifyPath, "token", token)
	}
	return []row{
		in("an access token", access),
		in("the current refresh token", unspent),
		in("the successor", func(t *testing.T, s *side) string { return s.refresh(t, current(t, s)).Refresh }),
		in("a spent refresh token", spent),
		in("a blacklisted refresh token", blacklisted),
		in("the access token of a blacklisted login", func(t *testing.T, s *side) string {
			got := s.login(t, "alice")
			s.do(t, post(blacklistPath, fields{"refresh": got.Refresh}))
			return got.Access
		}),
		in("the access token from before a refresh", func(t *testing.T, s *side) string {
			got := s.login(t, "alice")
			s.refresh(t, got.Refresh)
			return got.Access
		}),
		in("an expired access token", func(t *testing.T, s *side) string { return s.old.Access }),
		in("an access token with other claims", func(t *testing.T, s *side) string { return tamper(access(t, s), 1) }),
		in("an access token without its signature", func(t *testing.T, s *side) string {
			token := access(t, s)
			return token[:strings.LastIndexByte(token, '.')+1]
		}),
	}
}

func blacklistRows() []row {
	in := func(name string, token func(*testing.T, *side) string) row {
		return issued(name, blacklistPath, "refresh", token)
	}
	return []row{
		in("the current token", current),
		in("a token that is blacklisted already", blacklisted),
		in("a spent token", spent),
		in("an access token", access),
	}
}

// expiredRows need a client whose sessions end after a second.
func expiredRows() []row {
	old := func(_ *testing.T, s *side) string { return s.old.Refresh }
	return []row{
		issued("refreshed", refreshPath, "refresh", old),
		issued("verified", verifyPath, "token", old),
		issued("blacklisted", blacklistPath, "refresh", old),
	}
}

// tokenRows vary a field that holds a token.
func tokenRows(path, field string) []row {
	value := func(name string, v any) row { return fixed(name, post(path, fields{field: v})) }
	return []row{
		issued("blanks around the token", path, field, func(t *testing.T, s *side) string { return " " + current(t, s) + "\r\n" }),
		issued("a tampered refresh token", path, field, func(t *testing.T, s *side) string { return tamperEnd(unspent(t, s)) }),
		issued("a refresh token cut short", path, field, func(t *testing.T, s *side) string {
			token := unspent(t, s)
			return token[:len(token)-1]
		}),
		issued("an access token with another signature", path, field, func(t *testing.T, s *side) string { return tamper(access(t, s), 2) }),
		value("garbage", "garbage"),
		value("garbage in three parts", "a.b.c"),
		value("garbage that is not ASCII", "é"),
		value("10,000 characters of garbage", strings.Repeat("x", 10_000)),
		value("an unsigned token", "eyJhbGciOiJub25lIn0.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCIsInVzZXJfaWQiOjF9."),
		value("a null byte", "a\x00b"),
		value("an empty token", ""),
		value("blanks", " \t "),
		value("a missing value", nil),
		value("a number as a token", 7),
		value("true as a token", true),
		value("an object as a token", fields{}),
		row{"a list as a token", func(t *testing.T, s *side) call { return post(path, fields{field: []string{unspent(t, s)}}) }},
		row{"a bearer instead", func(t *testing.T, s *side) call {
			return post(path, fields{}).with("Authorization", "Bearer "+unspent(t, s))
		}},
		row{"beside a bearer of garbage", func(t *testing.T, s *side) call {
			return post(path, fields{field: current(t, s)}).with("Authorization", "Bearer garbage")
		}},
		row{"a token in a form", func(t *testing.T, s *side) call {
			return postBytes(path, "application/x-www-form-urlencoded", url.Values{field: {current(t, s)}}.Encode())
		}},
		row{"a token in the query", func(t *testing.T, s *side) call {
			return post(path+"?"+field+"="+unspent(t, s), fields{})
		}},
	}
}

// tamper changes one character in the middle of a part: 0 header, 1 claims, 2 signature.
func tamper(token string, part int) string {
	parts := strings.Split(token, ".")
	parts[part] = other(parts[part], len(parts[part])/2)
	return strings.Join(parts, ".")
}

// tamperEnd changes a character near the end of any token.
func tamperEnd(token string) string { return other(token, len(token)-5) }

func other(s string, at int) string {
	c := byte('A')
	if s[at] == c {
		c = 'B'
	}
	return s[:at] + string(c) + s[at+1:]
}
