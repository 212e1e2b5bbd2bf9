package families

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// A model holds the rules. A family is the refresh tokens of one login, and its newest generation is
// the current one. The first rule that fits a request decides its answer:
//
//  1. the client is unknown or disabled                  invalid_client (unauthorized_client at a login endpoint)
//  2. the token belongs to another client                invalid_grant
//  3. the family has ended, or its lifetime is over      invalid_grant
//  4. a generation above the current one                 invalid_grant, the family ends (rolled back)
//  5. a generation below the previous one                invalid_grant, the family ends (replay)
//  6. the previous one, after the grace                  invalid_grant, the family ends (late retry)
//  7. login and client share no audience                 invalid_grant
//  8. another audience, or none if they share several    invalid_target
//  9. the client lost a scope of the login               invalid_grant
//  10. a scope that the login or the audience lacks      invalid_scope
//  11. the previous one, within the grace                the current token again
//  12. the current one                                   a new generation
//
// Only rules 4, 5, 6 and 12 change the family. Its lifetime is over at the idle time after the last
// rotation, and at the absolute time after the login. The clock of the grace stops while no server
// runs. A family ends permanently when it is revoked, when its user is logged out, disabled or
// removed or gets another password, and when its client is disabled or removed. It stays ended if
// that user or client is enabled or added again.
//
// In two cases the rules allow two answers. A crash may set the clock of the grace back by a
// heartbeat, so a grace may last that much longer. And the clean-up may have removed a family whose
// lifetime was over before its client got a longer lifetime.
type model struct {
	users    map[string]person  // registered ones, by name
	clients  map[string]program // registered ones, by id
	families map[string]lineage // all of them, by id
}

type person struct{ disabled bool }

type program struct {
	disabled              bool
	grace, idle, absolute time.Duration
	audiences, scopes     []string // sorted, as in all of this package
}

type lineage struct {
	user, client      string
	audiences, scopes []string // at the login
	generation        uint32
	born, used        time.Time     // used: time of the last rotation
	made              time.Duration // the same, on the clock of the grace
	lost              time.Duration // by how much crashes may have set that clock back since
	ended, doubtful   bool          // doubtful: the clean-up may have removed it
}

// scopesOf maps an audience to its scopes.
var scopesOf = map[string][]string{"mail": {"read", "send"}, "orders": {"read", "write"}}

type presented struct {
	family          string
	generation      uint32
	client          string
	loginEndpoint   bool // at a login endpoint, where the configuration names the client
	audience, scope string
}

// An outcome is an answer that the rules allow, and the family after it.
type outcome struct {
	rule       int
	code       string // of the refusal; "" for tokens
	generation uint32 // of the refresh token
	scope      string // of the access token
	after      lineage
}

// decide applies the rules above and returns the allowed outcomes.
func (m model) decide(p presented, now time.Time, served time.Duration) []outcome {
	f, known := m.families[p.family]
	c, registered := m.clients[p.client]
	refuse := func(rule int, code string, end bool) []outcome {
		after := f
		after.ended = f.ended || end
		return []outcome{{rule: rule, code: code, after: after}}
	}
	previous, age := p.generation+1 == f.generation, served-f.made
	switch {
	case (!registered || c.disabled) && p.loginEndpoint:
		return refuse(1, "unauthorized_client", false)
	case !registered || c.disabled:
		return refuse(1, "invalid_client", false)
	case !known || p.client != f.client:
		return refuse(2, "invalid_grant", false)
	case f.ended || f.over(c, now):
		return refuse(3, "invalid_grant", false)
	case p.generation > f.generation:
		return f.perhapsGone(refuse(4, "invalid_grant", true))
	case p.generation != f.generation && !previous:
		return f.perhapsGone(refuse(5, "invalid_grant", true))
	case previous && age-f.lost >= c.grace:
		return f.perhapsGone(refuse(6, "invalid_grant", true))
	case previous && age >= c.grace:
		return f.perhapsGone(append(refuse(6, "invalid_grant", true), f.entitle(p, c, now, served)))
	}
	return f.perhapsGone([]outcome{f.entitle(p, c, now, served)})
}

// over reports whether the lifetime of the family is over.
func (f lineage) over(c program, now time.Time) bool {
	return !now.Before(f.used.Add(c.idle)) || !now.Before(f.born.Add(c.absolute))
}

// entitle applies the rules from 7 on.
func (f lineage) entitle(p presented, c program, now time.Time, served time.Duration) outcome {
	audiences := common(f.audiences, c.audiences)
	audience := p.audience
	if audience == "" && len(audiences) == 1 {
		audience = audiences[0]
	}
	granted := common(f.scopes, scopesOf[audience])
	asked := strings.Fields(p.scope)
	switch {
	case len(audiences) == 0:
		return outcome{rule: 7, code: "invalid_grant", after: f}
	case !slices.Contains(audiences, audience):
		return outcome{rule: 8, code: "invalid_target", after: f}
	case len(common(f.scopes, c.scopes)) < len(f.scopes):
		return outcome{rule: 9, code: "invalid_grant", after: f}
	case len(common(asked, granted)) < len(asked):
		return outcome{rule: 10, code: "invalid_scope", after: f}
	}
	if len(asked) > 0 {
		granted = asked
	}
	out := outcome{rule: 11, generation: f.generation, scope: strings.Join(granted, " "), after: f}
	if p.generation == f.generation {
		out.rule, out.generation = 12, f.generation+1
		out.after.generation, out.after.used, out.after.made, out.after.lost = f.generation+1, now, served, 0
	}
	return out
}

// perhapsGone adds the outcome for a family that the clean-up may have removed. An answer with tokens,
// or another error than that outcome has, proves that the family still exists.
func (f lineage) perhapsGone(list []outcome) []outcome {
	if !f.doubtful {
		return list
	}
	gone := outcome{rule: 3, code: "invalid_grant", after: f}
	gone.after.ended = true
	for n, out := range list {
		if out.code == gone.code {
			return list // the answer is the same, so it proves nothing
		}
		list[n].after.doubtful = false
	}
	return append(list, gone)
}

// end permanently ends every family for which which returns true.
func (m model) end(which func(id string, f lineage) bool) {
	for id, f := range m.families {
		if which(id, f) {
			f.ended = true
			m.families[id] = f
		}
	}
}

// crash notes that the clock of the grace may have been set back by up to lost.
func (m model) crash(lost time.Duration) {
	for id, f := range m.families {
		f.lost += lost
		m.families[id] = f
	}
}

// change changes a client. The clean-up may already have removed families whose lifetime was over,
// although they would live with the new lifetimes.
func (m model) change(id string, now time.Time, change func(*program)) {
	c := m.clients[id]
	for name, f := range m.families {
		if f.client == id && f.over(c, now) {
			f.doubtful = true
			m.families[name] = f
		}
	}
	change(&c)
	m.clients[id] = c
}

func (m model) clone() model {
	return model{maps.Clone(m.users), maps.Clone(m.clients), maps.Clone(m.families)}
}

// common returns what two sorted lists share.
func common(a, b []string) []string {
	var out []string
	for _, s := range a {
		if slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}
