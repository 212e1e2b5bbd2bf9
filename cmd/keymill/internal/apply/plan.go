package apply

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/profile"
	"keymill/jwks"
)

// What a step does.
const (
	add    = "add"
	change = "change"
	adopt  = "adopt"  // only remember that the files name it
	remove = "remove" // it was applied, and the files no longer name it
	forget = "forget" // it has a mark, and is not there
	keep   = "keep"
)

// A Step is what a plan does with one entry.
type Step struct {
	Act      string   `json:"act"` // "add", "change", "adopt", "remove" or "forget"
	Kind     string   `json:"kind"`
	Name     string   `json:"name"`
	Place    string   `json:"place,omitempty"` // file and line
	Details  []string `json:"details"`         // what is added, or differs
	Warnings []string `json:"warnings"`        // what the step does beside

	at     Place
	target string // id:7 of a user: a name can be given to another user in between
	etag   string // of the entry that the plan has read
	marked bool
	body   any // sent to add or change it
}

// A Plan says how to bring the store to what the files say.
type Plan struct {
	Steps     []*Step `json:"steps"` // in the order in which they are applied
	Unchanged int     `json:"unchanged"`
	Leftover  int     `json:"leftover"` // entries that were applied and that only prune removes
	Applied   bool    `json:"applied"`  // all steps are done
	Done      int     `json:"done"`     // steps

	// Unchecked is why the server has not checked the plan: the token lacks a scope. It cannot be applied then.
	// "" if it has.
	Unchecked string `json:"unchecked"`

	server    Server
	began     bool
	unchecked error
}

// A planner reads the store and compares.
type planner struct {
	ctx    context.Context
	server Server
	files  *Files
	marked map[[2]string]bool
	users  map[string]*entry          // id → the entry that names the user
	scopes map[string]map[string]bool // audience → its scopes, as they will be
	pinned int                        // verifiers before the plan; set if the plan adds one
	plan   *Plan
}

