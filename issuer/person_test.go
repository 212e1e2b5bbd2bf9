package issuer

import (
	"context"
	"net/netip"
	"slices"

	"keymill/issuer/api"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
)

// A person is a user with a session at client "web", and the last Grant.
type person struct {
	w     *world
	user  string
	grant Grant
}

const testPassword = "correct horse battery staple"

var (
	home = netip.MustParseAddr("192.0.2.1")
	cafe = netip.MustParseAddr("198.51.100.7")
)

// web adds the audiences and the public client of the tests.
func (w *world) web(change ...func(*api.NewClient)) {
	w.t.Helper()
	w.audience("orders", "read", "write")
	w.audience("stock", "count", "read")
	c := api.NewClient{
		ID: "web", Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"orders"}, Scopes: []string{"read", "write"},
	}
	for _, f := range change {
		f(&c)
	}
	if _, err := w.AddClient(w.t.Context(), c, "uid:0"); err != nil {
		w.t.Fatal(err)
	}
}

// djangoHash is a hash of testPassword with the parameters of Django 3.2.
const djangoHash = refusal.Secret("pbkdf2_sha256$260000$qHQro0ON1fDe3dPbwqCuFJ$Xrk4HtgZ0f3rVFVmMJDl7wxjgu9mgKnaaYeaTKbevwM=")

func (w *world) user(name, id string) {
	w.t.Helper()
	u := api.NewUser{ID: id, Name: name}
	if _, err := w.AddUser(w.t.Context(), u, "uid:0"); err != nil {
		w.t.Fatal(err)
	}
}

// begin starts a session of a user, as a login does after the password.
func (w *world) begin(user string) *person {
	w.t.Helper()
	g, err := w.StartSession(w.t.Context(), SessionRequest{User: user, Client: "web", Endpoint: LoginBrowser, From: home})
	if err != nil {
		w.t.Fatal(err)
	}
	return &person{w, user, g}
}

// refresh presents a token as client web does, from home.
func (w *world) refresh(token refusal.Secret, change ...func(*TokenRequest)) (Grant, error) {
	req := TokenRequest{
		GrantType: "refresh_token", Client: Credentials{ClientID: "web", Method: "none"}, Refresh: token, From: home,
	}
	for _, f := range change {
		f(&req)
	}
	return w.Token(w.t.Context(), req)
}

// rotate presents the newest refresh token and returns it. The person keeps the answer.
func (p *person) rotate() refusal.Secret {
	p.w.t.Helper()
	old := p.grant.Refresh
	g, err := p.w.refresh(old)
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.grant = g
	return old
}

func (p *person) session() api.Session {
	p.w.t.Helper()
	token, err := p.w.refreshSecrets.Decode(context.Background(), p.grant.Refresh)
	if err != nil {
		p.w.t.Fatal(err)
	}
	list, err := p.w.sessionsOf(p.user, "")
	// Two sessions of the same millisecond are in any order, so the first one may be another.
	n := slices.IndexFunc(list, func(s api.Session) bool { return s.ID == token.Family.String() })
	if err != nil || n < 0 {
		p.w.t.Fatalf("sessions of %s: %v %v", p.user, list, err)
	}
	return list[n]
}

// sessionsOf returns all sessions of a user; client "" means every client.
func (w *world) sessionsOf(user, client string) ([]api.Session, error) {
	page, err := w.Sessions(w.t.Context(), SessionQuery{User: user, Client: client, Limit: maxListed})
	if page.More {
		w.t.Errorf("%s has more than %d sessions", user, maxListed)
	}
	return page.Sessions, err
}

// encoded returns a refresh token with that content.
func (w *world) encoded(t refreshtoken.Token) refusal.Secret {
	w.t.Helper()
	return must[refusal.Secret](w.t)(w.refreshSecrets.Encode(context.Background(), t))
}
