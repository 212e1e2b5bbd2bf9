package console

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
)

// An action is a change that the console offers. A page asks for it: it says what will happen, in numbers that are
// read for it, and has a form. The form carries a token, which works once and stands for exactly this question.
type action struct {
	path string // of the page that asks
	ask  func(*request) (*question, error)
}

// A question is what a page asks before something is done. Without do, it only shows a form or a link.
type question struct {
	Title  string
	Words  []string // the consequence
	Facts  []fact   // the numbers
	Choice choice
	Type   string // must be typed; "" for nothing
	Button string
	Links  []cell
	Find   listBody // a form that selects the thing, if none is named
	Post   string   // where the form is posted to
	Token  string

	path    string // of the action
	query   url.Values
	state   string // what was read: if it is different when the form comes, nothing is done
	back    string // the page of the thing
	command func(choice string) string
	do      func(ctx context.Context, choice string) (*done, error)
}

// A choice is a list from which one value is chosen. The first is chosen at first.
type choice struct {
	Label   string
	Options []option
}

// An option is one value of a choice.
type option struct{ Value, Text string }

// done is what has happened: a note for the page of the thing, or facts that are shown once.
type done struct {
	note  string
	facts []fact
	to    string // in place of the page of the thing
}

// Limits of the questions that wait for an answer.
const (
	askTime      = 10 * time.Minute
	maxQuestions = 100
)

// questions remembers the questions that were asked, and the notes of what was done.
type questions struct {
	mu    sync.Mutex // guards the field below
	asked []*asked   // oldest first
}

// asked is a question, or a note for the page that follows.
type asked struct {
	token    string
	at       time.Time
	question *question // nil if it is a note
	used     bool
	note     string
}

// add remembers a question or a note and returns its token. The oldest are forgotten.
func (q *questions) add(a asked, now time.Time) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	a.token, a.at = rand.Text(), now
	q.asked = slices.DeleteFunc(q.asked, func(a *asked) bool { return now.Sub(a.at) >= askTime })
	if len(q.asked) >= maxQuestions {
		q.asked = slices.Delete(q.asked, 0, len(q.asked)-maxQuestions+1)
	}
	q.asked = append(q.asked, &a)
	return a.token
}

// find returns what a token stands for, nil if that is not known any longer.
func (q *questions) find(token string, now time.Time) *asked {
	for _, a := range q.asked {
		if equal(a.token, token) && now.Sub(a.at) < askTime {
			return a
		}
	}
	return nil
}

// note returns the note of a token, or "".
func (q *questions) note(token string, now time.Time) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a := q.find(token, now); a != nil {
		return a.note
	}
	return ""
}

// What is wrong with a token. The first two say that nothing was done.
const (
	noToken      = "This form has no token of this console. Nothing was done. Open the page that asks again."
	unknownToken = "This form is older than 10 minutes, or than 100 other forms, or from another console. Nothing was done. Open the page that asks again."
	usedToken    = "This form was sent already, and what it asks is done once at most. Look at the page for the result."
)

// take uses a token. typed is what was typed; if it is wrong, the token can be used again. A question is returned with
// every problem of one that is known.
func (q *questions) take(token, typed string, now time.Time) (*question, string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if token == "" {
		return nil, noToken
	}
	a := q.find(token, now)
	switch {
	case a == nil || a.question == nil:
		return nil, unknownToken
	case a.used:
		return a.question, usedToken
	case a.question.Type != "" && strings.TrimSpace(typed) != strings.TrimSpace(a.question.Type):
		return a.question, "What was typed is not " + a.question.Type + ". Nothing was done."
	}
	a.used = true
	return a.question, ""
}

// asks returns the page of an action.
func (s *site) asks(a action) func(*request) (*page, error) {
	return func(r *request) (*page, error) {
		q, err := a.ask(r)
		if err != nil {
			return nil, err
		}
		p := &page{Title: q.Title, Template: "ask", Body: q}
		if q.do != nil {
			q.Post, q.path, q.query = r.to("do"), a.path, r.URL.Query()
			q.query.Del("auto") // of a page that has waited for the server
			q.Token = s.questions.add(asked{question: q}, time.Now())
		}
		if q.command != nil {
			p.Command = q.command(q.first())
		}
		return p, nil
	}
}

// refusedWith reports whether the server refused with a code.
func refusedWith(err error, code string) bool {
	refused := (*adminapi.Error)(nil)
	return errors.As(err, &refused) && refused.Code == code
}

// first returns the value that is chosen at first.
func (q *question) first() string {
	if len(q.Choice.Options) == 0 {
		return ""
	}
	return q.Choice.Options[0].Value
}

// offers reports whether the choice has a value, or whether there is no choice. How long a secret that has leaked goes on must
// not depend on a form that was changed on its way.
func (q *question) offers(value string) bool {
	return len(q.Choice.Options) == 0 || slices.ContainsFunc(q.Choice.Options, func(o option) bool { return o.Value == value })
}

// again returns the link to a new question.
func (q *question) again(r *request) cell {
	return cell{Text: "Look again", Href: r.base + q.path + "?" + q.query.Encode()}
}
