package issuer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/refusal"
)

// typOf returns the typ in the header of a token.
func typOf(t testing.TB, token string) string {
	t.Helper()
	part, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(part)
	var header struct{ Typ string }
	if err := errors.Join(err, json.Unmarshal(raw, &header)); err != nil {
		t.Fatal(err)
	}
	return header.Typ
}

// plainPayload returns the claims of a token without custom ones.
func plainPayload(c claim.Token) []byte {
	payload, _ := c.Payload()
	return payload
}

// retype changes the type and, unless it is "", the lifetime of the audience orders.
func (w *world) retype(typ, ttl string) api.Audience {
	w.t.Helper()
	c := api.AudienceChange{Type: &typ}
	if ttl != "" {
		c.TTL = &ttl
	}
	return must[api.Audience](w.t)(w.SetAudience(w.t.Context(), "orders", c, "uid:0"))
}

// typed returns a token of client billing for orders that a published key has signed with that typ, as the
// holder of an imported or of a stolen key can.
func (w *world) typed(typ string, lifetime time.Duration) refusal.Secret {
	w.t.Helper()
	now := w.keys.WallTime()
	c := claim.Token{
		Issuer: testURL, Subject: "billing", Audience: "orders", Client: "billing", ID: claim.NewTokenID(),
		Issued: now.Add(-backdate).Unix(), Expires: now.Add(lifetime).Unix(),
	}
	return refusal.Secret(must[string](w.t)(w.keys.Sign(w.t.Context(), "EdDSA", typ, plainPayload(c), now.Add(lifetime))))
}

// accepted fails the test unless introspection, forward auth and the check of the login endpoint say of a token what
// want says.
func (w *world) accepted(what string, asker, token refusal.Secret, want bool) {
	w.t.Helper()
	if got := w.introspect("api", asker, token); got.Active != want {
		w.t.Errorf("%s: introspection says active=%v, want %v", what, got.Active, want)
	}
	if _, err := w.VerifyFor(w.t.Context(), "orders", token); (err == nil) != want {
		w.t.Errorf("%s: forward auth says %v, want accepted=%v", what, err, want)
	}
	err := w.VerifyToken(w.t.Context(), "web", token)
	if (err == nil) != want {
		w.t.Errorf("%s: the login endpoint says %v, want accepted=%v", what, err, want)
	}
}

