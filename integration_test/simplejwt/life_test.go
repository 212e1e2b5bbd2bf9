package simplejwt

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A frontEnd is what runs in the browser of a Django team: it keeps two tokens, and when
// the API says token_not_valid it refreshes once and asks again.
type frontEnd struct {
	side      *side
	tokens    tokens
	refreshed int
}

// get asks the API, with at most one refresh.
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

// refresh reports whether the person is still logged in. A server that does not rotate
// answers without a refresh token, and the old one stays: front ends know both.
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

// live is one visit, told as what happened.
func live(t *testing.T, s *side) []string {
	t.Helper()
	var story []string
	tell := func(what string, a answer) { story = append(story, what+": "+a.line()) }
	f := &frontEnd{side: s, tokens: s.login(t, "alice")}
	tell("a first look", f.get(t))
	f.tokens = tokens{Access: s.old.Access, Refresh: s.old.Live}
	tell("back after lunch", f.get(t))
	tell("and again", f.get(t))
	spent := f.tokens.Refresh
	if !f.refresh(t) {
		story = append(story, "no refresh")
	}
	tell("refreshed ahead of time", f.get(t))
	story = append(story, fmt.Sprintf("%d refreshes, another token each time: %t", f.refreshed, spent != f.tokens.Refresh))
	tell("is it good?", s.do(t, post(verifyPath, fields{"token": f.tokens.Access})))
	tell("logs out", s.do(t, post(blacklistPath, fields{"refresh": f.tokens.Refresh})))
	story = append(story, fmt.Sprintf("stays logged in: %t", f.refresh(t)))
	f.tokens.Access = s.old.Access
	tell("after the end", f.get(t))
	return story
}

// aFrontEndDoesNotNoticeWhoAnswers: the same code lives through the same story.
func (p *pair) aFrontEndDoesNotNoticeWhoAnswers(t *testing.T) {
	theirs, ours := live(t, p.theirs), live(t, p.ours)
	if !slices.Equal(theirs, ours) {
		t.Errorf("with simplejwt:\n\t%s\nwith ours:\n\t%s", strings.Join(theirs, "\n\t"), strings.Join(ours, "\n\t"))
	}
	alice, end := `200 {"id":1,"username":"alice"}`, `stays logged in: false`
	if told := strings.Join(ours, "\n"); strings.Count(told, alice) != 4 || !strings.Contains(told, end) {
		t.Errorf("nobody lived:\n%s", told)
	}
}

// aLostAnswerIsForgiven: within a client's grace a token that comes twice gets the same
// successor, where simplejwt logs an honest person out. Older ones never do.
func (p *pair) aLostAnswerIsForgiven(t *testing.T) {
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
		t.Errorf("simplejwt forgives by now: %s", theirs)
	}
	if ours, same := again(p.ours); ours != string(tokensGiven) || !same {
		t.Errorf("within the grace: %s, the same successor: %t", ours, same)
	}
	first := current(t, p.ours)
	p.ours.refresh(t, p.ours.refresh(t, first).Refresh)
	if a := p.ours.do(t, post(refreshPath, fields{"refresh": first})); a.status != http.StatusUnauthorized {
		t.Errorf("two generations old: %s", a.line())
	}
}
