package console

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/issuer/adminscope"
	"keymill/issuer/api"
)

// change is a question about one entry that leads to one request.
type change struct {
	verb        string // of the title and the button
	consequence string
	typed       bool // the name must be typed
	shuts       bool // no one can log in through the client any longer
	method      string
	path        string // of the request, without the parameter
	body        any
	tagged      bool     // the request takes If-Match
	member      string   // of the answer, which has the id of the entry; "" if the answer is empty
	id          string   // of the entry
	command     []string // without the name
	note        string   // without the name of the entry
	to          string   // the page afterwards, if the entry has none
}

const tokensStay = " Access tokens that exist stay valid until they expire."

// clientChanges are the changes of one client, by their name in the path.
var clientChanges = map[string]change{
	"disable": {verb: "Disable", shuts: true, consequence: "The client gets no tokens any longer, and its sessions end. It can be enabled again; the sessions do not come back." + tokensStay,
		method: http.MethodPatch, path: "client", member: "client_id", body: api.ClientChange{Disabled: new(true)}, tagged: true, command: []string{"client", "disable"}, note: "Disabled client"},
	"enable": {verb: "Enable", consequence: "The client gets tokens again. Sessions that ended do not come back.",
		method: http.MethodPatch, path: "client", member: "client_id", body: api.ClientChange{Disabled: new(false)}, tagged: true, command: []string{"client", "enable"}, note: "Enabled client"},
	"logout": {verb: "End the sessions of", consequence: "All sessions of the client end, and its users must log in again." + tokensStay,
		method: http.MethodPost, path: "sessions/revoke", command: []string{"session", "revoke", "--client"}, note: "Ended the sessions of client"},
	"remove": {verb: "Remove", consequence: "The client is removed, and its sessions end. Its id becomes free. It cannot be undone." + tokensStay, typed: true, shuts: true,
		method: http.MethodDelete, path: "client", tagged: true, command: []string{"client", "remove"}, note: "Removed client"},
}

// userChanges are the changes of one user.
var userChanges = map[string]change{
	"disable": {verb: "Disable", consequence: "The user cannot log in any longer, and the user's sessions end. The user can be enabled again; the sessions do not come back." + tokensStay,
		method: http.MethodPatch, path: "user", member: "user_id", body: api.UserChange{Disabled: new(true)}, tagged: true, command: []string{"user", "disable"}, note: "Disabled user"},
	"enable": {verb: "Enable", consequence: "The user can log in again. Sessions that ended do not come back.",
		method: http.MethodPatch, path: "user", member: "user_id", body: api.UserChange{Disabled: new(false)}, tagged: true, command: []string{"user", "enable"}, note: "Enabled user"},
	"logout": {verb: "Log out", consequence: "All sessions of the user end, at all clients. The user may log in again at once." + tokensStay,
		method: http.MethodPost, path: "user/logout", member: "user_id", command: []string{"user", "logout"}, note: "Ended the sessions of user"},
	"unblock": {verb: "Unblock", consequence: "The failed logins of the user are forgotten, so the user can log in from every address at once. Someone may be guessing the password.",
		method: http.MethodPost, path: "user/unblock", member: "user_id", command: []string{"user", "unblock"}, note: "Unblocked user"},
	"remove": {verb: "Remove", consequence: "The user is removed, and the user's sessions end. The name and the id become free. To keep another user from getting the id, disable the user instead. It cannot be undone." + tokensStay, typed: true,
		method: http.MethodDelete, path: "user", tagged: true, command: []string{"user", "remove"}, note: "Removed user"},
}

// maxCounted is how many sessions are read to count those that are live.
const maxCounted = 1000

