package issuer

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/scope"
	"keymill/storage/audit"
)

func TestAnAudienceIsStoredAsItWasGiven(t *testing.T) {
	w := newWorld(t)
	got := must[api.Audience](t)(w.AddAudience(t.Context(), api.Audience{
		Name: "https://api.example/orders?v=1", Alg: "EdDSA", TTL: "90s", Scopes: []string{"write", "read", "read"},
	}, "uid:7"))
	want := api.Audience{Name: "https://api.example/orders?v=1", Alg: "EdDSA", TTL: "1m30s", Scopes: []string{"read", "write"}, Profile: "rfc9068", Type: "at+jwt"}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("the answer is %+v, want %+v", got, want)
	}
	w.restart()
	if got := must[api.Audience](t)(w.Audience(t.Context(), want.Name)); !reflect.DeepEqual(got, want) {
		t.Fatalf("after a restart: %+v", got)
	}
	_, err := w.AddAudience(t.Context(), want, "uid:7")
	refused(t, err, "already_exists")
}

func TestBadAudiencesAreRefusedWithAHint(t *testing.T) {
	w := newWorld(t)
	w.audience("there")
	many := make([]string, scope.Max+1)
	for n := range many {
		many[n] = fmt.Sprint("s", n)
	}
	good := api.Audience{Name: "orders", Alg: "EdDSA", TTL: "15m"}
	for _, tt := range []struct {
		name string
		edit func(*api.Audience)
		hint string
	}{
		{"no name", func(a *api.Audience) { a.Name = "" }, "name"},
		{"name with a space", func(a *api.Audience) { a.Name = "a b" }, "name"},
		{"name with a line feed", func(a *api.Audience) { a.Name = "a\nb" }, "name"},
		{"long name", func(a *api.Audience) { a.Name = strings.Repeat("a", 201) }, "name"},
		{"no algorithm", func(a *api.Audience) { a.Alg = "" }, "RS256, EdDSA"},
		{"none", func(a *api.Audience) { a.Alg = "none" }, "RS256, EdDSA"},
		{"HS256", func(a *api.Audience) { a.Alg = "HS256" }, "RS256, EdDSA"},
		{"ttl of no form", func(a *api.Audience) { a.TTL = "900" }, "ttl"},
		{"ttl too short", func(a *api.Audience) { a.TTL = "999ms" }, "ttl"},
		{"ttl too long", func(a *api.Audience) { a.TTL = "24h0m1s" }, "ttl"},
		{"ttl with a fraction", func(a *api.Audience) { a.TTL = "1.5s" }, "ttl"},
		{"ttl negative", func(a *api.Audience) { a.TTL = "-1m" }, "ttl"},
		{"scope with a space", func(a *api.Audience) { a.Scopes = []string{"a b"} }, "scope"},
		{"scope with a quote", func(a *api.Audience) { a.Scopes = []string{`a"`} }, "scope"},
		{"empty scope", func(a *api.Audience) { a.Scopes = []string{""} }, "scope"},
		{"too many scopes", func(a *api.Audience) { a.Scopes = many }, "at most 50"},
		{"profile unknown", func(a *api.Audience) { a.Profile = "saml" }, "profile"},
		{"simplejwt with EdDSA", func(a *api.Audience) { a.Profile = "simplejwt" }, "RS256"},
	} {
		a := good
		tt.edit(&a)
		_, err := w.AddAudience(t.Context(), a, "uid:0")
		if hint := refused(t, err, "invalid_request"); !strings.Contains(hint, tt.hint) {
			t.Errorf("%s: hint %q does not mention %q", tt.name, hint, tt.hint)
		}
	}
	list := must[[]api.Audience](t)(w.Audiences(t.Context(), "", 10))
	if len(list) != 1 {
		t.Fatalf("a refused audience was written: %+v", list)
	}
}

