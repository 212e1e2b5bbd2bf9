package endpoint

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/jwks"
	"keymill/keystore"
)

// newWorldOf makes a world with rings of these algorithms, whose keys are kept in time.
func newWorldOf(t *testing.T, algorithms []string) *world {
	t.Helper()
	w := &world{t: t, url: testIssuer, log: &logBuffer{}, path: filepath.Join(t.TempDir(), "keymill.db")}
	cfg := testKeys
	cfg.Algorithms, cfg.CheckRSA = algorithms, jwks.CheckRSA
	w.open(t, cfg)
	w.public = httptest.NewServer(w.server.Public())
	t.Cleanup(w.public.Close)
	w.base, w.http, w.admin = w.public.URL, w.public.Client(), serveAdmin(t, w.server)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.keys.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

// kidAt waits for a key of the ring at that stage.
func (w *world) kidAt(alg, stage string) string {
	w.t.Helper()
	for range 600 {
		var keys []api.Key
		if err := json.Unmarshal([]byte(w.expect(200, "GET", "/admin/v1/keys", "").body), &keys); err != nil {
			w.t.Fatal(err)
		}
		for _, k := range keys {
			if k.Alg == alg && k.Stage == stage {
				return k.KID
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("the ring of %s has no %s key", alg, stage)
	return ""
}

// pemOf makes a key of the algorithm, as another system has it.
func pemOf(t *testing.T, alg string) string {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case jwks.RS256:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case jwks.EdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case jwks.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		t.Fatalf("the test makes no key of %s", alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// TestEveryRingDoesWhatTheOthersDo: sign, rotate, import, revoke, and know its tokens again.
//
// R56, R58.
func TestEveryRingDoesWhatTheOthersDo(t *testing.T) {
	w := newWorldOf(t, keystore.SupportedAlgorithms())
	for _, alg := range keystore.SupportedAlgorithms() {
		w.secret = "" // of another ring's client
		t.Run(alg, func(t *testing.T) { w.ring(t, alg) })
	}
}

func (w *world) ring(t *testing.T, alg string) {
	w.t = t
	_, err := w.issuer.AddAudience(t.Context(), api.Audience{Name: alg, Alg: alg, Scopes: []string{"read"}}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.issuer.AddClient(t.Context(), api.NewClient{ID: "c-" + alg, Grants: []string{"client_credentials"}, Audiences: []string{alg},
		Scopes: []string{"read"}, Introspect: []string{alg}}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	credentials := basic("c-"+alg, string(c.Secret))
	fetch := func(by string) string {
		t.Helper()
		token := w.token(w.post("grant_type=client_credentials", credentials))
		claims, err := jwks.Check(token, w.keySet(), jwks.Expectation{Issuer: testIssuer, Audience: alg, Algorithms: []string{alg}}, time.Now())
		if err != nil || claims.Alg != alg || claims.KID != by {
			t.Fatalf("%v, %+v; want a token of %s", err, claims, by)
		}
		return token
	}
	active := func(what, token string, want bool) {
		t.Helper()
		if got := w.ask("/introspect", token, credentials).json(t)["active"]; got != want {
			t.Errorf("%s: active is %v, want %v", what, got, want)
		}
	}
	first, second, reserve := w.kidAt(alg, "active"), w.kidAt(alg, "spare"), w.kidAt(alg, "reserve")
	old := fetch(first)
	active("a new token", old, true)

	w.expect(200, "POST", "/admin/v1/keys/rotate", fmt.Sprintf(`{"alg":%q,"force":true}`, alg))
	newer := fetch(second)
	active("after the rotation, the token before", old, true)
	if got := w.kidAt(alg, "spare"); got != reserve {
		t.Errorf("the spare is %s, want the reserve %s", got, reserve)
	}

	w.expect(200, "POST", "/admin/v1/keys/import", fmt.Sprintf(`{"key":%q,"kid":"imported-%s","sign_now":true}`, pemOf(t, alg), alg))
	third := fetch("imported-" + alg)
	w.expect(200, "POST", "/admin/v1/keys/revoke", fmt.Sprintf(`{"kid":"imported-%s"}`, alg))
	active("a token of the revoked key that signed", third, false)
	fetch(w.kidAt(alg, "active"))

	w.expect(200, "POST", "/admin/v1/keys/revoke", fmt.Sprintf(`{"kid":%q}`, second))
	active("a token of the revoked key that had stopped", newer, false)
	active("a token of a key that is not revoked", old, true)
	w.ask("/revoke", old, credentials)
	active("a revoked token", old, false)
	w.kidAt(alg, "spare")
	reserve = w.kidAt(alg, "reserve")
	w.expect(200, "POST", "/admin/v1/keys/rotate", fmt.Sprintf(`{"alg":%q,"flush":true}`, alg))
	fetch(reserve)
	reserve = w.kidAt(alg, "reserve")
	w.expect(200, "POST", "/admin/v1/keys/revoke", fmt.Sprintf(`{"kid":%q,"flush":true}`, w.kidAt(alg, "active")))
	fetch(reserve)
	for _, k := range w.keySet().Keys() {
		if slices.Contains([]string{second, "imported-" + alg}, k.KID) {
			t.Errorf("the revoked key %s is published", k.KID)
		}
	}
}

// TestTheOtherFormOfATokenIsRevokedWithIt: s and n-s are both signatures of ES256, so a client that is logged out could
// go on with the other one if tokens were denied by their bytes.
//
// R63.
func TestTheOtherFormOfATokenIsRevokedWithIt(t *testing.T) {
	w := newWorldOf(t, []string{keystore.ES256})
	_, err := w.issuer.AddAudience(t.Context(), api.Audience{Name: "orders", Alg: keystore.ES256, Scopes: []string{"read"}}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	secret := w.confidential("server")
	token := w.token(w.post("grant_type=client_credentials", basic("server", secret)))
	other := otherForm(t, token)
	for what, form := range map[string]string{"as it was made": token, "the other form": other} {
		if a := w.ask("/introspect", form, basic("server", secret)).json(t); a["active"] != true {
			t.Errorf("%s: %v", what, a)
		}
	}
	w.ask("/revoke", other, basic("server", secret))
	for what, form := range map[string]string{"as it was made": token, "the other form": other} {
		if a := w.ask("/introspect", form, basic("server", secret)).json(t); a["active"] != false {
			t.Errorf("%s, revoked: %v", what, a)
		}
	}
}

// TestARingThatIsAddedLaterChangesNothingBefore: with the default algorithms the set and the metadata have the bytes that
// they had when there was no ES256, and again after it is removed.
func TestARingThatIsAddedLaterChangesNothingBefore(t *testing.T) {
	w := newWorld(t)
	set, metadata := w.send("GET", "/.well-known/jwks.json", ""), w.send("GET", openidPath, "")
	if bytes.Contains([]byte(set.body+metadata.body), []byte("ES256")) || bytes.Contains([]byte(set.body), []byte(`"y"`)) {
		t.Errorf("with the default algorithms: %s %s", set.body, metadata.body)
	}
	reopen := func(algorithms ...string) {
		w.public.Close()
		w.file.Close()
		cfg := testKeys
		cfg.Algorithms = algorithms
		w.open(t, cfg)
		w.public = httptest.NewServer(w.server.Public())
		t.Cleanup(w.public.Close)
		w.base, w.http = w.public.URL, w.public.Client()
	}
	reopen("RS256", "EdDSA", "ES256")
	added := w.keySet().Keys()
	if n := slices.IndexFunc(added, func(k jwks.Key) bool { return k.Alg == jwks.ES256 }); n < 0 {
		t.Errorf("ES256 is configured, and the set has %v", added)
	}
	if got := fmt.Sprint(w.send("GET", openidPath, "").json(t)["id_token_signing_alg_values_supported"]); got != "[RS256 EdDSA ES256]" {
		t.Errorf("the metadata lists %s", got)
	}
	if _, err := w.issuer.AddAudience(t.Context(), api.Audience{Name: "late", Alg: "ES256"}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	c, err := w.issuer.AddClient(t.Context(), api.NewClient{ID: "late", Grants: []string{"client_credentials"}, Audiences: []string{"late"}}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	a := w.post("grant_type=client_credentials", basic("late", string(c.Secret)))
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("before verifiers can know the key: %d %s %v", a.status, a.body, a.header)
	}
	reopen("RS256", "EdDSA")
	if again := w.send("GET", "/.well-known/jwks.json", ""); again.body != set.body || again.header.Get("ETag") != set.header.Get("ETag") {
		t.Errorf("after it was removed the set is %s, it was %s", again.body, set.body)
	}
	if again := w.send("GET", openidPath, ""); again.body != metadata.body {
		t.Errorf("after it was removed the metadata are %s, they were %s", again.body, metadata.body)
	}
}

// otherForm replaces s by n - s in the signature of a token.
func otherForm(t *testing.T, token string) string {
	t.Helper()
	i := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil || len(signature) != 64 {
		t.Fatalf("a signature of %d bytes: %v", len(signature), err)
	}
	s := new(big.Int).SetBytes(signature[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(signature[32:])
	return token[:i+1] + base64.RawURLEncoding.EncodeToString(signature)
}
