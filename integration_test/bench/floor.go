package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A floor is the least that a correct server in Go does for the same requests. It shows what Go and net/http cost
// on this machine; the rest of Keymill's time is Keymill's own. net/http, with the timeouts of keymill serve, reads
// the requests and writes the answers. The floor reads the form, looks up one client, hashes and compares its
// secret, and signs with the standard library. It has no middleware, limits, log, metrics or rotation of keys, and a store only
// for the refresh (see refresh). What it writes into JSON needs no escaping, because it was compared with known text first. A
// change that makes it slower must say so in its commit message.
type floor struct {
	body    []byte                       // always the same, as long as the real key set
	length  []string                     // of body, as a header value
	secrets map[string][sha256.Size]byte // client → hash of its secret
	issuer  string
	keys    floorKeys
	records *committer
}

const tokenScope = "read"

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

func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + r.URL.Path {
	case "GET/.well-known/jwks.json":
		header := w.Header()
		header["Content-Type"], header["Content-Length"] = jsonType, f.length
		w.Write(f.body)
	case "POST/token":
		f.token(w, r)
	case "POST/api/token/":
		f.login(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (f *floor) token(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(r)
	presented := sha256.Sum256([]byte(form.secret))
	want, known := f.secrets[form.client]
	switch {
	case err != nil || form.scope != tokenScope || !f.keys.has(form.audience):
		http.Error(w, "invalid_request", http.StatusBadRequest)
		return
	case subtle.ConstantTimeCompare(presented[:], want[:]) == 0 || !known:
		http.Error(w, "invalid_client", http.StatusUnauthorized)
		return
	}
	answer, err := f.grant(form)
	if err != nil {
		http.Error(w, "server_error", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header["Content-Type"], header["Cache-Control"], header["Pragma"] = jsonType, noStore, noCache // RFC 6749, section 5.1
	w.Write(answer)
}

// grant returns the answer, with a token that has the claims of RFC 9068, section 2.2.
func (f *floor) grant(form form) ([]byte, error) {
	next := ""
	if form.grantType == "refresh_token" {
		var err error
		if next, err = f.refresh(form.refresh); err != nil {
			return nil, err
		}
	}
	var id [16]byte
	rand.Read(id[:])
	now := time.Now().Unix()
	payload := make([]byte, 0, 512)
	payload = append(append(payload, `{"iss":"`...), f.issuer...)
	payload = append(append(payload, `","sub":"`...), form.client...)
	payload = append(append(payload, `","aud":"`...), form.audience...)
	payload = append(append(payload, `","client_id":"`...), form.client...)
	payload = strconv.AppendInt(append(payload, `","exp":`...), now+900, 10)
	payload = strconv.AppendInt(append(payload, `,"iat":`...), now, 10)
	payload = base64.RawURLEncoding.AppendEncode(append(payload, `,"jti":"`...), id[:])
	payload = append(payload, `","scope":"`+tokenScope+`"}`...)

	answer := append(make([]byte, 0, 1024), `{"access_token":"`...)
	answer, err := f.keys.appendToken(answer, form.audience, payload)
	answer = append(answer, `","token_type":"Bearer","expires_in":900,"scope":"`+tokenScope...)
	if next != "" {
		answer = append(append(answer, `","refresh_token":"`...), next...)
	}
	return append(answer, `"}`...), err
}

var jsonType, noStore, noCache = []string{"application/json"}, []string{"no-store"}, []string{"no-cache"}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
