package endpoint

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/keystore"
)

// importedKey imports a key that only verifies, and returns what the other server signs with it.
func (w *world) importedKey() func(payload string) string {
	w.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.keys.Import(w.t.Context(), keystore.ImportRequest{
		Key: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), KID: "old", Until: time.Now().Add(time.Hour),
	}, "test"); err != nil {
		w.t.Fatal(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	return func(payload string) string {
		text := part([]byte(`{"alg":"EdDSA","kid":"old","typ":"at+jwt"}`)) + "." + part([]byte(payload))
		return text + "." + part(ed25519.Sign(private, []byte(text)))
	}
}

// TestTokensOfAnImportedKeyAreRevokedByName, and one that has no name is refused and writes nothing.
//
// R63.
func TestTokensOfAnImportedKeyAreRevokedByName(t *testing.T) {
	w := newWorld(t).withAlice()
	secret := w.confidential("server")
	sign := w.importedKey()
	token := func(jti string) string {
		now := time.Now().Unix()
		return sign(fmt.Sprintf(`{"iss":"%s","sub":"web","aud":"orders","client_id":"web","iat":%d,"exp":%d%s}`, testIssuer, now-5, now+600, jti))
	}
	active := func(token string) bool {
		return w.ask("/introspect", token, basic("server", secret)).json(t)["active"] == true
	}
	for what, jti := range map[string]string{
		"missing": "", "empty": `,"jti":""`, "too long": `,"jti":"` + strings.Repeat("x", 3000) + `"`, "control characters": `,"jti":"\u0000\u001b"`,
	} {
		a := w.ask("/revoke", token(jti), "client_id=web")
		refusedToken(t, what, a, 400, "unsupported_token_type")
		if !active(token(jti)) {
			t.Errorf("jti %s: the token is inactive", what)
		}
		is(t, what+", of another client", w.ask("/revoke", token(jti), basic("server", secret)), 200, "")
	}
	is(t, "a number", w.ask("/revoke", token(`,"jti":7`), "client_id=web"), 200, "") // no valid token
	if active(token(`,"jti":7`)) {
		t.Error("a token is active whose jti is a number")
	}
	one, other := token(`,"jti":"1"`), token(`,"jti":"a/b"`)
	is(t, "a name", w.ask("/revoke", one, "client_id=web"), 200, "")
	if active(one) || !active(other) || !active(token("")) {
		t.Error("a revocation by name ended other tokens, or not this one")
	}
	if text := w.log.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, "\x1b") {
		t.Errorf("the log:\n%s", text)
	}
}

// TestVerifyTakesAccessTokensOfItsAudiences, and refresh tokens of its client only, as docs/http.md says of
// /api/token/verify/.
func TestVerifyTakesAccessTokensOfItsAudiences(t *testing.T) {
	w := newWorld(t).withAlice()
	w.confidential("server")
	if _, err := w.issuer.AddAudience(t.Context(), api.Audience{Name: "private", Alg: "EdDSA"}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	other, err := w.issuer.AddClient(t.Context(), api.NewClient{ID: "other", Grants: []string{"client_credentials"}, Audiences: []string{"private"}}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	p, family := w.obtain(), w.familyAt("server")
	verify := func(token string) answer { return w.postJSON("/api/token/verify/", map[string]string{"token": token}) }
	for what, token := range map[string]string{
		"its own access token": p.Access, "its own refresh token": p.Refresh,
		"another client's access token": family.AccessToken, "a service's token": w.token(w.post(w.good())),
	} {
		is(t, what, verify(token), 200, "{}")
	}
	for what, token := range map[string]string{
		"another client's refresh token": string(family.Refresh),
		"a token for another audience":   w.token(w.post("grant_type=client_credentials", basic("other", string(other.Secret)))),
	} {
		if a := verify(token); a.status != 401 {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}
