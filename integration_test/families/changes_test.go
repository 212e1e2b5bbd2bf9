package families

import (
	"net/netip"
	"slices"
	"time"

	"keymill/issuer/api"

	"pgregory.net/rapid"
)

// lifetimes gives a client other lifetimes.
func (l *life) lifetimes(t *rapid.T) {
	id := pick(t, "client", clientIDs)
	if _, registered := l.model.clients[id]; !registered {
		t.Skip("the client is not registered")
	}
	grace := pick(t, "grace", []time.Duration{0, time.Second, 30 * time.Second, 10 * time.Minute})
	idle := pick(t, "idle", []time.Duration{time.Hour, 2 * time.Hour, 6 * time.Hour})
	absolute := pick(t, "absolute", []time.Duration{8 * time.Hour, 12 * time.Hour, 48 * time.Hour})
	_, err := l.real.SetClient(ctx(), id, api.ClientChange{
		Grace: text(grace), Idle: text(idle), Absolute: text(absolute),
	}, by)
	l.real.must(err)
	l.model.change(id, time.Now(), func(c *program) { c.grace, c.idle, c.absolute = grace, idle, absolute })
}

func text(d time.Duration) *string {
	s := d.String()
	return &s
}

// allowances takes audiences and scopes from a client, or returns them to it.
func (l *life) allowances(t *rapid.T) {
	id := pick(t, "client", clientIDs)
	if _, registered := l.model.clients[id]; !registered {
		t.Skip("the client is not registered")
	}
	audiences := pick(t, "audiences", [][]string{fresh.audiences, fresh.audiences, {"orders"}, {"mail"}})
	var scopes []string
	for _, name := range audiences {
		scopes = append(scopes, scopesOf[name]...)
	}
	slices.Sort(scopes)
	if scopes = slices.Compact(scopes); rapid.Bool().Draw(t, "few scopes") {
		scopes = []string{"read"}
	}
	l.allow(id, audiences, scopes)
}

func (l *life) allow(id string, audiences, scopes []string) {
	_, err := l.real.SetClient(ctx(), id, api.ClientChange{Audiences: &audiences, Scopes: &scopes}, by)
	l.real.must(err)
	l.model.change(id, time.Now(), func(c *program) { c.audiences, c.scopes = audiences, scopes })
}

// narrow gives a client one audience, logs in, and gives it another audience instead.
func (l *life) narrow(t *rapid.T) {
	id := pick(t, "client", clientIDs)
	if _, registered := l.model.clients[id]; !registered {
		t.Skip("the client is not registered")
	}
	l.allow(id, []string{"mail"}, []string{"read"})
	l.login(t)
	l.allow(id, []string{"orders"}, []string{"read"})
	if len(l.issued) > 0 {
		l.show(t, l.issued[len(l.issued)-1], l.plain(l.issued[len(l.issued)-1]))
	}
	l.allow(id, fresh.audiences, fresh.scopes)
}

// revoke presents a token to end its family, sometimes as another client.
func (l *life) revoke(t *rapid.T) {
	shown, client := l.pickToken(t), pick(t, "client", clientIDs)
	c, registered := l.model.clients[client]
	err := l.real.Revoke(ctx(), public(client), shown.text, netip.Addr{})
	if code := l.real.codeOf(err); (code == "invalid_client") != (!registered || c.disabled) {
		t.Fatalf("a revocation by client %s was answered %q", client, code)
	}
	if err == nil {
		l.ended(func(id string, f lineage) bool { return id == shown.family && f.client == client })
	}
}

// end revokes sessions as an administrator does.
func (l *life) end(t *rapid.T) {
	switch pick(t, "what", []string{"one", "one", "client", "all"}) {
	case "one":
		id := l.pickToken(t).family
		if _, err := l.real.RevokeSession(ctx(), id, by); l.real.codeOf(err) == "" {
			l.ended(func(other string, _ lineage) bool { return other == id })
		}
	case "client":
		client := pick(t, "client", clientIDs)
		if err := l.real.RevokeClientSessions(ctx(), client, by); l.real.codeOf(err) == "" {
			l.ended(func(_ string, f lineage) bool { return f.client == client })
		}
	case "all":
		l.real.must(l.real.RevokeAllSessions(ctx(), by))
		l.ended(func(string, lineage) bool { return true })
	}
}

func (l *life) ended(which func(id string, f lineage) bool) {
	l.tally.ended++
	l.model.end(which)
}

// user makes a change of a user that ends all its sessions, or adds the user again.
func (l *life) user(t *rapid.T) {
	name := pick(t, "user", userNames)
	p, registered := l.model.users[name]
	if !registered {
		l.addUser(name)
		return
	}
	var err error
	what := "disable"
	if !p.disabled {
		what = pick(t, "what", []string{"disable", "logout", "remove", "password"})
	}
	switch what {
	case "disable":
		disabled := !p.disabled
		_, err = l.real.SetUser(ctx(), name, api.UserChange{Disabled: &disabled}, by)
		l.model.users[name] = person{disabled}
	case "logout":
		_, err = l.real.LogoutUser(ctx(), name, by)
	case "remove":
		err = l.real.RemoveUser(ctx(), name, by)
		delete(l.model.users, name)
	case "password":
		_, err = l.real.SetPassword(ctx(), name, "correct horse battery staple", by)
	}
	l.real.must(err)
	l.ended(func(_ string, f lineage) bool { return f.user == name })
}

// client disables, enables or removes a client, or adds it again.
func (l *life) client(t *rapid.T) {
	id := pick(t, "client", clientIDs)
	c, registered := l.model.clients[id]
	if !registered {
		l.addClient(id)
		return
	}
	if !c.disabled && rapid.Bool().Draw(t, "remove") {
		l.real.must(l.real.RemoveClient(ctx(), id, by))
		delete(l.model.clients, id)
	} else {
		disabled := !c.disabled
		_, err := l.real.SetClient(ctx(), id, api.ClientChange{Disabled: &disabled}, by)
		l.real.must(err)
		l.model.change(id, time.Now(), func(c *program) { c.disabled = disabled })
	}
	l.ended(func(_ string, f lineage) bool { return f.client == id })
}

func (l *life) addUser(name string) {
	l.nextMoment()
	_, err := l.real.AddUser(ctx(), api.NewUser{ID: name, Name: name}, by)
	l.real.must(err)
	l.model.users[name] = person{}
}

func (l *life) addClient(id string) {
	l.nextMoment()
	_, err := l.real.AddClient(ctx(), api.NewClient{
		ID: id, Public: true, Grants: []string{"refresh_token"}, Audiences: fresh.audiences, Scopes: fresh.scopes,
		Grace: fresh.grace.String(), Idle: fresh.idle.String(), Absolute: fresh.absolute.String(),
	}, by)
	l.real.must(err)
	l.model.clients[id] = fresh
}

// nextMoment lets time pass. Epochs are instants, and outside a bubble no two events happen in the same
// nanosecond.
func (l *life) nextMoment() {
	time.Sleep(time.Millisecond)
	if time.Now().Truncate(time.Second).Equal(time.Now()) {
		time.Sleep(time.Millisecond)
	}
}
