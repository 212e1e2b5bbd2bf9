package issuer

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/client"
	"keymill/issuer/names"
	"keymill/issuer/origin"
	"keymill/issuer/refusal"
	"keymill/issuer/scope"
	"keymill/storage"
)

func TestAClientIsStoredWithoutItsSecret(t *testing.T) {
	w := newWorld(t)
	w.audience("orders", "read", "write")
	c := must[api.Client](t)(w.AddClient(t.Context(), api.NewClient{
		ID: "billing", Grants: []string{"client_credentials"}, Audiences: []string{"orders"},
		Scopes: []string{"write", "read"}, Origins: []string{"https://app.example"},
	}, "uid:0"))
	secret := c.Secret
	if secret == "" || c.Public || c.Disabled || c.OldSecretUntil != nil || time.Since(c.Created) > time.Minute {
		t.Fatalf("the new client is %+v, want an enabled confidential client with a secret", c)
	}
	w.restart()
	c.Secret = ""
	if got := must[api.Client](t)(w.Client(t.Context(), "billing")); !reflect.DeepEqual(got, c) {
		t.Fatalf("got %+v, want %+v", got, c)
	}
	// The store has the secret neither with its prefix nor without.
	err := w.store.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan(" ", "~") {
			if err != nil {
				return err
			}
			if strings.Contains(string(e.Value), string(secret)[4:]) {
				t.Errorf("the secret is in %s", e.Key)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	must[Grant](t)(w.token("billing", secret))
}

func TestBadClientsAreRefusedWithAHint(t *testing.T) {
	w := newWorld(t)
	w.audience("orders", "read")
	w.service("taken", "orders")
	numbered := func(n int, form string) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(form, i)
		}
		return list
	}
	for _, tt := range []struct {
		name string
		c    api.NewClient
		code string
		hint string
	}{
		{"no id", api.NewClient{}, "invalid_request", "client id"},
		{"space at the end", api.NewClient{ID: "a "}, "invalid_request", "client id"},
		{"line feed", api.NewClient{ID: "a\nb"}, "invalid_request", "client id"},
		{"not ASCII", api.NewClient{ID: "é"}, "invalid_request", "client id"},
		{"long id", api.NewClient{ID: strings.Repeat("a", 101)}, "invalid_request", "client id"},
		{"taken", api.NewClient{ID: "taken"}, "already_exists", "taken"},
		{"unknown grant", api.NewClient{ID: "a", Grants: []string{"password"}}, "invalid_request", "client_credentials"},
		{"public with client_credentials", api.NewClient{ID: "a", Public: true, Grants: []string{"client_credentials"}}, "invalid_request", "public"},
		{"unknown audience", api.NewClient{ID: "a", Audiences: []string{"nowhere"}}, "invalid_request", "nowhere"},
		{"foreign scope", api.NewClient{ID: "a", Audiences: []string{"orders"}, Scopes: []string{"admin"}}, "invalid_request", "admin"},
		{"scope without audience", api.NewClient{ID: "a", Scopes: []string{"read"}}, "invalid_request", "read"},
		{"too many audiences", api.NewClient{ID: "a", Audiences: numbered(client.MaxAudiences+1, "a%d")}, "invalid_request", "at most 16"},
		{"too many scopes", api.NewClient{ID: "a", Scopes: numbered(scope.Max+1, "s%d")}, "invalid_request", "at most 50"},
		{"too many origins", api.NewClient{ID: "a", Origins: numbered(client.MaxOrigins+1, "https://o%d.example")}, "invalid_request", "at most 10"},
		{"wildcard origin", api.NewClient{ID: "a", Origins: []string{"https://*.example"}}, "invalid_request", "origin"},
		{"any origin", api.NewClient{ID: "a", Origins: []string{"*"}}, "invalid_request", "origin"},
		{"null origin", api.NewClient{ID: "a", Origins: []string{"null"}}, "invalid_request", "origin"},
		{"origin with path", api.NewClient{ID: "a", Origins: []string{"https://app.example/"}}, "invalid_request", "origin"},
		{"origin with default port", api.NewClient{ID: "a", Origins: []string{"https://app.example:443"}}, "invalid_request", "origin"},
		{"origin with an odd port", api.NewClient{ID: "a", Origins: []string{"https://app.example:080"}}, "invalid_request", "origin"},
		{"origin with a comma", api.NewClient{ID: "a", Origins: []string{"https://a,b"}}, "invalid_request", "origin"},
		{"origin in upper case", api.NewClient{ID: "a", Origins: []string{"https://App.example"}}, "invalid_request", "origin"},
		{"origin in the clear", api.NewClient{ID: "a", Origins: []string{"http://app.example"}}, "invalid_request", "origin"},
	} {
		_, err := w.AddClient(t.Context(), tt.c, "uid:0")
		if hint := refused(t, err, tt.code); !strings.Contains(hint, tt.hint) {
			t.Errorf("%s: hint %q does not mention %q", tt.name, hint, tt.hint)
		}
	}
	if list := must[[]api.Client](t)(w.Clients(t.Context(), "", 10)); len(list) != 1 {
		t.Fatalf("a refused client was written: %+v", list)
	}
}

