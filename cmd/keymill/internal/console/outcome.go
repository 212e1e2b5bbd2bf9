package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
)

// changed is the answer to a form whose numbers are no longer those that were shown.
const changed = "This has changed since you looked, so nothing was done. Look again."

// errUnclear is for an answer of the server that does not say what it did: it may be that of another program.
var errUnclear = errors.New("its answer does not say what was done")

// do does what a form asks, once.
func (s *site) do(r *request) (*page, error) {
	if err := r.ParseForm(); err != nil {
		return unreadable(err), nil
	}
	q, problem := s.questions.take(r.PostForm.Get("token"), r.PostForm.Get("typed"), time.Now())
	switch {
	case q == nil:
		return &page{Title: "Not done", Problem: problem, Status: http.StatusBadRequest}, nil
	case problem == usedToken:
		return q.refused(r, q.first(), http.StatusConflict, problem), nil
	case problem != "":
		return &page{Title: q.Title, Template: "ask", Body: q, Problem: problem, Here: q.path, Status: http.StatusBadRequest, Command: q.command(q.first())}, nil
	}
	// A browser that goes away, for example because of a double click, does not stop a change half way.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.patience)
	defer cancel()
	value := r.PostForm.Get("choice")
	if !q.offers(value) {
		return q.refused(r, q.first(), http.StatusBadRequest, "This form has a choice that was not offered. Nothing was done."), nil
	}
	fresh, err := s.reread(ctx, r, q)
	switch {
	case err != nil:
		return q.notAsked(r, value, err), nil
	case fresh.state != q.state:
		return q.refused(r, value, http.StatusConflict, changed), nil
	}
	result, err := q.do(ctx, value)
	if err != nil {
		return q.notDone(r, value, err), nil
	}
	return s.done(q, value, result), nil
}

// unreadable returns the page for a form that is too large, that did not arrive whole, or that is malformed.
func unreadable(err error) *page {
	if errors.As(err, new(*http.MaxBytesError)) {
		return &page{Title: "Not done", Status: http.StatusRequestEntityTooLarge, Problem: fmt.Sprintf("This form is larger than %d kB. Nothing was done.", maxBodyBytes>>10)}
	}
	return &page{Title: "Not done", Status: http.StatusBadRequest, Problem: "This form did not arrive whole, or is malformed. Nothing was done. Send it again."}
}

// reread asks the question again, without a token.
func (s *site) reread(ctx context.Context, r *request, q *question) (*question, error) {
	again := r.Request.Clone(ctx)
	again.URL = &url.URL{Path: q.path, RawQuery: q.query.Encode()}
	for _, a := range s.actions() {
		if a.path == q.path {
			return a.ask(&request{Request: again, base: r.base, now: r.now})
		}
	}
	return nil, badInput{unknownToken}
}

// done returns the page that says what was done. A note has its time: the page that shows it can be loaded again, when it is
// no longer true.
func (s *site) done(q *question, value string, result *done) *page {
	if result.facts != nil {
		return &page{Title: q.Title, Template: "thing", Done: result.note, Here: q.path, Command: q.command(value),
			Body: thing{Facts: result.facts, Links: []cell{{Text: "Go on", Href: q.back}}}}
	}
	to := q.back
	if result.to != "" {
		to = result.to
	}
	sign := "?"
	if strings.Contains(to, "?") {
		sign = "&"
	}
	now := time.Now()
	note := "At " + now.UTC().Format("15:04:05Z") + ": " + result.note
	return &page{To: to + sign + "done=" + s.questions.add(asked{note: note}, now)}
}

// notAsked returns the page for an error before the server was asked for the change.
func (q *question) notAsked(r *request, value string, err error) *page {
	refused := (*adminapi.Error)(nil)
	switch {
	case errors.As(err, new(badInput)), refusedWith(err, "not_found"):
		return q.refused(r, value, http.StatusConflict, changed)
	case errors.As(err, &refused):
		return q.refusedBy(r, value, err)
	}
	return q.refused(r, value, http.StatusServiceUnavailable, "Nothing was done. The server does not answer: "+whole(plain(err))+".")
}

// notDone returns the page for an error of the change itself. Only a refusal of the server tells that nothing was done.
func (q *question) notDone(r *request, value string, err error) *page {
	refused := (*adminapi.Error)(nil)
	switch {
	case refusedWith(err, "precondition_failed"), refusedWith(err, "not_found"):
		return q.refused(r, value, http.StatusConflict, changed)
	case !errors.As(err, &refused) || refused.Code == "":
		return q.refused(r, value, http.StatusServiceUnavailable,
			"The server gave no clear answer: "+whole(plain(err))+". It is not known whether it was done. Look before you ask again.")
	case refused.Unclear():
		return q.refused(r, value, http.StatusServiceUnavailable, "The server says: "+whole(plain(refused))+". Look whether it was done before you ask again.")
	}
	return q.refusedBy(r, value, err)
}

// refusedBy returns the page for a refusal of the server.
func (q *question) refusedBy(r *request, value string, err error) *page {
	p := q.refused(r, value, http.StatusBadRequest, "Nothing was done. The server says: "+whole(plain(err))+".")
	p.Notes = hints(err)
	return p
}

func (q *question) refused(r *request, value string, status int, problem string) *page {
	return &page{Title: q.Title, Template: "thing", Problem: problem, Status: status, Here: q.path, Command: q.command(value),
		Body: thing{Links: append([]cell{q.again(r), {Text: "Back", Href: q.back}}, q.Links...)}}
}

// says returns the warnings of an answer. It refuses one that does not name the entry which was changed.
func says(raw []byte, member, id string) (warnings []string, err error) {
	answer := map[string]json.RawMessage{}
	name := ""
	if json.Unmarshal(raw, &answer) != nil || json.Unmarshal(answer[member], &name) != nil || name != id {
		return nil, errUnclear
	}
	if known := answer["warnings"]; known != nil && json.Unmarshal(known, &warnings) != nil {
		return nil, errUnclear
	}
	return warnings, nil
}

// warn adds warnings of the server to a note.
func warn(note string, warnings []string) string {
	for _, w := range warnings {
		note += " Warning: " + whole(w) + "."
	}
	return note
}
