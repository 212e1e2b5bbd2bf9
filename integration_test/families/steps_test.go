package families

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"keymill/integration_test/server"
	"keymill/issuer"
	"keymill/issuer/refusal"
)

func pick[T any](t *rapid.T, what string, list []T) T { return rapid.SampledFrom(list).Draw(t, what) }

// words returns the sorted words of a scope.
func words(scope string) []string {
	list := strings.Fields(scope)
	slices.Sort(list)
	return list
}

// ask presents a token at the token endpoint or at a login endpoint.
func (l *life) ask(p presented, text refusal.Secret) (issuer.Grant, error) {
	if p.loginEndpoint {
		return l.real.Refresh(ctx(), issuer.RefreshRequest{Client: p.client, Token: text, Audience: p.audience, Scope: p.scope})
	}
	return l.real.Token(ctx(), issuer.TokenRequest{
		GrantType: "refresh_token", Client: public(p.client), Refresh: text, Audience: p.audience, Scope: p.scope,
	})
}

func public(client string) issuer.Credentials {
	return issuer.Credentials{ClientID: client, Method: "none"}
}

// explanations maps a rule to the verdict of an explanation.
var explanations = map[int]string{
	4: "rolled_back", 5: "replay", 6: "late_retry", 7: "refused", 9: "refused", 11: "grace", 12: "current",
}

// explain requires that the issuer explains a token as the rules will decide.
func (l *life) explain(t *rapid.T, shown token) {
	said, err := l.real.Explain(ctx(), shown.text)
	l.real.must(err)
	f, p := l.model.families[shown.family], l.plain(shown)
	outcomes := l.model.decide(p, time.Now(), l.uptime())
	if len(outcomes) > 1 || f.doubtful {
		return // two explanations would be right
	}
	want := explanations[outcomes[0].rule]
	if said.Accepted != (outcomes[0].code == "") || want != "" && said.State != want {
		t.Fatalf("generation %d of %+v is explained as %q, good: %v; rule %d says %q",
			shown.generation, f, said.State, said.Accepted, outcomes[0].rule, want)
	}
	l.tally.explained++
}

// introspect requires that an access token is active until it expires or its family ends.
func (l *life) introspect(t *rapid.T) {
	if len(l.issued) == 0 {
		t.Skip("no token was issued yet")
	}
	family := l.pickToken(t).family
	f, last := l.model.families[family], l.access[family]
	if f.over(l.model.clients[f.client], time.Now()) {
		return // the token is active until the clean-up removes the family
	}
	said, err := l.real.Introspect(ctx(), l.asker, last.text)
	l.real.must(err)
	want := f.client != "" && !f.ended && time.Now().Before(last.expires)
	if said.Active != want && !f.doubtful {
		t.Fatalf("the access token of %+v is active: %v, want %v", f, said.Active, want)
	}
}

func (l *life) wait(t *rapid.T) {
	grace := l.model.clients[pick(t, "client", clientIDs)].grace
	d := pick(t, "time", []time.Duration{
		time.Millisecond, time.Second, 10 * time.Second, 20 * time.Minute, time.Hour, 3 * time.Hour,
		grace / 2, grace - time.Millisecond, grace, grace + time.Millisecond,
	})
	time.Sleep(max(d, 0))
}

// restart stops the server cleanly, so the clock of the grace continues where it stopped.
func (l *life) restart(t *rapid.T) {
	l.tally.restarts++
	l.stop(true)
	l.begin(pick(t, "downtime", []time.Duration{0, time.Second, time.Minute, time.Hour}))
}

// crash stops the server without a clean end, which may set the clock of the grace back.
func (l *life) crash(t *rapid.T) {
	l.tally.crashes++
	l.stop(false)
	l.model.crash(crashCost)
	l.begin(pick(t, "downtime", []time.Duration{0, time.Second, time.Minute, time.Hour}))
}

func (l *life) stop(clean bool) {
	l.real.stop(clean)
	l.served = l.uptime()
}

func (l *life) begin(down time.Duration) {
	time.Sleep(down)
	l.booted = time.Now()
	l.real.start()
}

// copy keeps a copy of the store, as a backup of an operator.
func (l *life) copy(*rapid.T) {
	l.stop(true)
	l.backup = &backup{l.real.bytes(), l.model.clone(), l.served}
	l.begin(0)
}

// restore replaces the store by the old copy. Clients still hold tokens that are newer than it.
func (l *life) restore(t *rapid.T) {
	if l.backup == nil {
		t.Skip("no copy was made yet")
	}
	l.tally.restores++
	l.stop(true)
	l.real.restore(l.backup.store)
	l.model, l.served = l.backup.model.clone(), l.backup.served
	l.begin(time.Minute)
	for _, later := range slices.Backward(l.issued) {
		if f, known := l.model.families[later.family]; known && later.generation > f.generation && !f.ended {
			l.show(t, later, l.plain(later))
			return
		}
	}
}

// age lets time pass until the lifetime of a live family is over, or nearly over, and presents its
// newest token. A family that is rotated just before its idle time again and again reaches its
// absolute time.
func (l *life) age(t *rapid.T) {
	live := l.live(0)
	if len(live) == 0 {
		t.Skip("no family is live")
	}
	newest := live[len(live)-rapid.IntRange(1, min(len(live), 3)).Draw(t, "live")]
	f := l.model.families[newest.family]
	c := l.model.clients[f.client]
	left := min(time.Until(f.used.Add(c.idle)), time.Until(f.born.Add(c.absolute)))
	early := pick(t, "early", []time.Duration{time.Minute, time.Millisecond, time.Hour, 0})
	time.Sleep(max(left-early, 0))
	l.show(t, newest, l.plain(newest))
}

// wantGeneration compares the generation of a token.
func wantGeneration(t *rapid.T, text refusal.Secret, want uint32) {
	if _, got, err := server.ReadToken(string(text)); err != nil || got != want {
		t.Fatalf("got generation %d (%v), want %d", got, err, want)
	}
}

// sidOf returns the claim sid of an access token, which is the id of its family.
func sidOf(accessToken string) string {
	var claims struct{ SID string }
	_, rest, _ := strings.Cut(accessToken, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil {
		return ""
	}
	return claims.SID
}
