package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"keymill/jwks"
)

// A testIssuer publishes two keys of each algorithm on the loopback interface. Of each algorithm one signs and
// one is a spare, as in Keymill's key sets.
type testIssuer struct {
	issuer string
	keys   map[string]crypto.Signer // alg → the key that signs
	server *http.Server
}

const (
	issuerAudience = "orders.example.com"
	keySetPath     = "/.well-known/jwks.json"
	tokenLife      = 15 * time.Minute // longer than the longest comparison
)

func startIssuer() (*testIssuer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &testIssuer{issuer: "http://" + listener.Addr().String(), keys: map[string]crypto.Signer{}}
	handler, err := s.handler()
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s.server = &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go s.server.Serve(listener) // ends with close
	return s, nil
}

func (s *testIssuer) close() error { return s.server.Close() }

// handler serves discovery and the key set. Verifiers may cache the set for an hour, so that
// none fetches it while it is measured.
func (s *testIssuer) handler() (http.Handler, error) {
	var public []jwks.Key
	for range 2 {
		for _, alg := range jwks.Algorithms() {
			signer, err := newSigner(alg)
			if err != nil {
				return nil, err
			}
			kid, err := jwks.Thumbprint(signer.Public())
			if err != nil {
				return nil, err
			}
			public = append(public, jwks.Key{KID: kid, Alg: alg, Public: signer.Public()})
			s.keys[alg] = signer
		}
	}
	set, err := jwks.NewSet(public...)
	if err != nil {
		return nil, err
	}
	keySet := jwks.NewHandler(time.Hour)
	keySet.Publish(set)
	mux := http.NewServeMux()
	mux.Handle(keySetPath, keySet)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = jsonType
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, s.issuer, s.issuer+keySetPath)
	})
	return mux, nil
}

func newSigner(alg string) (crypto.Signer, error) {
	switch alg {
	case jwks.RS256:
		return rsa.GenerateKey(rand.Reader, 2048)
	case jwks.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
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

// userClaims are the claims of a user's access token, as Keymill writes them.
type userClaims struct {
	claims
	Session string `json:"sid"`
}

// claims returns the claims of a valid token with a new jti and a new session.
func (s *testIssuer) claims() userClaims {
	var id [16]byte
	rand.Read(id[:]) // never fails
	now := time.Now()
	return userClaims{
		claims: claims{
			Issuer: s.issuer, Subject: "usr_" + rand.Text(), Audience: issuerAudience, Client: "web-shop",
			Expires: now.Add(tokenLife).Unix(), Issued: now.Add(-5 * time.Second).Unix(),
			ID: encode(id[:]), Scope: "orders:read orders:write",
		},
		Session: rand.Text(),
	}
}

// A signed is a token with the parts that verifyBare needs.
type signed struct {
	text      string
	subject   string
	covered   []byte // the bytes that are signed
	signature []byte
	key       crypto.PublicKey
}

// tokens signs n valid tokens. They all differ, so that remembering one does not help.
func (s *testIssuer) tokens(alg string, n int) ([]signed, error) {
	out := make([]signed, n)
	for i := range out {
		var err error
		if out[i], err = s.sign(alg, s.claims()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *testIssuer) sign(alg string, c userClaims) (signed, error) {
	key := s.keys[alg]
	kid, err := jwks.Thumbprint(key.Public())
	if err != nil {
		return signed{}, err
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return signed{}, err
	}
	covered := tokenHeader(alg, kid) + "." + encode(payload)
	digest, hash := []byte(covered), crypto.Hash(0) // Ed25519 hashes by itself
	if alg != jwks.EdDSA {
		sum := sha256.Sum256(digest)
		digest, hash = sum[:], crypto.SHA256
	}
	signature, err := key.Sign(rand.Reader, digest, hash)
	if err == nil && alg == jwks.ES256 {
		signature = fromDER(signature)
	}
	if err != nil {
		return signed{}, err
	}
	return signed{covered + "." + encode(signature), c.Subject, []byte(covered), signature, key.Public()}, nil
}

func tokenHeader(alg, kid string) string {
	return encode([]byte(`{"alg":"` + alg + `","kid":"` + kid + `","typ":"at+jwt"}`))
}
