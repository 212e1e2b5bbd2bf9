package issuer

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func (w *world) rename(user, name string) (api.User, error) {
	w.t.Helper()
	return w.SetUser(w.t.Context(), user, api.UserChange{Name: &name}, "uid:0")
}

// The user keeps id, password and sessions. The old name is free for another user.
func TestARenamedUserKeepsEverythingButTheName(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", testPassword, "")
	p := w.begin("7")
	u, err := w.rename("alice", "alice@example.com")
	if err != nil || u.ID != "7" || u.Name != "alice@example.com" {
		t.Fatalf("got %+v, %v", u, err)
	}
	p.rotate()
	if g, err := w.login("alice@example.com", testPassword); err != nil || g.User != "7" {
		t.Errorf("with the new name: got user %q, %v", g.User, err)
	}
	_, err = w.login("alice", testPassword)
	refused(t, err, "invalid_credentials")
	_, err = w.User(t.Context(), "alice")
	refused(t, err, "not_found")
	if list, err := w.sessionsOf("alice@example.com", ""); err != nil || len(list) != 2 {
		t.Errorf("sessions: got %+v, %v", list, err)
	}
	w.withPassword("alice", "8", "another horse battery", "")
	if g, err := w.login("alice", "another horse battery"); err != nil || g.User != "8" {
		t.Errorf("the user who has the old name now: got user %q, %v", g.User, err)
	}
	_, err = w.rename("7", "alice")
	refused(t, err, "already_exists")
	w.restart()
	if u, err := w.User(t.Context(), "alice@example.com"); err != nil || u.ID != "7" {
		t.Errorf("after a restart: got %+v, %v", u, err)
	}
	if err := w.RemoveUser(t.Context(), "7", "uid:0"); err != nil {
		t.Fatal(err)
	}
	w.user("alice@example.com", "9")
	w.wantAudited("user.rename", 1)
}

// Names are compared as they are at a login, after NFKC.
func TestARenameKeepsNamesUnique(t *testing.T) {
	w := newWorld(t)
	for id, name := range map[string]string{"1": "bob", "2": "Zoë", "3": "office", "4": "x2"} {
		w.user(name, id)
	}
	w.user("alice", "7")
	for _, name := range []string{"bob", "ｂｏｂ", "Zoe\u0308", "Zoë", "o\ufb03ce", "x²"} {
		_, err := w.rename("alice", name)
		refused(t, err, "already_exists")
	}
	for _, name := range []string{"", " ", "alice ", "id:7", "ali\u200bce", "al\nice", "a\xffb", strings.Repeat("x", 150+1)} {
		_, err := w.rename("alice", name)
		refused(t, err, "invalid_request")
	}
	_, err := w.rename("unknown", "another")
	refused(t, err, "not_found")
	if u, err := w.User(t.Context(), "alice"); err != nil || u.ID != "7" {
		t.Errorf("after refusals: got %+v, %v", u, err)
	}
	// The own name in another spelling is no change; another case is.
	if u, err := w.rename("alice", "ａlice"); err != nil || u.Name != "alice" {
		t.Errorf("the same name: got %+v, %v", u, err)
	}
	w.wantAudited("user.rename", 0)
	if u, err := w.rename("alice", "Alice"); err != nil || u.Name != "Alice" {
		t.Errorf("another case: got %+v, %v", u, err)
	}
	w.wantAudited("user.rename", 1)
}

func TestOfUsersRenamedAtOnceOneGetsTheName(t *testing.T) {
	w := newWorld(t)
	ids := []string{"1", "2", "3", "4"}
	for _, id := range ids {
		w.user("user "+id, id)
	}
	var all sync.WaitGroup
	var renamed atomic.Int32
	for n, name := range []string{"bob", "ｂｏｂ", "bｏb", "boｂ"} {
		all.Go(func() {
			if _, err := w.rename(ids[n], name); err == nil {
				renamed.Add(1)
			} else if r := (*refusal.Refusal)(nil); !errors.As(err, &r) || r.Code != "already_exists" {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if renamed.Load() != 1 {
		t.Errorf("%d users have the name", renamed.Load())
	}
	if n := w.records("login/"); n != len(ids) {
		t.Errorf("%d names lead to %d users", n, len(ids))
	}
}
