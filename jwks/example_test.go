package jwks_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"keymill/jwks"
)

// A service that follows the keys of its issuer and protects its routes.
func ExampleGuard() {
	id := newIssuer() // stands for https://id.example.com
	defer id.Close()

	keys, err := jwks.NewRemote(jwks.RemoteConfig{Issuer: id.URL})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	verifier, err := jwks.NewVerifier(jwks.VerifierConfig{
		Issuer: id.URL, Audience: "orders", Algorithms: []string{jwks.EdDSA}, Keys: keys,
	})
	if err != nil {
		log.Fatal(err)
	}

	guard := jwks.Guard{Verifier: verifier}
	list := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "the orders of ", jwks.ClaimsOf(r.Context()).Subject)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /orders", guard.Require(http.HandlerFunc(list), "orders:read"))
	mux.Handle("DELETE /orders", guard.Require(http.NotFoundHandler(), "orders:write"))

	alice := id.token("alice", "orders:read")
	fmt.Println(call(mux, "GET /orders", alice))
	fmt.Println(call(mux, "GET /orders", ""))
	fmt.Println(call(mux, "GET /orders", alice+"x"))
	fmt.Println(call(mux, "DELETE /orders", alice))
	// Output:
	// 200 the orders of alice
	// 401 {}
	// 401 {"error":"invalid_token"}
	// 403 {"error":"insufficient_scope"}
}

// The reason of a refusal goes to the log and not to the client.
func ExampleGuard_refused() {
	id := newIssuer()
	defer id.Close()
	guard := jwks.Guard{Verifier: id.verifier(), Refused: func(r *http.Request, why error) {
		log.Printf("refused %s: %v", r.URL.Path, why)
		fmt.Println("malformed:", errors.Is(why, jwks.ErrMalformed)) // or count each reason
	}}
	h := guard.Require(http.NotFoundHandler())

	call(h, "GET /orders", "abc")
	call(h, "GET /orders", "")
	// Output:
	// malformed: true
	// malformed: false
}

// A preflight request has no token, so the handler for CORS is in front of the guard.
func ExampleGuard_Require_cors() {
	id := newIssuer()
	defer id.Close()
	guarded := jwks.Guard{Verifier: id.verifier()}.Require(http.NotFoundHandler())
	cors := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://app.example.com")
		w.Header().Set("Access-Control-Allow-Headers", "Authorization")
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		guarded.ServeHTTP(w, r)
	})

	fmt.Println(call(cors, "OPTIONS /orders", ""))
	fmt.Println(call(cors, "GET /orders", ""))
	// Output:
	// 204
	// 401 {}
}

// A service that does not get its tokens by HTTP calls the verifier itself.
func ExampleVerifier_Verify() {
	id := newIssuer()
	defer id.Close()
	verifier := id.verifier()

	claims, err := verifier.Verify(context.Background(), id.token("alice", "orders:read"))
	switch {
	case errors.Is(err, jwks.ErrUnavailable):
		log.Fatal("try again later: ", err)
	case err != nil:
		log.Fatal("refuse it: ", err)
	}
	var own struct{ Tenant string } // other claims
	if err := json.Unmarshal(claims.Raw, &own); err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Subject, claims.HasScope("orders:read"), claims.HasScope("orders"), own.Tenant)
	// Output: alice true false acme
}

// A service can count or log which step refused a token.
func ExampleFailure() {
	id := newIssuer()
	defer id.Close()
	token := id.token("alice", "orders:read")

	_, err := id.verifier().Verify(context.Background(), token[:len(token)-4]+"AAAA")
	var failure *jwks.Failure
	if errors.As(err, &failure) {
		fmt.Println(failure.Step, errors.Is(err, jwks.ErrSignature))
		fmt.Println("expected:", failure.Expected)
		fmt.Printf("found: %q\n", failure.Found)
	}
	// Output:
	// signature true
	// expected: by that key
	// found: "not by that key, or the token was changed"
}

// A handler can be tested without tokens and keys.
func ExampleWithClaims() {
	greet := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello ", jwks.ClaimsOf(r.Context()).Subject)
	}

	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(jwks.WithClaims(r.Context(), &jwks.Claims{Subject: "alice"}))
	w := httptest.NewRecorder()
	greet(w, r)
	fmt.Println(w.Body)
	// Output: hello alice
}

// An issuer stands for Keymill. It publishes its key and signs tokens.
type issuer struct {
	*httptest.Server
	private ed25519.PrivateKey
	set     *jwks.Set
}

func newIssuer() *issuer {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		log.Fatal(err)
	}
	set, err := jwks.NewSet(jwks.Key{KID: "k1", Alg: jwks.EdDSA, Public: public})
	if err != nil {
		log.Fatal(err)
	}
	keys := jwks.NewHandler(5 * time.Minute)
	keys.Publish(set)
	mux := http.NewServeMux()
	id := &issuer{httptest.NewServer(mux), private, set}
	mux.Handle("/.well-known/jwks.json", keys)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, id.URL, id.URL+"/.well-known/jwks.json")
	})
	return id
}

func (id *issuer) token(subject, scope string) string {
	base64url := base64.RawURLEncoding.EncodeToString
	signed := base64url([]byte(`{"alg":"EdDSA","kid":"k1","typ":"at+jwt"}`)) + "." + base64url(fmt.Appendf(nil,
		`{"iss":%q,"aud":"orders","sub":%q,"client_id":"web","scope":%q,"exp":%d,"tenant":"acme"}`,
		id.URL, subject, scope, time.Now().Add(time.Minute).Unix()))
	return signed + "." + base64url(ed25519.Sign(id.private, []byte(signed)))
}

// verifier uses a fixed key set, for services that have one.
func (id *issuer) verifier() *jwks.Verifier {
	v, err := jwks.NewVerifier(jwks.VerifierConfig{
		Issuer: id.URL, Audience: "orders", Algorithms: []string{jwks.EdDSA}, Keys: id.set,
	})
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// call sends "GET /path", with a token if there is one, and returns status and body.
func call(h http.Handler, line, token string) string {
	method, path, _ := strings.Cut(line, " ")
	r, w := httptest.NewRequest(method, path, nil), httptest.NewRecorder()
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	h.ServeHTTP(w, r)
	return strings.TrimSpace(fmt.Sprint(w.Code, " ", w.Body))
}
