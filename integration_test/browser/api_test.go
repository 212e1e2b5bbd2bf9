package browser

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keymill/jwks"
)

// An api is a protected API. GET /orders answers with the name of the user. It verifies every
// token without asking the token server.
type api struct {
	mu      sync.Mutex // guards the fields below
	keys    *jwks.Set
	want    jwks.Expectation
	origins []string // pages of these may read its answers
	answers []int    // the status of each
}

// trust fetches the issuer's keys once, since no key rotates here.
func (a *api) trust(t *testing.T, issuer string, c *http.Client, origins ...string) {
	t.Helper()
	keys, err := jwks.Fetch(t.Context(), c, issuer)
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys, a.origins = keys, origins
	a.want = jwks.Expectation{Issuer: issuer, Audience: audience, Algorithms: []string{jwks.EdDSA}}
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Vary", "Origin")
	if origin := r.Header.Get("Origin"); slices.Contains(a.origins, origin) {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Allow-Headers", "Authorization")
	}
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	claims, err := jwks.Check(token, a.keys, a.want, time.Now())
	if err != nil {
		a.answers = append(a.answers, http.StatusUnauthorized)
		http.Error(w, "invalid_token", http.StatusUnauthorized)
		return
	}
	a.answers = append(a.answers, http.StatusOK)
	json.NewEncoder(w).Encode(map[string]string{"user": claims.Subject})
}

// drain returns the status of every answer since its last call.
func (a *api) drain() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	answers := a.answers
	a.answers = nil
	return answers
}