// New compares the files with the store of the server, and lets the server check the plan. With prune the plan
// removes what was applied before and is no longer named.
func New(ctx context.Context, server Server, files *Files, prune bool) (*Plan, error) {
	p := &planner{
		ctx: ctx, server: server, files: files, marked: map[[2]string]bool{},
		users: map[string]*entry{}, scopes: map[string]map[string]bool{}, plan: &Plan{Steps: []*Step{}, server: server},
	}
	marks, err := server.marks(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range marks {
		p.marked[[2]string{m.Kind, m.Name}] = true
	}
	for _, e := range files.entries {
		if err := p.entry(e); err != nil {
			return nil, err
		}
	}
	for _, check := range []func() error{func() error { return p.leftovers(marks, prune) }, p.countVerifiers, p.rehearse} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

// entry adds the step of an entry.
func (p *planner) entry(e *entry) error {
	s := &Step{
		Act: keep, Kind: e.kind, Name: e.name, Place: e.at.String(), at: e.at, Details: []string{}, Warnings: []string{},
		marked: p.marked[[2]string{e.kind, e.name}] || e.kind == userKind,
	}
	var err error
	switch e.kind {
	case audienceKind:
		err = p.audience(e, s)
	case clientKind:
		err = p.client(e, s)
	case verifierKind:
		err = p.verifier(s)
	case userKind:
		err = p.user(e, s)
	}
	if err != nil {
		return err
	}
	if s.Act != add && !s.marked {
		s.Details = append(s.Details, "adopted: it was there before")
		if s.Act == keep {
			s.Act = adopt
		}
	}
	if s.Act == keep {
		p.plan.Unchanged++
		return nil
	}
	p.plan.Steps = append(p.plan.Steps, s)
	return nil
}

// read reads an entry of the store into to, and reports whether it exists.
func (p *planner) read(s *Step, to any) (exists bool, err error) {
	s.etag, err = p.server.ask(p.ctx, Request{Method: http.MethodGet, Path: pathOf(s.Kind, s.Name)}, to)
	if no := (*refused)(nil); errors.As(err, &no) {
		if no.Code == "not_found" {
			return false, nil
		}
		return false, s.at.because(labelOf(s.Kind, s.Name), err)
	}
	return err == nil, err
}

func (p *planner) audience(e *entry, s *Step) error {
	if e.name == adminscope.Audience {
		return e.at.wrong("%s is built in and cannot change; remove it from the file", e.label())
	}
	p.scopes[e.name] = setOf(e.audience.Scopes)
	var now api.Audience
	exists, err := p.read(s, &now)
	if err != nil {
		return err
	}
	want := e.audience
	switch {
	case !exists:
		s.Act, s.body, s.Warnings = add, stateOf(want), append(s.Warnings, profile.Warnings(e.name, want.Type)...)
		s.show("alg", want.Alg)
		s.show("ttl", want.TTL)
		s.show("profile", want.Profile)
		if want.Type != jwks.TypeAccessToken {
			s.show("type", want.Type)
		}
		s.shows("scopes", want.Scopes)
		s.claimsDiffer(nil, want.Claims)
		if len(want.ClaimMap) > 0 {
			s.show("claim_map", showMap(want.ClaimMap))
		}
		return nil
	case now.Alg != want.Alg:
		return e.at.wrong("%s signs with %s, which cannot change to %s; use another name for the new algorithm", e.label(), now.Alg, want.Alg)
	}
	s.differ("ttl", now.TTL, want.TTL)
	s.differs("scopes", now.Scopes, want.Scopes)
	s.differ("profile", now.Profile, want.Profile)
	if s.differ("type", now.Type, want.Type); now.Type != want.Type {
		s.Warnings = append(s.Warnings, profile.Warnings(e.name, want.Type)...)
	}
	s.claimsDiffer(now.Claims, want.Claims)
	s.differ("claim_map", showMap(now.ClaimMap), showMap(want.ClaimMap))
	if len(s.Details) > 0 {
		s.Act, s.body = change, stateOf(want)
	}
	return nil
}

func stateOf(a api.Audience) api.AudienceState {
	return api.AudienceState{Alg: a.Alg, TTL: a.TTL, Scopes: a.Scopes, Profile: a.Profile, Type: a.Type, Claims: a.Claims, ClaimMap: a.ClaimMap}
}

func (p *planner) verifier(s *Step) error {
	exists, err := p.read(s, nil)
	if err == nil && !exists {
		s.Act, s.body = add, api.NewVerifier{Name: s.Name}
	}
	return err
}

func (p *planner) user(e *entry, s *Step) error {
	var now api.User
	exists, err := p.read(s, &now)
	if err != nil {
		return err
	}
	if !exists {
		return e.at.wrong("%s does not exist; apply changes the claims of users and adds none: run \"keymill user add\" first", e.label())
	}
	if first := p.users[now.ID]; first != nil {
		return e.at.wrong("%s and %s in %s are the same", e.label(), first.label(), first.at)
	}
	p.users[now.ID] = e
	if sameClaims(now.Claims, e.claims) {
		return nil
	}
	s.Act, s.body = change, api.UserChange{Claims: &e.claims}
	s.Details = append(s.Details, claimDifferences(now.Claims, e.claims)...)
	s.target = "id:" + now.ID
	return nil
}

// leftovers adds the steps for what was applied before and is no longer named, in the order in which it can
// be removed.
func (p *planner) leftovers(marks []api.Applied, prune bool) error {
	named := map[[2]string]bool{}
	for _, e := range p.files.entries {
		named[[2]string{e.kind, e.name}] = true
	}
	marks = slices.DeleteFunc(slices.Clone(marks), func(m api.Applied) bool { return named[[2]string{m.Kind, m.Name}] })
	slices.SortStableFunc(marks, func(a, b api.Applied) int { return slices.Index(kinds, b.Kind) - slices.Index(kinds, a.Kind) })
	if !prune {
		p.plan.Leftover = len(marks)
		return nil
	}
	for _, m := range marks {
		s := &Step{Act: remove, Kind: m.Kind, Name: m.Name, Details: []string{"applied earlier, no longer in the files"}, Warnings: []string{}, marked: true}
		var now struct{ Audiences []string } // of a client
		exists, err := p.read(s, &now)
		if err != nil {
			return err
		}
		switch {
		case !exists:
			s.Act, s.Details = forget, []string{"applied earlier, and there is none now"}
		case m.Kind == audienceKind && m.Name == adminscope.Audience:
			s.Act, s.Details = forget, []string{"is built in: it stays, and only the mark is removed"}
		case m.Kind == audienceKind:
			err = p.checkUnused(s)
		case m.Kind != clientKind:
		case slices.Contains(now.Audiences, adminscope.Audience) && strings.HasPrefix(m.By, adminscope.Actor("")):
			// Tokens manage no such client, and so their marks must not lead to its removal.
			s.Act, s.Details = forget, []string{"has the audience " + adminscope.Audience + ", and " + m.By + " marked it over the network: it stays, and only the mark is removed"}
		default:
			err = p.warnOfSessions(s)
		}
		if err != nil {
			return err
		}
		p.plan.Steps = append(p.plan.Steps, s)
	}
	return nil
}

// warnOfSessions says how many sessions end with a client, and whether users log in through it.
func (p *planner) warnOfSessions(s *Step) error {
	var page api.SessionPage
	query := url.Values{"client": {s.Name}, "limit": {"1000"}}
	if _, err := p.server.ask(p.ctx, Request{Method: http.MethodGet, Path: "sessions?" + query.Encode()}, &page); err != nil {
		return err
	}
	live := 0
	for _, session := range page.Sessions {
		if session.State == "live" {
			live++
		}
	}
	switch {
	case page.More:
		s.Warnings = append(s.Warnings, "ends all its sessions, "+terminal.Count(live, "live session")+" or more")
	case live > 0:
		s.Warnings = append(s.Warnings, "ends "+terminal.Count(live, "live session"))
	}
	unused := s.removal()
	unused.Path += "&unused=true"
	if no := (*refused)(nil); errors.As(p.dry(unused), &no) && strings.Contains(no.Detail, "users log in through") {
		s.Warnings = append(s.Warnings, no.Detail)
	}
	return nil
}
