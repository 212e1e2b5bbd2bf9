package apply

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/verifiers"
)

// A LackError is the error of a Server if the token of the request lacks a scope.
type LackError struct {
	Scope string
	Err   error
}

// Error returns the text of Err.
func (e *LackError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *LackError) Unwrap() error { return e.Err }

// rehearse asks the server about each step, which changes nothing. So a plan with a value that the server refuses,
// or one for which the token lacks a scope, fails before its first step and not in the middle. A plan that only
// lacks a scope can still be shown.
func (p *planner) rehearse() error {
	marks := 0
	for _, s := range p.plan.Steps {
		var requests []Request
		if !s.marked {
			if marks++; marks == 1 { // the others need the same scope, and cannot be refused for anything else
				requests = append(requests, s.mark())
			}
		}
		if r, ok := p.rehearsal(s); ok {
			requests = append(requests, r)
		}
		for _, r := range requests {
			err := p.try(s, r)
			if lack := (*LackError)(nil); errors.As(err, &lack) {
				p.plan.unchecked, p.plan.Unchecked = err, lack.Error()
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// dry sends a request that is only tried.
func (p *planner) dry(r Request) error {
	separator := "?"
	if strings.Contains(r.Path, "?") {
		separator = "&"
	}
	r.Path += separator + "dry_run=true"
	_, err := p.server.ask(p.ctx, r, nil)
	return err
}

// try tries a request of a step.
func (p *planner) try(s *Step, r Request) error {
	err := p.dry(r)
	no := (*refused)(nil)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &no) && strings.Contains(no.Detail, "unknown parameter 'dry_run'"):
		return errors.New("the server has an earlier version and cannot check a plan; use the keymill of its version, or update it")
	case s.Act == remove && errors.As(err, &no) && no.Code == "in_use":
		return nil // until the steps before it are done: see checkUnused
	case s.Act == remove && errors.As(err, &no) && no.Code == "socket_only":
		return terminal.WithHint(s.explain(err), "put it back into the files, or run keymill apply --prune on the server's machine")
	case s.Act == forget && errors.As(err, &no) && no.Code == "not_found":
		return nil
	}
	return s.explain(err)
}

// rehearsal returns the request of a step, without what only the steps before it make possible.
func (p *planner) rehearsal(s *Step) (r Request, ok bool) {
	switch s.Act {
	case add, change:
		if s.Kind == verifierKind && p.pinned >= verifiers.MaxPinned {
			return r, false // others are removed first
		}
		r = s.request()
		if state, ok := r.Body.(api.ClientState); ok && p.namesPlanned(state) {
			state.Audiences, state.Scopes, state.Introspect = []string{}, []string{}, []string{} // references has checked them
			r.Body = state
		}
		return r, true
	case remove:
		return s.removal(), true
	case forget:
		return s.unmark(), true
	}
	return r, false
}

// namesPlanned reports whether the client names an audience that the plan adds or changes.
func (p *planner) namesPlanned(c api.ClientState) bool {
	return slices.ContainsFunc(p.plan.Steps, func(s *Step) bool {
		return s.Kind == audienceKind && (s.Act == add || s.Act == change) && (slices.Contains(c.Audiences, s.Name) || slices.Contains(c.Introspect, s.Name))
	})
}

// checkUnused refuses to remove an audience that a client names after the steps before it: one of the files, or one
// that was never applied.
func (p *planner) checkUnused(s *Step) error {
	for _, e := range p.files.entries {
		if e.kind == clientKind && e.names(s.Name) {
			return e.at.wrong("%s names %s, which was applied earlier, is no longer in the files and would be removed; put it back, or name another one", e.label(), labelOf(s.Kind, s.Name))
		}
	}
	var clients []api.Client
	query := url.Values{"audience": {s.Name}, "limit": {"1000"}}
	_, err := p.server.ask(p.ctx, Request{Method: http.MethodGet, Path: "clients?" + query.Encode()}, &clients)
	if errors.As(err, new(*LackError)) {
		return nil // the server refuses it in its step
	}
	for _, c := range clients {
		named := slices.ContainsFunc(p.files.entries, func(e *entry) bool { return e.kind == clientKind && e.name == c.ID })
		removed := slices.ContainsFunc(p.plan.Steps, func(s *Step) bool { return s.Kind == clientKind && s.Name == c.ID && s.Act == remove })
		if !named && !removed {
			return terminal.WithHint(fmt.Errorf("%s was applied earlier and is no longer in the files, but client %s names it, which is not in the files", labelOf(s.Kind, s.Name), cut(c.ID)),
				"put the audience back into the files, or change the client first")
		}
	}
	return err
}

// names reports whether a client names the audience.
func (e *entry) names(audience string) bool {
	return slices.Contains(e.client.Audiences, audience) || slices.Contains(e.client.Introspect, audience)
}

// countVerifiers refuses more verifiers than a server has, and moves the steps that remove some to the front, so that
// others can take their places.
func (p *planner) countVerifiers() error {
	is := func(act string) func(*Step) bool {
		return func(s *Step) bool { return s.Kind == verifierKind && s.Act == act }
	}
	if !slices.ContainsFunc(p.plan.Steps, is(add)) {
		return nil
	}
	var known []api.Verifier
	if _, err := p.server.ask(p.ctx, Request{Method: http.MethodGet, Path: "verifiers?limit=1000"}, &known); err != nil {
		return err
	}
	p.pinned = len(known)
	total := p.pinned
	for _, s := range p.plan.Steps {
		if is(add)(s) {
			total++
		} else if is(remove)(s) {
			total--
		}
	}
	if total > verifiers.MaxPinned {
		return fmt.Errorf("%d verifiers are pinned, and with those of the files it would be %d; at most %d can be", p.pinned, total, verifiers.MaxPinned)
	}
	slices.SortStableFunc(p.plan.Steps, func(a, b *Step) int {
		switch first, second := is(remove)(a), is(remove)(b); {
		case first == second:
			return 0
		case first:
			return -1
		}
		return 1
	})
	return nil
}
