package endpoint

import (
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/keystore"
	"keymill/storage"
)

// segment decodes one part of a token strictly.
func segment(t *testing.T, token string, n int) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(parts[n])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// shop adds a client of the RS256 audience and returns a token of it.
func (w *world) shopToken() string {
	w.t.Helper()
	c, err := w.issuer.AddClient(w.t.Context(), api.NewClient{
		ID: "till", Grants: []string{"client_credentials"}, Audiences: []string{"shop"}, Scopes: []string{"buy"},
	}, "uid:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return w.token(w.post("grant_type=client_credentials", basic("till", string(c.Secret))))
}

// R45.
func TestTheTokenHeaderHasOnlyTypeAlgorithmAndKey(t *testing.T) {
	w := newWorld(t)
	for token, alg := range map[string]string{w.token(w.post(w.good())): "EdDSA", w.shopToken(): "RS256"} {
		h := segment(t, token, 0)
		if len(h) != 3 || h["typ"] != "at+jwt" || h["alg"] != alg || h["kid"] == "" || h["kid"] == nil {
			t.Errorf("header %v", h)
		}
	}
}

// R46.
func TestClaimsAreCompleteAndTokenIDsAreUnique(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for range 200 {
		c := segment(t, w.token(w.post(w.good())), 1)
		for _, name := range []string{"iss", "sub", "aud", "client_id", "jti", "scope"} {
			if s, ok := c[name].(string); !ok || s == "" {
				t.Fatalf("%s: %v", name, c[name])
			}
		}
		exp, ok1 := c["exp"].(float64)
		iat, ok2 := c["iat"].(float64)
		if !ok1 || !ok2 || exp-iat != 905 || exp != float64(int64(exp)) { // 15 min, and iat is 5 s in the past
			t.Fatalf("exp %v, iat %v", c["exp"], c["iat"])
		}
		jti := c["jti"].(string)
		if b, err := base64.RawURLEncoding.Strict().DecodeString(jti); err != nil || len(b) != 16 || seen[jti] {
			t.Fatalf("jti %q", jti)
		}
		seen[jti] = true
		if len(c) != 8 {
			t.Fatalf("claims %v", c)
		}
	}
}

// R47.
func TestIssuerAndAudience(t *testing.T) {
	w := newWorld(t)
	metadata := w.send("GET", "/.well-known/oauth-authorization-server", "").json(t)
	for _, form := range []string{w.good(), w.good("audience=orders"), w.good("resource=orders")} {
		c := segment(t, w.token(w.post(form)), 1)
		if c["iss"] != metadata["issuer"] || c["iss"] != testIssuer || c["aud"] != "orders" {
			t.Errorf("iss %v, aud %v", c["iss"], c["aud"])
		}
	}
	for _, form := range []string{w.good("audience=shop"), w.good("resource=shop"), w.good("resource=https://nowhere.example"), w.good("audience=%00")} {
		refusedToken(t, form, w.post(form), 400, "invalid_target")
	}
}

// R48.
func TestTheSubjectIsTheClientAndItsIDIsReserved(t *testing.T) {
	w := newWorld(t)
	if c := w.verify(w.token(w.post(w.good())), "orders"); c.Subject != "billing" || c.ClientID != "billing" {
		t.Errorf("sub %q, client_id %q", c.Subject, c.ClientID)
	}
	// The index that users and clients share.
	var kind []byte
	err := w.store.View(t.Context(), func(r storage.Reader) (err error) {
		kind, err = r.Get("id/billing")
		return err
	})
	if err != nil || string(kind) != "client" {
		t.Errorf("the index says %q, %v", kind, err)
	}
}

// R49.
func TestTokensAreCanonical(t *testing.T) {
	w := newWorld(t)
	for _, token := range []string{w.token(w.post(w.good())), w.shopToken()} {
		if !regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`).MatchString(token) {
			t.Errorf("token %q", token)
		}
		for part := range strings.SplitSeq(token, ".") {
			b, err := base64.RawURLEncoding.DecodeString(part)
			if err != nil || base64.RawURLEncoding.EncodeToString(b) != part {
				t.Errorf("segment %q is not canonical: %v", part, err)
			}
		}
	}
}

// R50.
func TestRS256KeysHaveAtLeast2048Bits(t *testing.T) {
	w := newWorld(t)
	w.verify(w.shopToken(), "shop")
	found := false
	for _, k := range w.keySet().Keys() {
		if public, ok := k.Public.(*rsa.PublicKey); ok {
			found = true
			if public.N.BitLen() < 2048 {
				t.Errorf("modulus of %d bits", public.N.BitLen())
			}
		}
	}
	if !found {
		t.Error("no RSA key")
	}
}

// R51.
func TestEd25519KeysAreOKP(t *testing.T) {
	w := newWorld(t)
	for _, k := range rawKeys(t, w) {
		if k["kty"] != "OKP" {
			continue
		}
		x, _ := k["x"].(string)
		b, err := base64.RawURLEncoding.Strict().DecodeString(x)
		if err != nil || len(b) != ed25519.PublicKeySize || k["crv"] != "Ed25519" || k["y"] != nil || k["d"] != nil {
			t.Errorf("key %v", k)
		}
		token := w.token(w.post(w.good()))
		signature, err := base64.RawURLEncoding.Strict().DecodeString(token[strings.LastIndexByte(token, '.')+1:])
		if err != nil || len(signature) != ed25519.SignatureSize {
			t.Errorf("signature of %d bytes", len(signature))
		}
		return
	}
	t.Error("no OKP key")
}

// R52.
func TestOneKeyHasOneAlgorithm(t *testing.T) {
	w := newWorld(t)
	algs := map[string]any{}
	for _, k := range rawKeys(t, w) {
		algs[k["kid"].(string)] = k["alg"]
	}
	for _, token := range []string{w.token(w.post(w.good())), w.shopToken()} {
		h := segment(t, token, 0)
		if algs[h["kid"].(string)] != h["alg"] {
			t.Errorf("header %v, set %v", h, algs)
		}
	}
}

// R55.
func TestARequestCannotAddClaims(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"iss", "sub", "exp", "aud", "scope", "cnf", "claims", "metadata", "jti"} {
		a := w.askAdmin("POST", "/admin/v1/clients", `{"client_id":"evil","`+name+`":"x"}`)
		refusedToken(t, name, a, 400, "invalid_request")
		a = w.askAdmin("PATCH", "/admin/v1/client?id=billing", `{"`+name+`":"x"}`)
		refusedToken(t, name, a, 400, "invalid_request")
	}
	c := segment(t, w.token(w.post(w.good("sub=evil&iss=evil&aud=evil&exp=1&jti=evil&client=evil"))), 1)
	if c["sub"] != "billing" || c["iss"] != testIssuer || c["aud"] != "orders" || c["jti"] == "evil" {
		t.Errorf("claims %v", c)
	}
}

func rawKeys(t *testing.T, w *world) []map[string]any {
	t.Helper()
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal([]byte(w.send("GET", "/.well-known/jwks.json", "").body), &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

// R57.
func TestPublishedKeysAreCompleteAndPublic(t *testing.T) {
	keys := rawKeys(t, newWorld(t))
	if len(keys) < 2 {
		t.Fatalf("%d keys", len(keys))
	}
	for _, k := range keys {
		for _, name := range []string{"kty", "kid", "use", "alg"} {
			if s, ok := k[name].(string); !ok || s == "" {
				t.Errorf("%s: %v", name, k[name])
			}
		}
		if k["use"] != "sig" {
			t.Errorf("use: %v", k["use"])
		}
		for name, v := range k {
			if _, ok := v.(string); !ok || slices.Contains([]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}, name) {
				t.Errorf("member %s", name)
			}
		}
	}
}

// R58, I6.
func TestKidsAreUniqueAndARevokedKeyLeavesAtOnce(t *testing.T) {
	w := newWorld(t)
	seen := map[any]bool{}
	for _, k := range rawKeys(t, w) {
		if seen[k["kid"]] {
			t.Errorf("kid %v twice", k["kid"])
		}
		seen[k["kid"]] = true
	}
	kid, _ := segment(t, w.token(w.post(w.good())), 0)["kid"].(string)
	if a := w.askAdmin("POST", "/admin/v1/keys/revoke", `{"kid":"`+kid+`"}`); a.status != 200 || a.json(t)["was"] != "active" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, k := range rawKeys(t, w) {
		if k["kid"] == kid {
			t.Error("the revoked key is still published")
		}
	}
	if now := segment(t, w.token(w.post(w.good())), 0)["kid"]; now == kid {
		t.Error("the revoked key signs")
	}
}

// R59.
func TestTheKeySetIsCacheable(t *testing.T) {
	w := newWorld(t)
	const path = "/.well-known/jwks.json"
	a, b := w.send("GET", path, ""), w.send("GET", path, "")
	etag := a.header.Get("ETag")
	if a.status != 200 || a.body != b.body || etag == "" || strings.HasPrefix(etag, "W/") || etag != b.header.Get("ETag") {
		t.Errorf("%d, ETag %q", a.status, etag)
	}
	if a.header.Get("Cache-Control") != "public, max-age=300" || a.header.Get("Content-Encoding") != "" {
		t.Errorf("header %v", a.header)
	}
	if a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("header %v", a.header)
	}
	if c := w.send("GET", path, "", "If-None-Match: "+etag); c.status != 304 || c.body != "" {
		t.Errorf("%d %q", c.status, c.body)
	}
	if c := w.send("HEAD", path, ""); c.status != 200 || c.body != "" || c.header.Get("ETag") != etag {
		t.Errorf("HEAD: %d %q", c.status, c.body)
	}
}

func TestAnInvalidKeyDoesNotStopThePublicationOfOthers(t *testing.T) {
	w := newWorld(t)
	good, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.server.cfg.KeySet.Publish([]keystore.PublicKey{
		{KID: "good", Alg: "EdDSA", Public: good}, {KID: "bad", Alg: "HS256", Public: []byte("x")},
	})
	if keys := rawKeys(t, w); len(keys) != 1 || keys[0]["kid"] != "good" {
		t.Errorf("keys %v", keys)
	}
	if issues := w.server.checks.Issues(); len(issues) != 1 || !strings.Contains(issues[0], "key bad is not published") {
		t.Errorf("%q", issues)
	}
	w.server.cfg.KeySet.Publish([]keystore.PublicKey{{KID: "good", Alg: "EdDSA", Public: good}})
	if words := w.server.cfg.KeySet.Issue(); words != "" {
		t.Errorf("still %q", words)
	}
}
