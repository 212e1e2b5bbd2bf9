package endpoint

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"keymill/issuer/api"
)

// pages reads a list page by page, as its Link headers say, and returns the member of each entry.
func (w *world) pages(path, member string) (found []string, requests int) {
	w.t.Helper()
	for path != "" {
		a := w.expect(200, "GET", path, "")
		var page []map[string]any
		if err := json.Unmarshal([]byte(a.body), &page); err != nil {
			w.t.Fatal(err)
		}
		for _, entry := range page {
			found = append(found, fmt.Sprint(entry[member]))
		}
		requests++
		link, ok := strings.CutSuffix(a.header.Get("Link"), `>; rel="next"`)
		if path = strings.TrimPrefix(link, "<"); path != "" && (!ok || requests > 100) {
			w.t.Fatalf("the link is %q after %d requests", a.header.Get("Link"), requests)
		}
	}
	return found, requests
}

// TestAdminAPIListsSelect by what a console filters, also over pages.
func TestAdminAPIListsSelect(t *testing.T) {
	w := newWorld(t).withAlice()
	for n := range 5 {
		w.client(fmt.Sprint("c", n), "read")
		w.user(fmt.Sprint("bob", n), fmt.Sprint("b", n))
	}
	off := true
	w.setClient("c1", api.ClientChange{Disabled: &off})
	w.setClient("c3", api.ClientChange{Disabled: &off, Introspect: &[]string{"shop"}})
	w.expect(200, "PATCH", "/admin/v1/user?user=bob2", `{"disabled":true}`)
	for _, tt := range []struct{ path, member, want string }{
		{"/admin/v1/clients?disabled=true", "client_id", "c1 c3"},
		{"/admin/v1/clients?disabled=true&limit=1", "client_id", "c1 c3"},
		{"/admin/v1/clients?disabled=false&grant=client_credentials&limit=2", "client_id", "billing c0 c2 c4"},
		{"/admin/v1/clients?grant=refresh_token", "client_id", "web"},
		{"/admin/v1/clients?audience=shop", "client_id", "c3"},
		{"/admin/v1/clients?audience=none", "client_id", ""},
		{"/admin/v1/clients?audience=orders&disabled=true&after=c1", "client_id", "c3"},
		{"/admin/v1/clients?limit=3", "client_id", "billing c0 c1 c2 c3 c4 web"},
		{"/admin/v1/users?name=bo&limit=2", "username", "bob0 bob1 bob2 bob3 bob4"},
		{"/admin/v1/users?name=bob&disabled=true", "username", "bob2"},
		{"/admin/v1/users?name=ob", "username", ""},
		{"/admin/v1/audiences?limit=1", "audience", "orders shop"},
	} {
		if got, n := w.pages(tt.path, tt.member); strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v in %d requests, want %s", tt.path, got, n, tt.want)
		}
	}
	for _, path := range []string{
		"/admin/v1/clients?disabled=", "/admin/v1/clients?disabled=1", "/admin/v1/clients?grant=", "/admin/v1/clients?audience=",
		"/admin/v1/users?name=", "/admin/v1/users?disabled=yes", "/admin/v1/audiences?disabled=true",
	} {
		w.refusedIf("invalid_request", "GET", path, "")
	}
	for query, want := range map[string]string{
		"?target=c1": "client.add client.disable", "?target=c1&action=client.disable": "client.disable", "?by=uid:0&target=c0": "client.add", "?target=c": "",
	} {
		var page api.AuditRecords
		if err := json.Unmarshal([]byte(w.expect(200, "GET", "/admin/v1/audit"+query, "").body), &page); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range page.Records {
			got += r.Action + " "
		}
		if strings.TrimSpace(got) != want {
			t.Errorf("%s: got %s", query, got)
		}
	}
}

// TestAPageOfAFilteredListExaminesAThousand entries: the page is empty and names the next one.
func TestAPageOfAFilteredListExaminesAThousand(t *testing.T) {
	w := newWorld(t)
	for n := range 1001 {
		u := api.NewUser{ID: fmt.Sprintf("u%04d", n), Name: fmt.Sprintf("name%04d", n)}
		if _, err := w.issuer.AddUser(t.Context(), u, "uid:0"); err != nil {
			t.Fatal(err)
		}
	}
	first := w.expect(200, "GET", "/admin/v1/users?name=name1000", "")
	if link := first.header.Get("Link"); first.body != "[]" || link != `</admin/v1/users?after=u0999&name=name1000>; rel="next"` {
		t.Errorf("got %s, link %s", first.body, link)
	}
	if got, n := w.pages("/admin/v1/users?name=name1000", "username"); len(got) != 1 || n != 2 {
		t.Errorf("got %v in %d requests", got, n)
	}
}
