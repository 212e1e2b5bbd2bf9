package families

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// TestFamiliesObeyTheModel (I8, I9, I10, I12; R37 to R41, R65): random lives of families in simulated
// time, with a real store. At every step the issuer must answer as the rules in model_test.go say,
// return the same token for a generation each time, and explain every token as it then treats it.
func TestFamiliesObeyTheModel(t *testing.T) {
	var sum tally
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			l := newLife(t, &sum)
			defer l.real.stop(true)
			t.Repeat(l.steps())
		})
	})
	if !t.Failed() {
		t.Logf("counted: %s; 0 differences", &sum)
	}
	for rule := 1; rule <= 12; rule++ {
		if sum.rules[rule] == 0 {
			t.Errorf("rule %d was never used", rule)
		}
	}
	if sum.crashes == 0 || sum.restores == 0 {
		t.Error("no crash or no restore occurred")
	}
}

type tally struct {
	rules                                    [13]int // rule → presentations that it decided
	steps, logins, restarts, crashes, ended  int
	restores, longer /* graces */, explained int
}

func (c *tally) String() string {
	all := 0
	for _, n := range c.rules {
		all += n
	}
	return fmt.Sprintf("%d steps, %d families, %d presentations (%d rotations, %d in a grace, %d late retries, %d replays, %d rolled back), "+
		"%d explanations, %d restarts, %d crashes that made %d graces longer, %d restored copies", c.steps, c.logins, all,
		c.rules[12], c.rules[11], c.rules[6], c.rules[5], c.rules[4], c.explained, c.restarts, c.crashes, c.longer, c.restores)
}

// A life takes every step with the model and with the real issuer.
type life struct {
	real   *real
	model  model
	tally  *tally
	served time.Duration // time of the grace's clock at booted
	booted time.Time

	issued []token             // all refresh tokens, in the order of their first answer
	known  map[string][]string // family → generation → token
	access map[string]access   // family → its last access token
	asker  issuer.Credentials  // of a client that may introspect
	backup *backup
}

type token struct {
	family     string
	generation uint32
	text       refusal.Secret
}

type access struct {
	text    refusal.Secret
	expires time.Time
}

// A backup is an old copy of the store, with the model of that time.
type backup struct {
	store  []byte
	model  model
	served time.Duration
}

var (
	userNames = []string{"alice", "bob"} // also their ids
	clientIDs = []string{"app", "web"}
	fresh     = program{
		grace: 30 * time.Second, idle: 2 * time.Hour, absolute: 12 * time.Hour,
		audiences: []string{"mail", "orders"}, scopes: []string{"read", "send", "write"},
	}
)

func ctx() context.Context { return context.Background() }

const (
	by        = "uid:0"
	accessTTL = 10 * time.Minute
)

func newLife(t *rapid.T, sum *tally) *life {
	l := &life{
		real: newReal(t), tally: sum, booted: time.Now(),
		model: model{users: map[string]person{}, clients: map[string]program{}, families: map[string]lineage{}},
		known: map[string][]string{}, access: map[string]access{},
	}
	for _, name := range slices.Sorted(maps.Keys(scopesOf)) {
		_, err := l.real.AddAudience(ctx(), api.Audience{
			Name: name, Alg: "EdDSA", TTL: accessTTL.String(), Scopes: scopesOf[name],
		}, by)
		l.real.must(err)
	}
	for _, id := range clientIDs {
		l.addClient(id)
	}
	for _, name := range userNames {
		l.addUser(name)
	}
	asker, err := l.real.AddClient(ctx(), api.NewClient{ID: "api", Introspect: slices.Sorted(maps.Keys(scopesOf))}, by)
	l.real.must(err)
	l.asker = issuer.Credentials{ClientID: asker.ID, Secret: asker.Secret, Method: "client_secret_basic"}
	return l
}

// steps returns all steps. Rapid prefers the first names, so the names begin with a number. A step that
// should happen often is in the map several times.
func (l *life) steps() map[string]func(*rapid.T) {
	steps := map[string]func(*rapid.T){"": func(*rapid.T) { l.tally.steps++ }}
	for _, s := range []struct {
		often int
		name  string
		do    func(*rapid.T)
	}{
		{20, "present", l.present}, {5, "wait", l.wait}, {4, "login", l.login}, {4, "age", l.age},
		{2, "introspect", l.introspect}, {1, "allowances", l.allowances}, {1, "lifetimes", l.lifetimes}, {1, "copy", l.copy}, {1, "restore", l.restore},
		{1, "crash", l.crash}, {1, "restart", l.restart}, {1, "revoke", l.revoke}, {1, "user", l.user},
		{1, "client", l.client}, {1, "end", l.end}, {1, "narrow", l.narrow},
	} {
		for range s.often {
			steps[fmt.Sprintf("%02d %s", len(steps), s.name)] = s.do
		}
	}
	return steps
}

func (l *life) uptime() time.Duration { return l.served + time.Since(l.booted) }

