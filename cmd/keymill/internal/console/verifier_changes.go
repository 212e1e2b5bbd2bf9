package console

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/issuer/api"
)

// askAddVerifier returns the question whether to pin a verifier.
func (s *site) askAddVerifier(r *request) (*question, error) {
	name := r.field("name")
	if name == "" {
		return nil, badInput{"Write the name of the verifier: 1 to 63 of a-z, 0-9, - and _."}
	}
	pinned, _, err := adminapi.AskAll(r.Context(), s.server, "verifiers", func(v api.Verifier) string { return v.Name })
	number := cell{Text: strconv.Itoa(len(pinned))}
	if err != nil {
		number, err = notKnown(err)
	}
	switch {
	case err != nil:
		return nil, err
	case slices.ContainsFunc(pinned, func(v api.Verifier) bool { return v.Name == name }):
		return nil, badInput{"The verifier " + whole(name) + " is pinned already."}
	}
	q := &question{
		Title: "Add verifier " + short(name), back: r.to("verifiers"),
		Words: []string{"The service gets a URL of the key set of its own, on the next page. The server then follows which keys it was served. Once it comes regularly, a rotation by hand waits for it."},
		Facts: []fact{{"Verifier", cell{Text: whole(name), Kind: "id"}}, {"Pinned now", number}},
	}
	q.Button = q.Title
	q.command = func(string) string { return s.command("verifier", "add", name) }
	q.do = func(ctx context.Context, _ string) (*done, error) {
		v, _, err := adminapi.Ask[api.Verifier](ctx, s.server, http.MethodPost, "verifiers", api.NewVerifier{Name: name})
		if err == nil && v.URL == "" {
			err = errUnclear
		}
		return &done{note: "The verifier is pinned. Give this URL to the service. It can be shown again: " + s.command("verifier", "show", name), facts: []fact{
			{"URL of its key set", cell{Text: whole(v.URL), Kind: "id"}},
		}}, err
	}
	return q, nil
}

// askRemoveVerifier returns the question whether to forget a verifier.
func (s *site) askRemoveVerifier(r *request) (*question, error) {
	v, tag, err := adminapi.Tagged[api.Verifier](r.Context(), s.server, "verifier?"+url.Values{"name": {r.field("name")}}.Encode())
	if err != nil {
		return nil, err
	}
	q := &question{
		Title: "Remove verifier " + short(v.Name), back: r.to("verifiers"), Type: whole(v.Name),
		Facts: []fact{
			{"Verifier", cell{Text: whole(v.Name), Kind: "id"}}, {"Last served", instant(v.Last, r.now)}, {"Keys that it lacks", lacks(v.Missing)},
			{"A rotation waits for it", cell{Text: map[bool]string{true: "yes", false: "no"}[v.Waited]}},
		},
	}
	s.fill(q, change{
		consequence: "The verifier is forgotten: no rotation waits for it from now on. Its URL goes on working: the service gets the same key set, and is observed like any other. When it was served which keys is forgotten. If the name is added again, the URL names it again.",
		method:      http.MethodDelete, path: "verifier", command: []string{"verifier", "remove"}, note: "Removed verifier " + whole(v.Name) + ".",
	}, "name", v.Name, tag)
	return q, nil
}

// askSession returns the question whether to end a session. The API shows no single session, so it is looked for
// among the newest of its user and client.
func (s *site) askSession(r *request) (*question, error) {
	name, user, client := r.field("id"), r.field("user"), r.field("client")
	query := url.Values{"limit": {strconv.Itoa(maxCounted)}}
	for parameter, value := range map[string]string{"user": user, "client": client} {
		if value != "" {
			query.Set(parameter, value)
		}
	}
	list, err := get[api.SessionPage](r, s, "sessions", query)
	if err != nil {
		return nil, err
	}
	for _, e := range list.Sessions {
		switch {
		case e.ID == name && e.State == "live":
			return s.endSession(r, e), nil
		case e.ID == name:
			return nil, badInput{"The session " + whole(name) + " has ended already: it is " + short(e.State) + "."}
		}
	}
	return nil, badInput{"The session " + whole(name) + " is not among the newest " + strconv.Itoa(maxCounted) + " that match. End it in a terminal: " + s.command("session", "revoke", name)}
}

func (s *site) endSession(r *request, e api.Session) *question {
	q := &question{
		Title: "End session " + short(e.ID), back: r.to("sessions", "user", "id:"+e.User),
		Facts: []fact{
			{"Session", cell{Text: whole(e.ID), Kind: "id"}}, {"State", sessionState(e)}, {"User", idLink(e.User, r.to("user", "user", "id:"+e.User))},
			{"Client", idLink(e.Client, r.to("client", "id", e.Client))}, {"Began", instant(&e.Created, r.now)}, {"Last used", instant(&e.LastUsed, r.now)},
			{"Ends by itself", instant(&e.Expires, r.now)}, {"Refreshes", cell{Text: strconv.FormatUint(uint64(e.Generation), 10)}},
		},
	}
	s.fill(q, change{
		consequence: "The session ends: its refresh token is refused from now on, and the user must log in again there." + tokensStay,
		method:      http.MethodDelete, path: "session", member: "session_id", command: []string{"session", "revoke"}, id: e.ID, note: "Ended session " + whole(e.ID) + ".",
	}, "id", e.ID, e.State)
	return q
}