// A client at every limit changes everything at once, which writes the most keys.
func TestTheLargestClientFitsIntoOneTransaction(t *testing.T) {
	w := newWorld(t)
	side := func(s string) (c api.ClientChange) {
		audiences, origins, scopes := []string{}, []string{}, []string{}
		for n := range client.MaxAudiences {
			audiences = append(audiences, fmt.Sprintf("%s%03d%s", s, n, strings.Repeat("a", names.MaxAudienceBytes-4)))
		}
		for n := range client.MaxOrigins {
			origins = append(origins, fmt.Sprintf("https://%s%03d%s", s, n, strings.Repeat("o", origin.MaxBytes-12)))
		}
		for n := range scope.Max {
			scopes = append(scopes, fmt.Sprintf("%s%03d%s", s, n, strings.Repeat("s", 64-4)))
		}
		for _, a := range audiences {
			w.audience(a, scopes...)
		}
		disabled := s == "b"
		return api.ClientChange{Audiences: &audiences, Origins: &origins, Scopes: &scopes, Disabled: &disabled}
	}
	a, b := side("a"), side("b")
	id := strings.Repeat("c", names.MaxClientBytes)
	must[api.Client](t)(w.AddClient(t.Context(), api.NewClient{
		ID: id, Grants: []string{"client_credentials"}, Audiences: *a.Audiences, Origins: *a.Origins, Scopes: *a.Scopes,
	}, "uid:0"))
	must[api.Client](t)(w.SetClient(t.Context(), id, b, "uid:0"))
	if err := w.RemoveClient(t.Context(), id, "uid:0"); err != nil {
		t.Fatal(err)
	}
	for _, o := range slices.Concat(*a.Origins, *b.Origins) {
		if must[bool](t)(w.KnowsOrigin(t.Context(), o)) {
			t.Fatal("the origin is still known after its client was removed")
		}
	}
	for _, name := range slices.Concat(*a.Audiences, *b.Audiences) {
		if err := w.RemoveAudience(t.Context(), name, "uid:0"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAClientCanBeDisabledAfterItsAudienceLostAScope(t *testing.T) {
	w := newWorld(t)
	w.audience("orders", "read", "write")
	secret := w.service("billing", "orders", "read", "write")
	read, yes := []string{"read"}, true
	must[api.Audience](t)(w.SetAudience(t.Context(), "orders", api.AudienceChange{Scopes: &read}, "uid:0"))
	if g := must[Grant](t)(w.token("billing", secret)); g.Scope != "read" {
		t.Fatalf("scope %q", g.Scope)
	}
	must[api.Client](t)(w.SetClient(t.Context(), "billing", api.ClientChange{Disabled: &yes}, "uid:0"))
	_, err := w.token("billing", secret)
	refused(t, err, "invalid_client")
}

func TestSecretsRotateWithoutAGap(t *testing.T) {
	w := newWorld(t)
	w.audience("orders")
	first := w.service("billing", "orders")
	works := func(s refusal.Secret) bool {
		_, err := w.token("billing", s)
		if err != nil {
			refused(t, err, "invalid_client")
		}
		return err == nil
	}
	rotate := func(oldFor time.Duration) api.Client {
		return must[api.Client](t)(w.RotateSecret(t.Context(), "billing", oldFor, "uid:0"))
	}
	c := rotate(24 * time.Hour)
	second := c.Secret
	if c.OldSecretUntil == nil || time.Until(*c.OldSecretUntil) < 23*time.Hour {
		t.Fatalf("old secret until %v", c.OldSecretUntil)
	}
	if !works(first) || !works(second) {
		t.Fatal("two secrets should be valid")
	}
	third := rotate(24 * time.Hour).Secret
	if works(first) || !works(second) || !works(third) {
		t.Fatal("the oldest of three secrets should be invalid")
	}
	c = rotate(0)
	if works(second) || works(third) || !works(c.Secret) || c.OldSecretUntil != nil {
		t.Fatal("old_for 0 should leave one valid secret")
	}
	for _, d := range []time.Duration{-1, maxOldFor + 1} {
		_, err := w.RotateSecret(t.Context(), "billing", d, "uid:0")
		refused(t, err, "invalid_request")
	}
	if !works(c.Secret) {
		t.Fatal("a refused rotation changed the secret")
	}
}

func TestAnOldSecretExpiresOnTime(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.audience("orders")
		old := a.service("billing", "orders")
		must[api.Client](t)(a.RotateSecret(t.Context(), "billing", time.Minute, "uid:0"))
		time.Sleep(time.Minute - time.Millisecond)
		must[Grant](t)(a.token("billing", old))
		time.Sleep(time.Millisecond)
		_, err := a.token("billing", old)
		refused(t, err, "invalid_client")
	})
}

func TestTheIDOfARemovedClientIsFree(t *testing.T) {
	w := newWorld(t)
	w.audience("orders")
	secret := w.service("billing", "orders")
	must[Grant](t)(w.token("billing", secret))
	if err := w.RemoveClient(t.Context(), "billing", "uid:0"); err != nil {
		t.Fatal(err)
	}
	_, err := w.token("billing", secret)
	refused(t, err, "invalid_client")
	refused(t, w.RemoveClient(t.Context(), "billing", "uid:0"), "not_found")
	w.service("billing", "orders")
	_, err = w.token("billing", secret)
	refused(t, err, "invalid_client")
}

func TestPublicClientsHaveNoSecret(t *testing.T) {
	w := newWorld(t)
	w.audience("orders")
	c := must[api.Client](t)(w.AddClient(t.Context(), api.NewClient{ID: "web", Public: true, Audiences: []string{"orders"}}, "uid:0"))
	if c.Secret != "" {
		t.Fatal("a public client got a secret")
	}
	_, err := w.RotateSecret(t.Context(), "web", 0, "uid:0")
	refused(t, err, "invalid_request")
	cc := []string{"client_credentials"}
	_, err = w.SetClient(t.Context(), "web", api.ClientChange{Grants: &cc}, "uid:0")
	refused(t, err, "invalid_request")
}

// Many clients are added and removed at once, and in the end their ids and audiences are free again.
func TestCountsAreRightAfterParallelChanges(t *testing.T) {
	w := newWorld(t)
	w.audience("orders")
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			id := fmt.Sprint("client ", n)
			_, err := w.AddClient(context.Background(), api.NewClient{
				ID: id, Audiences: []string{"orders"}, Origins: []string{"https://app.example"},
			}, "uid:0")
			if err == nil && n%2 == 0 {
				err = w.RemoveClient(context.Background(), id, "uid:0")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	refused(t, w.RemoveAudience(t.Context(), "orders", "uid:0"), "in_use")
	for n := 1; n < 16; n += 2 {
		if !must[bool](t)(w.KnowsOrigin(t.Context(), "https://app.example")) {
			t.Fatal("the origin is unknown before its last client was removed")
		}
		if err := w.RemoveClient(t.Context(), fmt.Sprint("client ", n), "uid:0"); err != nil {
			t.Fatal(err)
		}
	}
	if must[bool](t)(w.KnowsOrigin(t.Context(), "https://app.example")) {
		t.Fatal("the origin is still known after its clients were removed")
	}
	if err := w.RemoveAudience(t.Context(), "orders", "uid:0"); err != nil {
		t.Fatal(err)
	}
}

func TestIdleLongerThanAbsoluteIsRefused(t *testing.T) {
	w := newWorld(t)
	w.web(func(c *api.NewClient) { c.Idle, c.Absolute = "1h", "2h" })
	for _, change := range []api.ClientChange{{Idle: new("3h")}, {Absolute: new("30m")}} {
		if _, err := w.SetClient(t.Context(), "web", change, "uid:0"); err == nil {
			t.Errorf("%+v was accepted", change)
		}
	}
	if _, err := w.SetClient(t.Context(), "web", api.ClientChange{Idle: new("2h")}, "uid:0"); err != nil {
		t.Error(err)
	}
	if _, err := w.SetClient(t.Context(), "web", api.ClientChange{Idle: new("30h"), Absolute: new("")}, "uid:0"); err != nil {
		t.Errorf("with only one lifetime of its own: %v", err)
	}
}

func TestAShownClientSharesNothingWithTheStoredOne(t *testing.T) {
	w := newWorld(t)
	w.web()
	c, err := w.Client(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]string{c.Grants, c.Audiences, c.Scopes, c.Origins} {
		for n := range list {
			list[n] = "tampered"
		}
	}
	again, err := w.Client(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprint(again); strings.Contains(all, "tampered") {
		t.Errorf("the cached client was changed: %s", all)
	}
}
