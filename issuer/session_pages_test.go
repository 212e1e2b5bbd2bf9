package issuer

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/storage"
)

// walk lists sessions page by page. Every page but the last says that there are more.
func (w *world) walk(q SessionQuery) (ids []string) {
	w.t.Helper()
	for pages := 0; ; pages++ {
		page, err := w.Sessions(w.t.Context(), q)
		if err != nil || page.More != (page.Next != "") || len(page.Sessions) > q.Limit || pages > 10_000 {
			w.t.Fatalf("%+v: got %d sessions, more %v, next %q, %v", q, len(page.Sessions), page.More, page.Next, err)
		}
		for _, s := range page.Sessions {
			ids = append(ids, s.ID)
		}
		if !page.More {
			return ids
		}
		q.After = page.Next
	}
}

// Each session is listed once, whatever the gaps between the logins and the length of a page.
func TestSessionsAreListedNewestFirst(t *testing.T) {
	inBubble(t, 6*time.Hour, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) { c.Idle, c.Absolute = "200h", "200h" })
		if _, err := a.AddClient(t.Context(), api.NewClient{ID: "app", Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"orders"}, Idle: "200h", Absolute: "200h"}, "uid:0"); err != nil {
			t.Fatal(err)
		}
		a.user("alice", "7")
		a.user("bob", "8")
		type login struct{ id, user, client string }
		var logins []login
		for n, gap := range []time.Duration{0, time.Millisecond, time.Millisecond, time.Hour, time.Minute, 40 * time.Hour, time.Second, 60 * time.Hour, 59 * time.Second, time.Minute, 0} {
			time.Sleep(gap)
			l := login{user: []string{"7", "8", "7"}[n%3], client: []string{"web", "web", "app", "web"}[n%4]}
			g, err := a.StartSession(t.Context(), SessionRequest{User: l.user, Client: l.client, Endpoint: LoginBrowser, From: home})
			if err != nil {
				t.Fatal(err)
			}
			token, err := a.refreshSecrets.Decode(context.Background(), g.Refresh)
			if err != nil {
				t.Fatal(err)
			}
			l.id = token.Family.String()
			logins = append(logins, l)
			if n%2 == 0 && l.client == "web" { // a rotation moves nothing
				if _, err := a.refresh(g.Refresh); err != nil {
					t.Fatal(err)
				}
			}
		}
		slices.SortFunc(logins, func(a, b login) int { return strings.Compare(b.id, a.id) })
		for _, q := range []SessionQuery{{}, {Client: "web"}, {Client: "app"}, {User: "alice"}, {User: "id:8", Client: "app"}, {User: "bob", Client: "web"}} {
			var want []string
			user := map[string]string{"": "", "alice": "7", "id:8": "8", "bob": "8"}[q.User]
			for _, l := range logins {
				if (user == "" || l.user == user) && (q.Client == "" || l.client == q.Client) {
					want = append(want, l.id)
				}
			}
			for _, q.Limit = range []int{1, 2, 3, len(want), 1000} {
				if got := a.walk(q); !slices.Equal(got, want) {
					t.Errorf("%+v: got %v, want %v", q, got, want)
				}
			}
		}
		// What begins or is deleted between two pages does not move the cursor.
		page, err := a.Sessions(t.Context(), SessionQuery{Limit: 3})
		if err != nil {
			t.Fatal(err)
		}
		a.begin("7")
		for _, gone := range []string{page.Next, logins[3].id} {
			if err := a.store.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete("family/" + gone) }); err != nil {
				t.Fatal(err)
			}
		}
		if got := a.walk(SessionQuery{After: page.Next, Limit: 2}); got[0] != logins[4].id || len(got) != len(logins)-4 {
			t.Errorf("after a change: got %v, want those after %s", got, logins[3].id)
		}
		time.Sleep(201 * time.Hour)
		if got := a.walk(SessionQuery{Limit: 2}); len(got) != 0 {
			t.Errorf("after the clean-up: got %v", got)
		}
	})
}

// A countingStore counts what its Views read.
type countingStore struct {
	storage.Store
	most int // records of the largest
}

func (c *countingStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	return c.Store.View(ctx, func(r storage.Reader) error {
		n := 0
		err := fn(countingReader{r, &n})
		c.most = max(c.most, n)
		return err
	})
}

type countingReader struct {
	storage.Reader
	n *int
}

func (r countingReader) Get(key string) ([]byte, error) {
	*r.n++
	return r.Reader.Get(key)
}

func (r countingReader) Scan(start, end string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range r.Reader.Scan(start, end) {
			if *r.n++; !yield(e, err) {
				return
			}
		}
	}
}

// Thousands of sessions begin in one millisecond. A View reads about a thousand records, and a page
// for a client that has few sessions reads a bounded number and has a cursor.
func TestAPageOfSessionsReadsFewRecords(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	w.service("billing", "orders", "read")
	first := w.begin("7").session().ID
	id, _ := record.ParseID(first)
	var raw []byte
	if err := w.store.View(t.Context(), func(r storage.Reader) (err error) { raw, err = r.Get(familyKey(id)); return err }); err != nil {
		t.Fatal(err)
	}
	rec, err := decodeFamily(familyKey(id), raw)
	if err != nil {
		t.Fatal(err)
	}
	const each, instants = 1250, 5
	for n := range instants {
		at := w.keys.Now().Add(-time.Duration(n*n) * time.Hour)
		for range each / 50 {
			if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
				for range 50 {
					id := record.NewID(at)
					rec.created, rec.lastUsed = id.Time(), id.Time()
					if err := tx.Put(familyKey(id), rec.encode()); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	counting := &countingStore{Store: w.store}
	w.Issuer.store = counting
	got := w.walk(SessionQuery{Limit: 1000})
	if len(got) != each*instants+1 || !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) || len(slices.Compact(got)) != len(got) {
		t.Errorf("%d sessions are listed, or not in order", len(got))
	}
	page, err := w.Sessions(t.Context(), SessionQuery{Client: "billing", Limit: 10})
	if err != nil || len(page.Sessions) != 0 || !page.More {
		t.Errorf("a client without sessions: got %+v, %v", page, err)
	}
	if got := w.walk(SessionQuery{Client: "billing", Limit: 10}); len(got) != 0 {
		t.Errorf("a client without sessions has %v", got)
	}
	if counting.most > maxListed+10 {
		t.Errorf("a View read %d records", counting.most)
	}
}

func TestAListOfSessionsRefusesWhatDoesNotExist(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	for _, tt := range []struct {
		q    SessionQuery
		code string
	}{
		{SessionQuery{User: "bob"}, "not_found"},
		{SessionQuery{Client: "wbe"}, "not_found"},
		{SessionQuery{User: "alice", Client: "wbe"}, "not_found"},
		{SessionQuery{After: "nonsense"}, "invalid_request"},
		{SessionQuery{User: "alice", After: "00000000000000000000000000x"}, "invalid_request"},
	} {
		tt.q.Limit = 10
		_, err := w.Sessions(t.Context(), tt.q)
		refused(t, err, tt.code)
	}
	p := w.begin("7")
	if err := w.RemoveClient(t.Context(), "web", "uid:0"); err != nil {
		t.Fatal(err)
	}
	if got := w.walk(SessionQuery{Client: "web", Limit: 10}); len(got) != 1 || got[0] != p.session().ID {
		t.Errorf("a removed client: got %v", got)
	}
}