// liveSessions counts the live sessions of a client or a user.
func (s *site) liveSessions(r *request, of, value string) (cell, error) {
	list, err := get[api.SessionPage](r, s, "sessions", url.Values{of: {value}, "limit": {strconv.Itoa(maxCounted)}})
	if err != nil {
		return notKnown(err)
	}
	n := 0
	for _, e := range list.Sessions {
		if e.State == "live" {
			n++
		}
	}
	if list.More {
		return cell{Text: strconv.Itoa(n) + " or more", Hint: fmt.Sprintf("of the newest %d", len(list.Sessions))}, nil
	}
	return cell{Text: strconv.Itoa(n)}, nil
}

// logins says whether users log in through a client.
func (s *site) logins(r *request, id string) (cell, error) {
	list, err := get[[]api.Setting](r, s, "settings", nil)
	if err != nil {
		return notKnown(err)
	}
	var by []string
	for _, e := range list {
		if e.Value == id && (e.Name == "session.client" || e.Name == "simplejwt.client") {
			by = append(by, e.Name)
		}
	}
	if by == nil {
		return cell{Text: "no"}, nil
	}
	return cell{Text: "yes", Kind: "bad", Hint: "setting " + strings.Join(by, " and ")}, nil
}

// fill completes the question of a change. name is in the command line and in the request. For a request that takes no
// If-Match, the tag is compared before.
func (s *site) fill(q *question, c change, parameter, name, tag string) {
	q.Words, q.Button, q.state = []string{c.consequence}, q.Title, tag
	q.command = func(string) string { return s.commandAbout(name, c.command...) }
	path, only := c.path, ""
	if parameter != "" {
		path += "?" + url.Values{parameter: {name}}.Encode()
	}
	if c.tagged {
		only = tag
	}
	q.do = func(ctx context.Context, _ string) (*done, error) {
		raw, err := s.server.Change(ctx, c.method, path, only, c.body)
		var warnings []string
		if err == nil && c.member != "" {
			warnings, err = says(raw, c.member, c.id)
		}
		return &done{note: warn(c.note, warnings), to: c.to}, err
	}
}

// askClient returns the question of a change of one client.
func (s *site) askClient(c change) func(*request) (*question, error) {
	return func(r *request) (*question, error) {
		x, tag, err := adminapi.Tagged[api.Client](r.Context(), s.server, "client?"+url.Values{"id": {r.field("id")}}.Encode())
		if err != nil {
			return nil, err
		}
		live, err := s.liveSessions(r, "client", x.ID)
		if err != nil {
			return nil, err
		}
		logins, err := s.logins(r, x.ID)
		if err != nil {
			return nil, err
		}
		q := &question{Title: c.verb + " client " + short(x.ID), back: r.to("client", "id", x.ID), Facts: []fact{
			{"Client", cell{Text: whole(x.ID), Kind: "id"}}, {"State", clientState(x)}, {"Live sessions", live}, {"Users log in through it", logins}, {"Audiences", all(x.Audiences)},
		}}
		c, parameter := c, "id"
		if slices.Contains(x.Audiences, adminscope.Audience) {
			c.consequence = strings.Replace(c.consequence, tokensStay, " Its access tokens for the admin API end at once.", 1)
		}
		if logins.Text == "yes" && c.shuts {
			c.consequence += " Users log in through this client: from then on no one can log in there."
		}
		c.id, c.note = x.ID, c.note+" "+whole(x.ID)+"."
		if c.path == "sessions/revoke" {
			c.body, parameter = api.RevokeSessionsRequest{Client: x.ID}, ""
		}
		if c.typed {
			q.Type, c.to = whole(x.ID), r.to("clients")
		}
		s.fill(q, c, parameter, x.ID, tag)
		return q, nil
	}
}

// oldTimes are how long an old secret can go on.
var oldTimes = choice{"The old secret works for", []option{{"24h", "24 hours more"}, {"1h", "1 hour more"}, {"168h", "7 days more"}, {"0s", "0 seconds: it has leaked"}}}

