package simplejwt

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A frontEnd behaves like the front end of a Django team. It keeps two tokens. When the API answers
// token_not_valid, it refreshes once and tries again.
type frontEnd struct {
	side      *side
	tokens    tokens
	refreshed int
}

// get calls the API, with at most one refresh.
func (f *frontEnd) get(t *testing.T) answer {
	t.Helper()
	a := ask(t, f.side.api, f.tokens.Access)
	var refusal struct{ Code string }
	if json.Unmarshal(a.body, &refusal); a.status != http.StatusUnauthorized || refusal.Code != "token_not_valid" {
		return a
	}
	if !f.refresh(t) {
		return a
	}
	return ask(t, f.side.api, f.tokens.Access)
}

// refresh reports whether the user is still logged in. A server that does not rotate answers
// without a refresh token, and the front end keeps the old one.
func (f *frontEnd) refresh(t *testing.T) bool {
	t.Helper()
	a := f.side.do(t, post(refreshPath, fields{"refresh": f.tokens.Refresh}).with("Origin", origin))
	if a.status != http.StatusOK {
		return false
	}
	if err := json.Unmarshal(a.body, &f.tokens); err != nil {
		t.Fatal(err)
	}
	f.refreshed++
	return true
}

// visit plays one visit and returns a line for each step.
func visit(t *testing.T, s *side) []string {
	t.Helper()
	var steps []string
	note := func(what string, a answer) { steps = append(steps, what+": "+a.line()) }
	f := &frontEnd{side: s, tokens: s.login(t, "alice")}
	note("the first call", f.get(t))
	f.tokens = tokens{Access: s.old.Access, Refresh: s.old.Live}
	note("with an expired access token", f.get(t))
	note("the next call", f.get(t))
	spent := f.tokens.Refresh
	if !f.refresh(t) {
		steps = append(steps, "the refresh failed")
	}
	note("after a refresh before the expiry", f.get(t))
	steps = append(steps, fmt.Sprintf("%d refreshes, another token each time: %t", f.refreshed, spent != f.tokens.Refresh))
	note("verify", s.do(t, post(verifyPath, fields{"token": f.tokens.Access})))
	note("logout", s.do(t, post(blacklistPath, fields{"refresh": f.tokens.Refresh})))
	steps = append(steps, fmt.Sprintf("still logged in: %t", f.refresh(t)))
	f.tokens.Access = s.old.Access
	note("after the logout", f.get(t))
	return steps
}

// aFrontEndWorksWithBoth: the same front end sees the same answers from both sides.
func (p *pair) aFrontEndWorksWithBoth(t *testing.T) {
	theirs, ours := visit(t, p.theirs), visit(t, p.ours)
	if !slices.Equal(theirs, ours) {
		t.Errorf("with simplejwt:\n\t%s\nwith ours:\n\t%s", strings.Join(theirs, "\n\t"), strings.Join(ours, "\n\t"))
	}
	alice, end := `200 {"id":1,"username":"alice"}`, `still logged in: false`
	if joined := strings.Join(ours, "\n"); strings.Count(joined, alice) != 4 || !strings.Contains(joined, end) {
		t.Errorf("the visit did not go as planned:\n%s", joined)
	}
}

// aRetryWithinTheGraceWorks: within the client's grace a token that is presented twice gets the
// same successor, where simplejwt would log the user out. An older token is never accepted.
func (p *pair) aRetryWithinTheGraceWorks(t *testing.T) {
	p.server.Run(t, "client", "set", "web", "--grace", "30s")
	again := func(s *side) (line string, same bool) {
		first := current(t, s)
		second := s.refresh(t, first)
		a := s.do(t, post(refreshPath, fields{"refresh": first}))
		var third tokens
		json.Unmarshal(a.body, &third)
		return a.line(), third.Refresh == second.Refresh
	}
	if theirs, _ := again(p.theirs); theirs != string(onBlacklist) {
		t.Errorf("simplejwt answers a retry with %s, want its refusal", theirs)
	}
	if ours, same := again(p.ours); ours != string(tokensGiven) || !same {
		t.Errorf("a retry within the grace: %s, the same successor: %t", ours, same)
	}
	first := current(t, p.ours)
	p.ours.refresh(t, p.ours.refresh(t, first).Refresh)
	if a := p.ours.do(t, post(refreshPath, fields{"refresh": first})); a.status != http.StatusUnauthorized {
		t.Errorf("a token two generations old: %s, want 401", a.line())
	}
}
