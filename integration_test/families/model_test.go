package families

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// The rules. A family is the refresh tokens of one login; its newest generation is the
// current one. Whoever presents a token is told, in this order:
//
//  1. who is no client of ours, or disabled             invalid_client (unauthorized_client at a door)
//  2. not the family's client                           invalid_grant
//  3. the family has ended, or its time is over         invalid_grant
//  4. a generation that has not been made yet           invalid_grant, the family ends (rolled back)
//  5. one older than the last before the current one    invalid_grant, the family ends (replay)
//  6. the last before it, the grace being over          invalid_grant, the family ends (late retry)
//  7. no audience left that login and client share      invalid_grant
//  8. another audience, or none where several are left  invalid_target
//  9. a scope of the login taken from the client        invalid_grant
//  10. a scope that login or audience do not have        invalid_scope
//  11. the last before it, within the grace              the current token, again
//  12. the current one                                   a new generation
//
// Only 4, 5, 6 and 12 change anything. The time of a family is over when nobody has rotated
// it for idle, or absolute after the login. The grace runs on a clock that stands still while
// no server runs. A family ends for good when it is revoked, and when its user or its client
// is logged out, disabled, removed, or given another password: being there again, enabled
// or under the same name, brings none back.
//
// Twice the rules leave a choice. A crash may set the clock of the grace back by a
// heartbeat, so a grace may last longer by that. And a family whose time was over may have
// been cleaned away before its client was given a longer one.
type model struct {
	users    map[string]person  // that are registered
	clients  map[string]program // that are registered
	families map[string]lineage // by id, all of them
}

type person struct{ disabled bool }

type program struct {
	disabled              bool
	grace, idle, absolute time.Duration
	audiences, scopes     []string // sorted, as everywhere here
}

type lineage struct {
	user, client      string
	audiences, scopes []string // at the login
	generation        uint32
	born, used        time.Time     // used: of the last rotation
	made              time.Duration // the same, on the clock of the grace
	lost              time.Duration // what crashes may have taken from that clock since
	ended, doubtful   bool          // doubtful: it may have been cleaned away
}

// scopesOf is what the audiences know.
var scopesOf = map[string][]string{"mail": {"read", "send"}, "orders": {"read", "write"}}

type presented struct {
	family          string
	generation      uint32
	client          string
	door            bool // the configuration vouches for the client
	audience, scope string
}

// An outcome is an answer that the rules allow, and what the family is after it.
type outcome struct {
	rule       int
	code       string // of the refusal; "" for tokens
	generation uint32 // of the refresh token
	scope      string // of the access token
	after      lineage
}

// decide is the table above.
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
	case (!registered || c.disabled) && p.door:
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

func (f lineage) over(c program, now time.Time) bool {
	return !now.Before(f.used.Add(c.idle)) || !now.Before(f.born.Add(c.absolute))
}

// entitle is the table from rule 7 on.
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

// perhapsGone adds what becomes of a family that may have been cleaned away. Tokens, or a
// refusal of another kind, prove that it is there.
func (f lineage) perhapsGone(list []outcome) []outcome {
	if !f.doubtful {
		return list
	}
	gone := outcome{rule: 3, code: "invalid_grant", after: f}
	gone.after.ended = true
	for n, out := range list {
		if out.code == gone.code {
			return list // the same answer, and as little known as before
		}
		list[n].after.doubtful = false
	}
	return append(list, gone)
}

// end ends for good every family that which picks.
func (m model) end(which func(id string, f lineage) bool) {
	for id, f := range m.families {
		if which(id, f) {
			f.ended = true
			m.families[id] = f
		}
	}
}

// crash: the clock of the grace may have lost up to lost.
func (m model) crash(lost time.Duration) {
	for id, f := range m.families {
		f.lost += lost
		m.families[id] = f
	}
}

// change gives a client new terms. Families whose time is over may be gone by now, although
// the new terms would let them live.
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