func (s *site) askSecret(r *request) (*question, error) {
	x, tag, err := adminapi.Tagged[api.Client](r.Context(), s.server, "client?"+url.Values{"id": {r.field("id")}}.Encode())
	if err != nil {
		return nil, err
	}
	if x.Public {
		return nil, badInput{"This client is public and has no secret."}
	}
	q := &question{
		Title: "Rotate the secret of " + short(x.ID), Button: "Make a new secret", back: r.to("client", "id", x.ID), state: tag, Choice: oldTimes,
		Words: []string{"The client gets a new secret. It is shown once, on the next page. The old one works as long as you choose; one that is older ends at once."},
		Facts: []fact{{"Client", cell{Text: whole(x.ID), Kind: "id"}}, {"State", clientState(x)}, {"Older secret works until", instant(x.OldSecretUntil, r.now)}},
	}
	q.command = func(old string) string { return s.commandAbout(x.ID, "client", "rotate-secret", "--old-for", old) }
	q.do = func(ctx context.Context, old string) (*done, error) {
		path := "client/secret?" + url.Values{"id": {x.ID}}.Encode()
		answer, _, err := adminapi.Ask[api.Client](ctx, s.server, http.MethodPost, path, api.RotateSecretRequest{OldFor: old})
		if err == nil && answer.Secret == "" {
			err = errUnclear
		}
		return &done{note: "The client has a new secret. Copy it now: it is not shown again.", facts: []fact{
			{"Secret", cell{Text: whole(string(answer.Secret)), Kind: "id"}}, {"Old secret works until", oldUntil(answer.OldSecretUntil)},
		}}, err
	}
	return q, nil
}

// oldUntil says when an old secret ends.
func oldUntil(t *time.Time) cell {
	if t == nil {
		return cell{Text: "it has ended"}
	}
	return instant(t, time.Now())
}

// askUser returns the question of a change of one user.
func (s *site) askUser(c change) func(*request) (*question, error) {
	return func(r *request) (*question, error) {
		u, tag, err := adminapi.Tagged[api.UserDetails](r.Context(), s.server, "user?"+url.Values{"user": {r.field("user")}}.Encode())
		if err != nil {
			return nil, err
		}
		exact := "id:" + u.ID
		live, err := s.liveSessions(r, "user", exact)
		if err != nil {
			return nil, err
		}
		q := &question{Title: c.verb + " user " + short(u.Name), back: r.to("user", "user", exact), Facts: []fact{
			{"Id", cell{Text: whole(u.ID), Kind: "id"}}, {"Name", cell{Text: whole(u.Name)}}, {"State", userState(u.User)},
			{"Live sessions", live}, {"Wrong passwords", cell{Text: strconv.Itoa(u.RecentFailures), Hint: "in 15 minutes"}},
			{"Refused addresses", cell{Text: strconv.Itoa(len(u.Blocked))}},
		}}
		c := c
		c.id, c.note = u.ID, c.note+" "+whole(u.Name)+"."
		if c.typed {
			q.Type, c.to = whole(u.Name), r.to("users")
		}
		s.fill(q, c, "user", exact, tag)
		return q, nil
	}
}

// clientLinks returns the links of a client's page that lead to a change.
func clientLinks(r *request, c api.Client) []cell {
	to := func(text, verb string) cell { return cell{Text: text + "…", Href: r.to("client/"+verb, "id", c.ID)} }
	links := []cell{to("Disable", "disable")}
	if c.Disabled {
		links = []cell{to("Enable", "enable")}
	}
	if !c.Public {
		links = append(links, to("Rotate secret", "secret"))
	}
	return append(links, to("End its sessions", "logout"), to("Remove", "remove"))
}

// userLinks returns the links of a user's page that lead to a change.
func userLinks(r *request, u api.UserDetails) []cell {
	to := func(text, verb string) cell {
		return cell{Text: text + "…", Href: r.to("user/"+verb, "user", "id:"+u.ID)}
	}
	links := []cell{to("Disable", "disable")}
	if u.Disabled {
		links = []cell{to("Enable", "enable")}
	}
	return append(links, to("Log out", "logout"), to("Unblock", "unblock"), to("Remove", "remove"))
}
