package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"flag"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"
)

// A floor is the least that an honest server could do for the same requests: it is
// what Go and net/http cost on this machine, and Keymill is measured by how little
// it adds. It checks one secret and signs; it has no store, no limits, no rotation.
// It must not be crippled: whoever makes it slower says so in the commit message.
type floor struct {
	body   []byte   // constant, as long as the real key set
	length []string // of it, as a header value
	client string
	secret [sha256.Size]byte
	issuer string
	ed     ed25519.PrivateKey
	rsa    *rsa.PrivateKey
}

// The audiences choose the algorithm, as they do at Keymill.
const audienceEd, audienceRSA = "bench-eddsa", "bench-rs256"

// claims are the eight of RFC 9068, section 2.2.
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
}

func newFloor(issuer, client, secret string, bytes int) (*floor, error) {
	var seed [ed25519.SeedSize]byte
	rand.Read(seed[:]) // never fails
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	return &floor{
		body: []byte(strings.Repeat("k", bytes)), length: []string{strconv.Itoa(bytes)},
		issuer: issuer, client: client, secret: sha256.Sum256([]byte(secret)),
		ed: ed25519.NewKeyFromSeed(seed[:]), rsa: key,
	}, err
}

func (f *floor) handler() *httprouter.Router {
	r := httprouter.New()
	r.GET("/.well-known/jwks.json", f.constant)
	r.POST("/token", f.token)
	return r
}

func (f *floor) constant(w http.ResponseWriter, _ *http.Request, _ httprouter.Params) {
	w.Header()["Content-Type"] = jsonType
	w.Header()["Content-Length"] = f.length
	w.Write(f.body)
}

func (f *floor) token(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
	err := r.ParseForm()
	shown := sha256.Sum256([]byte(r.PostForm.Get("client_secret")))
	if err != nil || r.PostForm.Get("client_id") != f.client || subtle.ConstantTimeCompare(shown[:], f.secret[:]) == 0 {
		http.Error(w, "invalid_client", http.StatusUnauthorized)
		return
	}
	answer, err := f.grant(r.PostForm.Get("audience"), r.PostForm.Get("scope"))
	if err != nil {
		http.Error(w, "server_error", http.StatusInternalServerError)
		return
	}
	w.Header()["Content-Type"] = jsonType
	w.Header()["Cache-Control"] = noStore
	w.Write(answer)
}

func (f *floor) grant(audience, scope string) ([]byte, error) {
	now := time.Now().Unix()
	payload, err := json.Marshal(claims{f.issuer, f.client, audience, f.client, now + 900, now, rand.Text(), scope})
	if err != nil {
		return nil, err
	}
	var signed string
	var signature []byte
	if audience == audienceRSA {
		signed = headerRSA + "." + encode(payload)
		sum := sha256.Sum256([]byte(signed))
		signature, err = rsa.SignPKCS1v15(nil, f.rsa, crypto.SHA256, sum[:])
	} else {
		signed = headerEd + "." + encode(payload)
		signature = ed25519.Sign(f.ed, []byte(signed))
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(grant{signed + "." + encode(signature), "Bearer", 900, scope})
}

var (
	jsonType, noStore = []string{"application/json"}, []string{"no-store"}
	// 43 characters stand for the kid, a thumbprint.
	headerEd  = encode([]byte(`{"alg":"EdDSA","kid":"` + strings.Repeat("k", 43) + `","typ":"at+jwt"}`))
	headerRSA = encode([]byte(`{"alg":"RS256","kid":"` + strings.Repeat("k", 43) + `","typ":"at+jwt"}`))
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// serveFloor is the process "bench floor": the limits are those of keymill serve.
func serveFloor(args []string) error {
	flags := flag.NewFlagSet("floor", flag.ContinueOnError)
	listen, bytes := flags.String("listen", "", ""), flags.Int("bytes", 0, "")
	client, secret := flags.String("client", "", ""), flags.String("secret", "", "") // made for this run
	if err := flags.Parse(args); err != nil {
		return err
	}
	f, err := newFloor("http://"+*listen, *client, *secret, *bytes)
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr: *listen, Handler: f.handler(), MaxHeaderBytes: 16 << 10, IdleTimeout: 120 * time.Second,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
	}
	return server.ListenAndServe()
}
