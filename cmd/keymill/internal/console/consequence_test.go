package console

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/issuer/api"
)

// instead serves the answers of a changing server, and others for some paths.
func instead(c *changing, answers map[string]any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer, other := answers[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/admin/v1/")]; other {
			w.Header().Set("ETag", `"0"`)
			json.NewEncoder(w).Encode(answer)
			return
		}
		c.ServeHTTP(w, r)
	})
}

// TestAQuestionSaysThatUsersLogInThroughTheClient, as the command "client remove" does.
func TestAQuestionSaysThatUsersLogInThroughTheClient(t *testing.T) {
	for setting, logins := range map[string]bool{"session.client": true, "simplejwt.client": true, "metrics.listen": false} {
		v := newVisitor(adminapitest.Serve(t, instead(&changing{admin: admin{"name"}}, map[string]any{"GET settings": []api.Setting{{Name: setting, Value: "name"}}})))
		base := v.login(t)
		for path, shuts := range map[string]bool{"client/remove": true, "client/disable": true, "client/enable": false, "client/logout": false} {
			page := v.send("GET", base+path+"?id=name", "").Body.String()
			if got := strings.Contains(page, "no one can log in there"); got != (logins && shuts) {
				t.Errorf("%s with %s: warned %v", path, setting, got)
			}
			if got := strings.Contains(page, "setting "+setting); got != logins {
				t.Errorf("%s with %s: named %v", path, setting, got)
			}
		}
	}
}

// TestTokensOfTheAdminAPIEndAtOnce, and all others stay valid.
func TestTokensOfTheAdminAPIEndAtOnce(t *testing.T) {
	for audience, ends := range map[string]bool{"keymill-admin": true, "orders": false} {
		v := newVisitor(adminapitest.Serve(t, instead(&changing{admin: admin{"name"}}, map[string]any{"GET client": api.Client{ID: "name", Audiences: []string{audience}}})))
		base := v.login(t)
		for _, path := range []string{"client/disable", "client/logout", "client/remove"} {
			page := v.send("GET", base+path+"?id=name", "").Body.String()
			if strings.Contains(page, "admin API end at once") != ends || strings.Contains(page, "stay valid until they expire") == ends {
				t.Errorf("%s of a client of %s:\n%s", path, audience, page)
			}
		}
	}
}

// TestARevocationSaysAsMuchAsTheCommand.
func TestARevocationSaysAsMuchAsTheCommand(t *testing.T) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	later := at.Add(time.Hour)
	got := revoked(api.Revocation{
		KID: "old", Was: "active", Also: []string{"twin"}, CachedUntil: &at, Successor: "next", UnknownUntil: &later,
		Holders: []api.Holder{{Name: "orders"}, {Name: "stock"}}, Observed: 7, Warnings: []string{"the file is not written"},
	})
	want := "Revoked old, which was active. The same key was revoked under other kids: twin. " +
		"Services with a cached key set may accept its tokens until 2026-11-28 12:00:00Z. next signs now. " +
		"Services with a cached key set may refuse its tokens until 2026-11-28 13:00:00Z. " +
		"Pinned verifiers that may hold the old key: orders, stock. Other addresses that may hold it: 7. Warning: the file is not written."
	if got != want {
		t.Errorf("the note is\n%s\nwant\n%s", got, want)
	}
	if got := revoked(api.Revocation{KID: "old", Was: "active"}); got != "Revoked old, which was active. No key signs until the next one is made." {
		t.Errorf("without a successor: %s", got)
	}
}

// TestAWarningOfTheServerIsShown after the change.
func TestAWarningOfTheServerIsShown(t *testing.T) {
	v := newVisitor(adminapitest.Serve(t, instead(&changing{admin: admin{"name"}}, map[string]any{
		"PATCH client": api.Client{ID: "name", Warnings: []string{"client name can do nothing"}},
	})))
	base := v.login(t)
	w := v.send("POST", base+"do", answer(t, v, base+"client/enable?id=name", ""))
	if page := v.send("GET", w.Header().Get("Location"), "").Body.String(); !strings.Contains(page, "Enabled client name. Warning: client name can do nothing.") {
		t.Errorf("the page says\n%s", page)
	}
}

// TestANameThatBeginsWithADashIsNoFlag of the command line that is shown.
func TestANameThatBeginsWithADashIsNoFlag(t *testing.T) {
	s := newSite(testHost, adminapi.New("/d/admin.sock"))
	for want, got := range map[string]string{
		"keymill client remove --data /d -- '-a b'":                s.commandAbout("-a b", "client", "remove"),
		"keymill client rotate-secret --old-for 1h --data /d -- -": s.commandAbout("-", "client", "rotate-secret", "--old-for", "1h"),
		"keymill session revoke --client -a --data /d":             s.commandAbout("-a", "session", "revoke", "--client"),
		"keymill key revoke k --data /d":                           s.commandAbout("k", "key", "revoke"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestARotationNamesWhomTheServerWaitsFor, and not those who are only behind.
func TestARotationNamesWhomTheServerWaitsFor(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	early, late := now.Add(time.Minute), now.Add(time.Hour)
	reach := &api.Reach{Pinned: 4, Behind: []api.BehindItem{
		{Name: "orders", Waited: true, WaitedUntil: &late}, {Name: "gone"}, {Name: "stock", Waited: true, WaitedUntil: &early}, {Name: "web", Waited: true},
	}}
	if got, want := waitedFor(reach, now), (cell{Text: "orders, stock, web", Hint: "at most until 2026-11-28 13:00:00Z, in 1 h 0 min"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, reach := range []*api.Reach{nil, {Pinned: 1, Behind: []api.BehindItem{{Name: "gone"}}}} {
		if got := waitedFor(reach, now); got != (cell{Text: "no verifier"}) {
			t.Errorf("got %+v", got)
		}
	}
}
