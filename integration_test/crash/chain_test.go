package crash

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"keymill/integration_test/server"
)

// A chain holds all refresh tokens of one family that the server returned. Each generation has one
// token. Two different tokens of a generation would mean two successors of the same token (I9).
type chain struct {
	mu     sync.Mutex
	tokens []string // generation → token
}

// note adds the refresh token that was returned when generation from was presented.
func (c *chain) note(from uint32, answered string) error {
	_, generation, err := server.ReadToken(answered)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case generation != from+1:
		return fmt.Errorf("generation %d was answered with generation %d", from, generation)
	case int(generation) > len(c.tokens):
		return fmt.Errorf("generation %d was returned before generation %d", generation, len(c.tokens))
	case int(generation) == len(c.tokens):
		c.tokens = append(c.tokens, answered)
	case c.tokens[generation] != answered:
		return fmt.Errorf("generation %d has two different successors", from)
	}
	return nil
}

// newest returns the highest generation in the chain, and its token.
func (c *chain) newest() (uint32, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.tokens) - 1
	return uint32(last), c.tokens[last]
}

func (c *chain) family() string {
	family, _, _ := server.ReadToken(c.tokens[0])
	return family
}

// generations maps each live family of Person to its current generation, as the server lists it.
func generations(t *testing.T, srv *server.Server) map[string]uint32 {
	t.Helper()
	var list []struct {
		ID         string `json:"session_id"`
		Generation uint32
	}
	srv.RunJSON(t, &list, "session", "list", "--user", server.Person)
	out := make(map[string]uint32)
	for _, s := range list {
		out[s.ID] = s.Generation
	}
	return out
}

func login(t *testing.T, srv *server.Server) *chain {
	t.Helper()
	token, err := srv.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &chain{tokens: []string{token}}
}

// rotate refreshes a family that many times, each time with its newest token.
func rotate(t *testing.T, srv *server.Server, c *chain, times int) {
	t.Helper()
	for range times {
		from, token := c.newest()
		a, err := srv.Refresh(t.Context(), server.Web, token)
		if err == nil {
			err = c.note(from, a.Field("refresh_token"))
		}
		if err != nil {
			t.Errorf("generation %d: %v in %s", from, err, a)
		}
	}
}

// jtiOf returns the id of the access token in an answer.
func jtiOf(a server.Answer) string {
	var claims struct{ JTI string }
	_, rest, _ := strings.Cut(a.Field("access_token"), ".")
	payload, _, _ := strings.Cut(rest, ".")
	json.Unmarshal(decode(payload), &claims)
	return claims.JTI
}
