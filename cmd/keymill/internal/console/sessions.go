package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// sessionsBody is the body of the page of sessions.
type sessionsBody struct {
	listBody
	Why string // where a token is posted to
}

func (s *site) sessions(r *request) (*page, error) {
	query := url.Values{"limit": {strconv.Itoa(pageRows)}}
	words := []string{"session", "list"}
	for _, name := range []string{"user", "client", "after"} {
		if value := r.field(name); value != "" {
			query.Set(name, value)
			words = append(words, "--"+name, value)
		}
	}
	answer, err := get[api.SessionPage](r, s, "sessions", query)
	if err != nil {
		return nil, err
	}
	t := table{
		Caption: "Sessions, newest first", Empty: "There are no such sessions.",
		Columns: []string{"Session", "User", "Client", "State", "Began", "Last used", "Ends", "Refreshes", "Retries", "Change"},
	}
	for _, e := range answer.Sessions {
		end := none()
		if e.State == "live" {
			end = cell{Text: "End…", Href: r.to("session/revoke", "id", e.ID, "user", "id:"+e.User, "client", e.Client)}
		}
		t.Rows = append(t.Rows, []cell{
			id(e.ID), idLink(e.User, r.to("user", "user", "id:"+e.User)), idLink(e.Client, r.to("client", "id", e.Client)), sessionState(e),
			instant(&e.Created, r.now), instant(&e.LastUsed, r.now), instant(&e.Expires, r.now),
			{Text: strconv.FormatUint(uint64(e.Generation), 10)}, retries(e), end,
		})
	}
	if answer.Next != "" {
		t.More, t.MoreIs = r.to("sessions", "user", r.field("user"), "client", r.field("client"), "after", answer.Next), "Older sessions"
	}
	body := sessionsBody{listBody: listBody{Table: t, Path: r.to("sessions"), Form: []input{
		{"user", "User", whole(r.field("user")), "a name, or id: and an id"}, {"client", "Client", whole(r.field("client")), "its id"},
	}}, Why: r.to("sessions/why")}
	return &page{Title: "Sessions", Template: "sessions", Body: body, Command: s.command(words...)}, nil
}

func sessionState(e api.Session) cell {
	switch e.State {
	case "live":
		return state("good", e.State)
	case "revoked":
		return cell{Text: e.State, Kind: "bad", Hint: whole(e.Reason)}
	}
	return cell{Text: short(e.State), Kind: "dull", Hint: whole(e.Reason)}
}

func retries(e api.Session) cell {
	c := cell{Text: strconv.Itoa(e.Graced)}
	if e.Shared {
		c.Kind, c.Hint = "bad", "shared"
	}
	return c
}

// why explains a refresh token. The token comes in the body of a POST, so that no history and no log has it, and
// it is not part of the answer.
func (s *site) why(r *request) (*page, error) {
	if r.ParseForm() != nil {
		return nil, badInput{fmt.Sprintf("This is no refresh token: it is longer than %d kB, or no form.", maxBodyBytes>>10)}
	}
	token := strings.TrimSpace(r.PostForm.Get("token"))
	if token == "" {
		return nil, badInput{"Paste a refresh token."}
	}
	e, _, err := adminapi.Ask[api.Explanation](r.Context(), s.server, http.MethodPost, "session/why", api.ExplainRequest{Token: refusal.Secret(token)})
	if err != nil {
		return nil, err
	}
	verdict := state("bad", "refused: "+e.State)
	if e.Accepted {
		verdict = state("good", "accepted: "+e.State)
	}
	body := thing{Facts: []fact{{"A refresh now", verdict}, {"Why", cell{Text: whole(e.Why)}}}}
	if e.Generation != nil {
		body.Facts = append(body.Facts, fact{"Token", cell{Text: "generation " + strconv.FormatUint(uint64(*e.Generation), 10)}})
	}
	if x := e.Session; x != nil {
		body.Facts = append(body.Facts,
			fact{"Session", id(x.ID)}, fact{"Its state", sessionState(*x)},
			fact{"User", idLink(x.User, r.to("user", "user", "id:"+x.User))}, fact{"Client", idLink(x.Client, r.to("client", "id", x.Client))},
			fact{"Current", cell{Text: "generation " + strconv.FormatUint(uint64(x.Generation), 10)}},
			fact{"Began", instant(&x.Created, r.now)}, fact{"Last used", instant(&x.LastUsed, r.now)},
			fact{"Ends", instant(&x.Expires, r.now)}, fact{"Ended", instant(x.Ended, r.now)})
	}
	body.Links = []cell{{Text: "Ask about another token", Href: r.to("sessions")}}
	return &page{Title: "Why", Template: "thing", Body: body, Command: s.command("session", "why", "-")}, nil
}