// TestAfterAChangeOfTheTypeOldTokensLiveToTheirEnd: the type and the lifetime change at one moment, more than
// once, and over a restart. No token of before is lost, and when the last one has expired only the new type is
// accepted.
func TestAfterAChangeOfTheTypeOldTokensLiveToTheirEnd(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		must[api.Audience](t)(a.AddAudience(t.Context(), api.Audience{Name: "long", Alg: "EdDSA", TTL: "1h"}, "uid:0")) // so that keys sign for an hour
		secret, asker := a.service("billing", "orders", "read"), a.asker("api", "orders")
		tokenOf := func(want string) refusal.Secret {
			t.Helper()
			g := must[Grant](t)(a.token("billing", secret))
			if got := typOf(t, g.AccessToken); got != want {
				t.Errorf("a new token has the type %q, want %q", got, want)
			}
			return refusal.Secret(g.AccessToken)
		}
		p := a.begin("7")
		first := map[string]refusal.Secret{"of a service": tokenOf("at+jwt"), "of a user": refusal.Secret(p.grant.AccessToken)}
		revoked := tokenOf("at+jwt")
		if got := a.retype("JWT", "1m"); got.FormerTypeUntil == nil || len(got.Warnings) != 2 {
			t.Errorf("the change is answered with %+v", got)
		}
		changed := time.Now()

		second := tokenOf("JWT")
		if p.rotate(); typOf(t, p.grant.AccessToken) != "JWT" {
			t.Error("a refresh gives a token of the former type")
		}
		for name, token := range first {
			a.accepted("before the change, "+name, asker, token, true)
		}
		a.accepted("after the change", asker, second, true)
		a.accepted("of the former type and too long", asker, a.typed("at+jwt", 20*time.Minute), false)
		a.accepted("of another type", asker, a.typed("logout+jwt", time.Minute), false)
		billing := Credentials{"billing", secret, "client_secret_basic"}
		if err := a.Revoke(t.Context(), billing, revoked, home); err != nil {
			t.Error(err)
		}
		a.accepted("revoked after the change", asker, revoked, false)
		a.wantAudited("token.revoke", 1)

		a.end()
		time.Sleep(30 * time.Second)
		a.start()
		a.retype("at+jwt", "")
		third := tokenOf("at+jwt")
		a.retype("JWT", "")
		fourth := tokenOf("JWT")
		for name, token := range map[string]refusal.Secret{"service": first["of a service"], "second": second, "third": third, "fourth": fourth} {
			a.accepted("after three changes, "+name, asker, token, true)
		}

		time.Sleep(time.Until(changed.Add(15*time.Minute - 10*time.Second)))
		for name, token := range first {
			a.accepted("just before it expires, "+name, asker, token, true)
		}
		a.accepted("expired", asker, second, false)
		time.Sleep(2 * time.Minute)
		a.accepted("of the former type", asker, a.typed("at+jwt", time.Minute), false)
		a.accepted("of the new type", asker, tokenOf("JWT"), true)
		a.wantUnchanged("a revocation of the former type", func() {
			if err := a.Revoke(t.Context(), billing, a.typed("at+jwt", time.Minute), home); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestTheAdminAPIHasOneType: its audience cannot change, and a token of the type JWT is not for it.
func TestTheAdminAPIHasOneType(t *testing.T) {
	w := newAdminWorld(t)
	must[api.Client](t)(w.AddClient(t.Context(), deployer("keys:read"), "uid:0"))
	jwt := "JWT"
	_, err := w.SetAudience(t.Context(), adminscope.Audience, api.AudienceChange{Type: &jwt}, "uid:0")
	refused(t, err, "built_in")
	if got := must[api.Audience](t)(w.Audience(t.Context(), adminscope.Audience)); got.Type != "at+jwt" {
		t.Errorf("its type is %q", got.Type)
	}
	if _, _, err := w.AdminToken(t.Context(), w.signed("EdDSA", "at+jwt", w.adminClaims())); err != nil {
		t.Error(err)
	}
	for _, typ := range []string{"JWT", "jwt", "", "application/JWT"} {
		if _, _, err := w.AdminToken(t.Context(), w.signed("EdDSA", typ, w.adminClaims())); !errors.Is(err, ErrAdminToken) {
			t.Errorf("a token of the type %q: %v", typ, err)
		}
	}
}

// TestNoIDTokenHasAnAudienceWhoseTypeIsJWT, also while its services may still accept the type.
func TestNoIDTokenHasAnAudienceWhoseTypeIsJWT(t *testing.T) {
	w := newWorld(t)
	w.audience("orders")
	mint := func() error {
		expires := w.keys.WallTime().Add(time.Minute)
		signed, err := w.mint(t.Context(), mintable{use: idToken, audience: "orders", alg: "EdDSA", payload: []byte(`{"aud":"orders"}`), expires: expires})
		if err == nil && typOf(t, signed) != "JWT" {
			t.Errorf("the ID token is %s", signed)
		}
		return err
	}
	if err := mint(); err != nil {
		t.Errorf("for an audience of the type at+jwt: %v", err)
	}
	w.retype("JWT", "")
	if err := mint(); !errors.Is(err, errNotAlsoForIDs) || !strings.Contains(err.Error(), "orders") {
		t.Errorf("for an audience of the type JWT: %v", err)
	}
	w.retype("at+jwt", "")
	if err := mint(); !errors.Is(err, errNotAlsoForIDs) {
		t.Errorf("just after the audience had the type JWT: %v", err)
	}
	if err := w.RemoveAudience(t.Context(), "orders", "uid:0"); err != nil {
		t.Fatal(err)
	}
	if err := mint(); err != nil {
		t.Errorf("for a client whose id is not the name of an audience: %v", err)
	}
}

// TestOnlyMintSigns: the rules of mint are those of every token, since nothing else of this package signs.
func TestOnlyMintSigns(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var callers []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sign" {
					callers = append(callers, fn.Name.Name)
				}
				return true
			})
		}
	}
	if callers = slices.Compact(callers); !slices.Equal(callers, []string{"mint"}) {
		t.Errorf("Rings.Sign is called by %q, want only mint", callers)
	}
}
