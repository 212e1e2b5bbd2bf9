package console

import (
	"maps"
	"net/url"
	"slices"
	"strconv"

	"keymill/issuer/api"
)

// A listBody is the body of a page with one list, and perhaps a form that finds entries.
type listBody struct {
	Form  []input
	Path  string // where the form leads
	Table table
}

// An input is a field of a form.
type input struct {
	Name, Label, Value, Hint string
}

func (s *site) clients(r *request) (*page, error) {
	clients, next, err := getPage(r, s, "clients", func(c api.Client) string { return c.ID })
	t := table{
		Caption: "Clients", Titled: true, Empty: "There are no clients.",
		Columns: []string{"Client", "State", "Kind", "Grants", "Audiences", "Scopes", "Created"},
	}
	for _, c := range clients {
		t.Rows = append(t.Rows, []cell{
			idLink(c.ID, r.to("client", "id", c.ID)), clientState(c), {Text: clientKind(c)},
			list(c.Grants), list(c.Audiences), list(c.Scopes), instant(&c.Created, r.now),
		})
	}
	if next != "" {
		t.More, t.MoreIs = r.to("clients", "after", next), "Next clients"
	}
	return &page{Title: "Clients", Template: "list", Body: listBody{Table: t}, Command: s.command("client", "list")}, err
}

func clientState(c api.Client) cell {
	switch why := c.Useless(); {
	case c.Disabled:
		return state("bad", "disabled")
	case why != "":
		return cell{Text: "can do nothing", Kind: "bad", Hint: why}
	}
	return state("good", "enabled")
}

func clientKind(c api.Client) string {
	if c.Public {
		return "public"
	}
	return "confidential"
}

// A thing is the body of the page about one client or one user.
type thing struct {
	Facts   []fact
	Links   []cell
	Changes []cell // links to what can be changed
	Table   table
}

func (s *site) client(r *request) (*page, error) {
	name := r.field("id")
	c, err := get[api.Client](r, s, "client", url.Values{"id": {name}})
	if err != nil {
		return nil, err
	}
	body := thing{Facts: []fact{
		{"Client", cell{Text: whole(c.ID), Kind: "id"}}, {"State", clientState(c)}, {"Kind", cell{Text: clientKind(c)}},
		{"Created", instant(&c.Created, r.now)}, {"Old secret works until", instant(c.OldSecretUntil, r.now)},
		{"Grants", all(c.Grants)}, {"Audiences", all(c.Audiences)}, {"Scopes", all(c.Scopes)},
		{"Origins", all(c.Origins)}, {"May introspect", all(c.Introspect)},
		{"Grace", setting(c.Grace)}, {"Idle", setting(c.Idle)}, {"Absolute", setting(c.Absolute)},
	}}
	body.Facts = append(body.Facts, claimFacts(c.Claims)...)
	body.Links = []cell{{Text: "Its sessions", Href: r.to("sessions", "client", c.ID)}, {Text: "Its audit records", Href: r.to("audit", "client", c.ID)}}
	body.Changes = clientLinks(r, c)
	return &page{Title: "Client " + short(c.ID), Template: "thing", Body: body, Command: s.commandAbout(c.ID, "client", "show")}, nil
}

// all shows a whole list.
func all(items []string) cell {
	text := ""
	for i, item := range items {
		if i > 0 {
			text += ", "
		}
		text += whole(item)
	}
	if text == "" {
		return none()
	}
	return cell{Text: text}
}

func setting(s string) cell {
	if s == "" {
		return cell{Text: "as configured", Kind: "dull"}
	}
	return words(s)
}

// claimFacts shows claims, each with its value.
func claimFacts(claims api.Claims) (facts []fact) {
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		facts = append(facts, fact{"Claim " + short(name), cell{Text: whole(string(claims[name])), Kind: "id"}})
	}
	return facts
}

