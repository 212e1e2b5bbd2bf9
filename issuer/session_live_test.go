package issuer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/sessionlist"
	"keymill/issuer/tally"
)

// TestALiveSessionOfAClientIsFound among those of more users than one page has, and no session that
// has ended, expired, or belongs to another client.
func TestALiveSessionOfAClientIsFound(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		other := api.NewClient{ID: "b", Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"orders"}}
		if _, err := a.AddClient(t.Context(), other, "uid:0"); err != nil {
			t.Fatal(err)
		}
		want := func(client string, want bool) {
			t.Helper()
			if got, err := a.HasLiveSession(t.Context(), client); err != nil || got != want {
				t.Errorf("client %s has a live session: %v, %v; want %v", client, got, err, want)
			}
		}
		var last *person
		for n := range listsAtOnce + 20 {
			id := fmt.Sprintf("a/%03d", n)
			a.user("user"+id, id)
			last = a.begin(id)
		}
		want("web", true)
		want("b", false)
		want("absent", false)
		if err := a.RevokeClientSessions(t.Context(), "web", "uid:0"); err != nil {
			t.Fatal(err)
		}
		want("web", false)
		a.begin(last.user) // in the last page, behind one that has ended
		want("web", true)
		time.Sleep(DefaultIdle + time.Second)
		want("web", false)
	})
}

func TestTheClientOfAListIsRead(t *testing.T) {
	for _, user := range []string{"7", "a/b", "05/x", strings.Repeat("u", 64)} {
		for _, client := range []string{"web", "a/b", "a b"} {
			if got, ok := tally.Parse(strings.TrimPrefix(sessionlist.Key(user, client), "sessions/")); !ok || got.Client != client || got.User != user {
				t.Errorf("user %q, client %q: %q", user, client, got)
			}
		}
	}
	for _, broken := range []string{"", "x", "01", "99/a/web"} {
		if got, ok := tally.Parse(broken); ok {
			t.Errorf("%q: %q", broken, got)
		}
	}
}
