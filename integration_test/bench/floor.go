package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"
)

// A floor is a minimal server for the same requests. It shows what Go and net/http cost on this
// machine; the rest of Keymill's time is Keymill's own. It checks one secret and signs. It has
// no rate limits and no key rotation, and it has a store only for the refresh (see refresh). A
// change that makes it slower must say so in its commit message.
type floor struct {
	body    []byte                       // always the same, as long as the real key set
	length  []string                     // of body, as a header value
	secrets map[string][sha256.Size]byte // client → hash of its secret
	issuer  string
	keys    floorKeys
	records *committer
}

// claims are the claims of RFC 9068, section 2.2, with scope.
type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Client   string `json:"client_id"`
	Expires  int64  `json:"exp"`
	Issued   int64  `json:"iat"`
	ID       string `json:"jti"`
	Scope    string `json:"scope"`
}

// A grant is the answer (RFC 6749, section 5.1).
type grant struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	Scope       string `json:"scope"`
	Refresh     string `json:"refresh_token,omitempty"`
}

// newFloor returns a floor for clients, a map from id to secret. Its key set has so many bytes,
// and its records are in dir.
func newFloor(issuer string, clients map[string]string, bytes int, dir string) (*floor, error) {
	f := &floor{
		body: []byte(strings.Repeat("k", bytes)), length: []string{strconv.Itoa(bytes)},
		issuer: issuer, secrets: map[string][sha256.Size]byte{},
	}
	for id, secret := range clients {
		f.secrets[id] = sha256.Sum256([]byte(secret))
	}
	var err error
	if f.keys, err = newFloorKeys(); err != nil {
		return nil, err
	}
	f.records, err = openCommitter(dir)
	return f, err
}

func (f *floor) handler() *httprouter.Router {
	r := httprouter.New()
	r.GET("/.well-known/jwks.json", f.constant)
	r.POST("/token", f.token)
	r.POST("/api/token/", f.login)
	return r
}

func (f *floor) constant(w http.ResponseWriter, _ *http.Request, _ httprouter.Params) {
	w.Header()["Content-Type"] = jsonType
	w.Header()["Content-Length"] = f.length
	w.Write(f.body)
}

func (f *floor) token(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	err := r.ParseForm()
	presented := sha256.Sum256([]byte(r.PostForm.Get("client_secret")))
	want := f.secrets[r.PostForm.Get("client_id")] // the zero value is the hash of no secret
	if err != nil || subtle.ConstantTimeCompare(presented[:], want[:]) == 0 {
		http.Error(w, "invalid_client", http.StatusUnauthorized)
		return
	}
	answer, err := f.grant(r.PostForm)
	if err != nil {
		http.Error(w, "server_error", http.StatusInternalServerError)
		return
	}
	w.Header()["Content-Type"] = jsonType
	w.Header()["Cache-Control"] = noStore
	w.Write(answer)
}

func (f *floor) grant(form url.Values) ([]byte, error) {
	client, audience, scope := form.Get("client_id"), form.Get("audience"), form.Get("scope")
	var next string
	var err error
	if form.Get("grant_type") == "refresh_token" {
		if next, err = f.refresh(form.Get("refresh_token")); err != nil {
			return nil, err
		}
	}
	now := time.Now().Unix()
	payload, err := json.Marshal(claims{f.issuer, client, audience, client, now + 900, now, rand.Text(), scope})
	if err != nil {
		return nil, err
	}
	signed, err := f.keys.sign(audience, payload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(grant{signed, "Bearer", 900, scope, next})
}

var jsonType, noStore = []string{"application/json"}, []string{"no-store"}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
