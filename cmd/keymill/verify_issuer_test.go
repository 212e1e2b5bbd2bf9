package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keymill/jwks"
)

// A foreignIssuer publishes keys over HTTP as any issuer does, and signs tokens that Keymill
// would not sign.
type foreignIssuer struct {
	t   testing.TB
	url string
	ed  ed25519.PrivateKey // kid "ed"
	rsa *rsa.PrivateKey    // kid "rsa"

	ahead atomic.Int64 // seconds by which its clock is ahead
}

const weakKey = `{"kty":"RSA","kid":"weak","use":"sig","alg":"RS256","n":"AQAB","e":"AQAB"}`

func newForeignIssuer(t testing.TB) *foreignIssuer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set, err := jwks.NewSet(jwks.Key{KID: "ed", Alg: "EdDSA", Public: ed.Public()}, jwks.Key{KID: "rsa", Alg: "RS256", Public: rsa.Public()})
	if err != nil {
		t.Fatal(err)
	}
	document := strings.Replace(string(set.JSON()), `{"keys":[`, `{"keys":[`+weakKey+`,`, 1)
	i := &foreignIssuer{t: t, ed: ed, rsa: rsa}
	i.url = i.serve(map[string]http.HandlerFunc{
		"/.well-known/openid-configuration": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.url, i.url+"/keys")
		},
		"/keys": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "public, max-age=300")
			w.Header().Set("Age", "12")
			w.Header().Set("Date", time.Now().Add(time.Duration(i.ahead.Load()-12)*time.Second).UTC().Format(http.TimeFormat))
			fmt.Fprint(w, document)
		},
	})
	return i
}

func (i *foreignIssuer) serve(pages map[string]http.HandlerFunc) string {
	mux := http.NewServeMux()
	for path, page := range pages {
		mux.HandleFunc(path, page)
	}
	server := httptest.NewServer(mux)
	i.t.Cleanup(server.Close)
	return server.URL
}

// claims returns the claims of a valid token with changes. A nil removes a claim.
func (i *foreignIssuer) claims(changes ...any) map[string]any {
	now := time.Now().Unix()
	return changed(map[string]any{
		"iss": i.url, "aud": "orders", "sub": "billing", "client_id": "billing", "jti": "1",
		"scope": "read write", "iat": now, "exp": now + 900,
	}, changes)
}

func changed(m map[string]any, changes []any) map[string]any {
	for n := 0; n < len(changes); n += 2 {
		m[changes[n].(string)] = changes[n+1]
	}
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

// sign returns a token with claims. Its header has at+jwt, EdDSA and "ed", with changes.
func (i *foreignIssuer) sign(claims map[string]any, changes ...any) string {
	i.t.Helper()
	header := changed(map[string]any{"typ": "at+jwt", "alg": "EdDSA", "kid": "ed"}, changes)
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			i.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	signed := part(header) + "." + part(claims)
	signature := ed25519.Sign(i.ed, []byte(signed))
	if header["alg"] == "RS256" {
		sum := sha256.Sum256([]byte(signed))
		signature, _ = rsa.SignPKCS1v15(nil, i.rsa, crypto.SHA256, sum[:])
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}