func TestALongerLifetimeReachesTheKeysAtOnce(t *testing.T) {
	w := newWorld(t)
	w.audience("orders", "read")
	secret := w.service("billing", "orders", "read")
	day := "24h"
	must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{TTL: &day}, "uid:0"))
	// The keys refuse to sign a token that outlives them, so a signed token is the proof.
	if g := must[Grant](t)(w.token("billing", secret)); g.ExpiresIn != 86400 {
		t.Fatalf("expires_in %d", g.ExpiresIn)
	}
}

func TestAnAudienceThatAClientNamesCannotBeRemoved(t *testing.T) {
	w := newWorld(t)
	w.audience("orders", "read")
	w.audience("stock", "read")
	w.service("billing", "orders", "read")
	ttl := "20m"
	must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{TTL: &ttl}, "uid:0"))
	refused(t, w.RemoveAudience(t.Context(), "orders", "uid:0"), "in_use")
	stock, none := []string{"stock"}, []string{}
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Audiences: &stock}, "uid:0"))
	if err := w.RemoveAudience(t.Context(), "orders", "uid:0"); err != nil {
		t.Fatal(err)
	}
	refused(t, w.RemoveAudience(t.Context(), "stock", "uid:0"), "in_use")
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Audiences: &none, Scopes: &none}, "uid:0"))
	if err := w.RemoveAudience(t.Context(), "stock", "uid:0"); err != nil {
		t.Fatal(err)
	}
	refused(t, w.RemoveAudience(t.Context(), "stock", "uid:0"), "not_found")
	_, err := w.Audience(t.Context(), "stock")
	refused(t, err, "not_found")
}

func TestTheNextPageOfAListFollowsTheLast(t *testing.T) {
	w := newWorld(t)
	names := []string{"a", "a!", "a/b", "ab", "b"}
	for _, n := range names {
		w.audience(n)
	}
	var got []string
	for after := ""; len(got) <= len(names); {
		page := must[[]api.Audience](t)(w.Audiences(t.Context(), after, 2))
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			got = append(got, a.Name)
		}
		after = got[len(got)-1]
	}
	if !reflect.DeepEqual(got, names) {
		t.Fatalf("got %q", got)
	}
}

// events returns the audit records from seq on, as "action by target".
func (w *world) events() []string {
	w.t.Helper()
	if _, err := audit.Chain(w.t.Context(), w.store); err != nil {
		w.t.Fatal(err)
	}
	var list []string
	for _, r := range w.audited() {
		if strings.HasPrefix(r.Action, "audience.") || strings.HasPrefix(r.Action, "client.") {
			list = append(list, r.Action+" "+r.By+" "+r.Target)
		}
	}
	return list
}

func TestEveryChangeIsAuditedAndNothingElse(t *testing.T) {
	w := newWorld(t)
	read, five, yes, no := []string{"read"}, "5m", true, false
	w.audience("orders", "read", "write")
	must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{TTL: &five}, "uid:1"))
	must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{TTL: &five}, "uid:1")) // no change
	w.service("billing", "orders", "read", "write")
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Scopes: &read}, "uid:2"))
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Scopes: &read}, "uid:2")) // no change
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Disabled: &yes}, "uid:3"))
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Disabled: &no}, "uid:4"))
	must[api.Client](t)(w.RotateSecret(t.Context(), "billing", time.Hour, "uid:5"))
	refused(t, w.RemoveAudience(t.Context(), "orders", "uid:6"), "in_use")
	if err := w.RemoveClient(t.Context(), "billing", "uid:7"); err != nil {
		t.Fatal(err)
	}
	if err := w.RemoveAudience(t.Context(), "orders", "uid:8"); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"audience.add uid:0 orders", "audience.set uid:1 orders", "client.add uid:0 billing",
		"client.set uid:2 billing", "client.disable uid:3 billing", "client.enable uid:4 billing",
		"client.rotate_secret uid:5 billing", "client.remove uid:7 billing", "audience.remove uid:8 orders",
	}
	if got := w.events(); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %q", got)
	}
}