func (l *life) login(t *rapid.T) {
	user, client := pick(t, "user", userNames), pick(t, "client", clientIDs)
	req := issuer.SessionRequest{
		User: user, Client: client, Endpoint: issuer.LoginBrowser, Audience: pick(t, "audience", fresh.audiences),
		Scope: pick(t, "scope", []string{"", "read", "read write"}), From: netip.MustParseAddr("192.0.2.1"),
	}
	person, registered := l.model.users[user]
	c, allowed := l.model.clients[client]
	grant, err := l.real.StartSession(ctx(), req)
	code := l.real.codeOf(err)
	want := registered && !person.disabled && allowed && !c.disabled && slices.Contains(c.audiences, req.Audience)
	scopes := c.scopes
	if req.Scope != "" {
		scopes = words(req.Scope)
		want = want && len(common(common(scopes, c.scopes), scopesOf[req.Audience])) == len(scopes)
	}
	if (code == "") != want {
		t.Fatalf("login of %s through %s: refused with %q, want success: %v", user, client, code, want)
	}
	if !want {
		return
	}
	l.tally.logins++
	id := sidOf(grant.AccessToken)
	l.model.families[id] = lineage{
		user: user, client: client, audiences: c.audiences, scopes: scopes,
		born: time.Now(), used: time.Now(), made: l.uptime(),
	}
	l.learn(t, id, 0, grant)
}

// learn records the tokens of an answer. A generation must always have the same token.
func (l *life) learn(t *rapid.T, family string, generation uint32, grant issuer.Grant) {
	text := string(grant.Refresh)
	known := l.known[family]
	switch {
	case int(generation) < len(known) && known[generation] != text:
		t.Fatalf("two different tokens of generation %d", generation)
	case int(generation) == len(known):
		l.known[family] = append(known, text)
		l.issued = append(l.issued, token{family, generation, grant.Refresh})
	}
	// exp has whole seconds (RFC 7519, section 2).
	l.access[family] = access{refusal.Secret(grant.AccessToken), time.Now().Add(accessTTL).Truncate(time.Second)}
}

// pickToken draws a token, mostly one of the last three generations of a live family, and sometimes
// any token.
func (l *life) pickToken(t *rapid.T) token {
	if len(l.issued) == 0 {
		t.Skip("no token was issued yet")
	}
	shown := l.issued[len(l.issued)-rapid.IntRange(1, len(l.issued)).Draw(t, "token")]
	if rapid.IntRange(0, 9).Draw(t, "any") == 9 {
		return shown
	}
	if live := l.live(2); len(live) > 0 {
		shown = live[len(live)-rapid.IntRange(1, min(len(live), 5)).Draw(t, "live")]
	}
	return shown
}

// live returns the tokens of the current generation, and of so many before it, of every live family.
func (l *life) live(before uint32) []token {
	return slices.DeleteFunc(slices.Clone(l.issued), func(o token) bool {
		f, known := l.model.families[o.family]
		return !known || f.ended || o.generation+before < f.generation || f.over(l.model.clients[f.client], time.Now())
	})
}

func (l *life) present(t *rapid.T) {
	shown := l.pickToken(t)
	p := l.plain(shown)
	switch rapid.IntRange(0, 11).Draw(t, "oddity") {
	case 11:
		p.client = pick(t, "client", clientIDs)
	case 10:
		p.audience = pick(t, "audience", []string{"", "mail", "nowhere"})
	case 9:
		p.scope = pick(t, "scope", []string{"read", "write", "send", "admin"})
	}
	p.loginEndpoint = rapid.Bool().Draw(t, "login endpoint")
	l.show(t, shown, p)
}

// plain returns the request with which the owner of a token presents it.
func (l *life) plain(shown token) presented {
	f := l.model.families[shown.family]
	p := presented{family: shown.family, generation: shown.generation, client: f.client}
	if p.client == "" {
		p.client = clientIDs[0] // the restored copy is older than the family
	}
	if left := common(f.audiences, l.model.clients[f.client].audiences); len(left) > 0 {
		p.audience = left[0]
	}
	return p
}

// show presents a token to the model and to the issuer, and compares the answers.
func (l *life) show(t *rapid.T, shown token, p presented) {
	outcomes := l.model.decide(p, time.Now(), l.uptime())
	l.explain(t, shown)
	grant, err := l.ask(p, shown.text)
	code := l.real.codeOf(err)
	for _, out := range outcomes {
		if code != out.code || code == "" && grant.Scope != out.scope {
			continue
		}
		l.tally.rules[out.rule]++
		if _, known := l.model.families[p.family]; known {
			l.model.families[p.family] = out.after
		}
		if out.code == "" {
			if len(outcomes) > 1 {
				l.tally.longer++
			}
			l.learn(t, p.family, out.generation, grant)
			wantGeneration(t, grant.Refresh, out.generation)
		}
		return
	}
	t.Fatalf("%+v of %+v was answered %q, scope %q; the rules allow one of %+v",
		p, l.model.families[p.family], code, grant.Scope, outcomes)
}