// claimNames returns the names of the claims that an audience adds to its tokens, and those that it maps.
func claimNames(a api.Audience) []string {
	return slices.Concat(slices.Sorted(maps.Keys(a.Claims)), slices.Sorted(maps.Keys(a.ClaimMap)))
}

func (s *site) audiences(r *request) (*page, error) {
	audiences, next, err := getPage(r, s, "audiences", func(a api.Audience) string { return a.Name })
	t := table{
		Caption: "Audiences", Titled: true, Empty: "There are no audiences.",
		Columns: []string{"Audience", "Algorithm", "Type", "Tokens live", "Profile", "Scopes", "Claims"},
	}
	for _, a := range audiences {
		t.Rows = append(t.Rows, []cell{id(a.Name), words(a.Alg), words(a.Type), {Text: duration(a.TTL)}, words(a.Profile), list(a.Scopes), list(claimNames(a))})
	}
	if next != "" {
		t.More, t.MoreIs = r.to("audiences", "after", next), "Next audiences"
	}
	return &page{Title: "Audiences", Template: "list", Body: listBody{Table: t}, Command: s.command("audience", "list")}, err
}

func (s *site) users(r *request) (*page, error) {
	users, next, err := getPage(r, s, "users", func(u api.User) string { return u.ID })
	t := table{
		Caption: "Users, by id", Empty: "There are no users.",
		Columns: []string{"Id", "Name", "State", "Password", "Created", "Last login"},
	}
	for _, u := range users {
		t.Rows = append(t.Rows, []cell{
			id(u.ID), {Text: short(u.Name), Kind: "long", Href: r.to("user", "user", "id:"+u.ID)}, userState(u), words(u.Scheme),
			instant(&u.Created, r.now), instant(u.LastLogin, r.now),
		})
	}
	if next != "" {
		t.More, t.MoreIs = r.to("users", "after", next), "Next users"
	}
	body := listBody{Table: t, Path: r.to("user"), Form: []input{{"user", "Find a user", "", "a name, or id: and an id"}}}
	return &page{Title: "Users", Template: "list", Body: body, Command: s.command("user", "list")}, err
}

func userState(u api.User) cell {
	if u.Disabled {
		return state("bad", "disabled")
	}
	return state("good", "enabled")
}

func (s *site) user(r *request) (*page, error) {
	name := r.field("user")
	if name == "" {
		return nil, badInput{"Write the name of a user, or id: and an id."}
	}
	u, err := get[api.UserDetails](r, s, "user", url.Values{"user": {name}})
	if err != nil {
		return nil, err
	}
	body := thing{Facts: []fact{
		{"Id", cell{Text: whole(u.ID), Kind: "id"}}, {"Name", cell{Text: whole(u.Name)}}, {"State", userState(u.User)},
		{"Password", words(u.Scheme)}, {"Password changed", instant(u.PasswordChanged, r.now)},
		{"Created", instant(&u.Created, r.now)}, {"Last login", instant(u.LastLogin, r.now)},
		{"Wrong passwords", cell{Text: strconv.Itoa(u.RecentFailures), Hint: "in 15 minutes"}},
		{"Logins are slowed until", instant(u.DrawnUntil, r.now)},
	}}
	body.Facts = append(body.Facts, claimFacts(u.Claims)...)
	body.Table = table{Caption: "Addresses whose logins are refused", Columns: []string{"From", "Until"}}
	for _, b := range u.Blocked {
		body.Table.Rows = append(body.Table.Rows, []cell{id(b.From), instant(&b.Until, r.now)})
	}
	exact := "id:" + u.ID
	body.Links = []cell{{Text: "Sessions", Href: r.to("sessions", "user", exact)}, {Text: "Audit records", Href: r.to("audit", "user", exact)}}
	body.Changes = userLinks(r, u)
	return &page{Title: "User " + short(u.Name), Template: "thing", Body: body, Command: s.command("user", "show", exact)}, nil
}
