package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"keymill/cmd/keymill/internal/terminal"
)

// Run does what the plan says, step by step. It stops at the first step that fails, and the error says what
// was done before. A step is done only if its entry is still what the plan has read. If ctx ends, Run stops
// after the step that it is at: the outcome of a request that is given up is not known.
func (p *Plan) Run(ctx context.Context) error {
	if p.unchecked != nil {
		return fmt.Errorf("%w; nothing was changed", p.unchecked)
	}
	var done []string
	p.began = true
	for _, s := range p.Steps {
		if ctx.Err() != nil {
			return errors.New("interrupted; " + listed(done))
		}
		if err := s.run(context.WithoutCancel(ctx), p.server); err != nil {
			err = s.explain(err)
			if hint := terminal.HintOf(err); hint != "" {
				return terminal.WithHint(fmt.Errorf("%w; %s", err, listed(done)), "%s", hint)
			}
			return fmt.Errorf("%w; %s", err, listed(done))
		}
		done = append(done, s.label())
		p.Done++
	}
	p.Applied = true
	return nil
}

// label names the step in a message.
func (s *Step) label() string { return sign(s.Act) + " " + labelOf(s.Kind, s.Name) }

// run does one step. An entry is marked before it is made: see package applied. If it cannot be made, the mark is
// removed, because someone else can add an entry of that name later.
func (s *Step) run(ctx context.Context, server Server) error {
	if !s.marked {
		if _, err := server.ask(ctx, s.mark(), nil); err != nil {
			return err
		}
	}
	switch s.Act {
	case add, change:
		var answer struct{ Warnings []string }
		_, err := server.ask(ctx, s.request(), &answer)
		for _, w := range answer.Warnings {
			if !slices.Contains(s.Warnings, w) { // the plan has it
				s.Warnings = append(s.Warnings, w)
			}
		}
		if err != nil && s.Act == add && !s.marked && s.isMissing(ctx, server) {
			_ = s.forget(ctx, server) // the error of the request is the one to report
		}
		return err
	case remove:
		if _, err := server.ask(ctx, s.removal(), nil); err != nil {
			return err
		}
		return s.forget(ctx, server)
	case forget:
		return s.forget(ctx, server)
	}
	return nil
}

// request returns the request that adds or changes the entry.
func (s *Step) request() Request {
	switch s.Kind {
	case userKind:
		return Request{Method: http.MethodPatch, Path: pathOf(s.Kind, s.target), IfMatch: s.etag, Body: s.body}
	case verifierKind:
		return Request{Method: http.MethodPost, Path: "verifiers", Body: s.body}
	}
	return Request{Method: http.MethodPut, Path: pathOf(s.Kind, s.Name), IfMatch: s.etag, IsNew: s.Act == add, Body: s.body}
}

// removal returns the request that removes the entry.
func (s *Step) removal() Request {
	r := Request{Method: http.MethodDelete, Path: pathOf(s.Kind, s.Name), IfMatch: s.etag}
	if s.Kind == verifierKind {
		r.IfMatch = "" // a verifier is its name, and has nothing that could change
	}
	return r
}

func (s *Step) mark() Request {
	return Request{Method: http.MethodPut, Path: markPath(s.Kind, s.Name)}
}

func (s *Step) unmark() Request {
	return Request{Method: http.MethodDelete, Path: markPath(s.Kind, s.Name)}
}

// isMissing reports whether the server answers that there is no such entry.
func (s *Step) isMissing(ctx context.Context, server Server) bool {
	_, err := server.ask(ctx, Request{Method: http.MethodGet, Path: pathOf(s.Kind, s.Name)}, nil)
	no := (*refused)(nil)
	return errors.As(err, &no) && no.Code == "not_found"
}

// forget removes the mark. The server has done so if it has removed the entry.
func (s *Step) forget(ctx context.Context, server Server) error {
	_, err := server.ask(ctx, s.unmark(), nil)
	if no := (*refused)(nil); errors.As(err, &no) && no.Code == "not_found" {
		return nil
	}
	return err
}

// explain says where the step is written and what is wrong.
func (s *Step) explain(err error) error {
	at := ""
	if s.Place != "" {
		at = s.Place + ": "
	}
	no := (*refused)(nil)
	idTaken := errors.As(err, &no) && no.Code == "already_exists" && s.Kind == clientKind // by a user: another plan is no help
	if no != nil && !idTaken && slices.Contains([]string{"precondition_failed", "already_exists", "not_found"}, no.Code) {
		return terminal.WithHint(fmt.Errorf("%s%s changed since the plan was made", at, labelOf(s.Kind, s.Name)), "run keymill apply again: it makes a new plan")
	}
	return fmt.Errorf("%s%s: %w", at, labelOf(s.Kind, s.Name), err)
}

// listed says which steps were done: it names the last ones, and counts the others.
func listed(done []string) string {
	const most = 5
	switch n := len(done) - most; {
	case len(done) == 0:
		return "nothing was changed before"
	case n > 0:
		return "done before: " + terminal.Count(n, "step") + " and " + strings.Join(done[n:], ", ")
	}
	return "done before: " + strings.Join(done, ", ")
}
