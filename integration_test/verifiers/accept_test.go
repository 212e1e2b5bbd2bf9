package verifiers

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/server"
)

// profiles maps an algorithm to the claims of its tokens: a foreign token has to be
// refused for its audience, not because simplejwt misses a claim.
var profiles = map[string]string{"EdDSA": "rfc9068", "RS256": "simplejwt"}

// start runs a server with an audience and a client per algorithm.
func start(t *testing.T, config, ttl string) (*server.Server, map[string]server.Client) {
	t.Helper()
	srv := server.Start(t, server.Options{Config: config})
	clients := map[string]server.Client{} // algorithm → its client
	for alg, profile := range profiles {
		srv.Run(t, "audience", "add", audienceOf(alg), "--alg", alg, "--ttl", ttl, "--profile", profile)
		clients[alg] = srv.AddClient(t, "billing-"+strings.ToLower(alg), audienceOf(alg))
	}
	return srv, clients
}

func token(t *testing.T, srv *server.Server, c server.Client, audience string) string {
	t.Helper()
	tok, err := srv.Token(t.Context(), c, audience)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// TestStrangersAcceptOurTokensAndNoOthers: what every service answers to a good
// token, none, a tampered, a foreign and an expired one.
func TestStrangersAcceptOurTokensAndNoOthers(t *testing.T) {
	srv, clients := start(t, "", "15m")
	foreign := map[string]string{} // algorithm → token for an audience that nobody here serves
	for alg := range clients {
		other := "other-" + strings.ToLower(alg)
		srv.Run(t, "audience", "add", other, "--alg", alg, "--profile", profiles[alg])
		foreign[alg] = token(t, srv, srv.AddClient(t, other+"-client", other), other)
	}
	good, short := map[string]string{}, map[string]string{}
	for alg, c := range clients {
		good[alg] = token(t, srv, c, audienceOf(alg))
		srv.Run(t, "audience", "set", audienceOf(alg), "--ttl", "1s")
		short[alg] = token(t, srv, c, audienceOf(alg))
	}
	time.Sleep(2 * time.Second) // past exp, whatever the fraction of the second was
	for _, m := range makers {
		t.Run(m.name+"/"+m.alg, func(t *testing.T) {
			s := m.service(t, srv, 0)
			status, body, err := s.ask(t.Context(), good[m.alg])
			var answer struct{ Sub string }
			if json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || answer.Sub != clients[m.alg].ID {
				t.Errorf("a good token: %d %.200s (%v), want 200 and sub %s", status, body, err, clients[m.alg].ID)
			}
			s.want(t, 401, "", "no token")
			s.want(t, 401, "nonsense", "no JWT")
			for part := range 3 {
				s.want(t, 401, tamper(good[m.alg], part), "a tampered token")
			}
			s.want(t, 401, foreign[m.alg], "a token for another audience")
			s.want(t, 401, short[m.alg], "an expired token")
			s.want(t, 200, good[m.alg], "the good token, again")
		})
	}
}

// tamper changes one character in the middle of a part: header, claims, signature.
func tamper(token string, part int) string {
	parts := strings.Split(token, ".")
	b := []byte(parts[part])
	i := len(b) / 2
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	parts[part] = string(b)
	return strings.Join(parts, ".")
}

// TestTheKeySetSuitsSimpleClients: PyJWT's client sends no Accept-Encoding, follows
// what urllib follows and parses the whole set, so an answer has to be plain JSON at
// the first address, and a key that it cannot use (OKP for an RS256 service) has to
// be of a kind that it can at least read.
func TestTheKeySetSuitsSimpleClients(t *testing.T) {
	srv, clients := start(t, "", "15m")
	client := &http.Client{
		Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			t.Error("the key set was redirected")
			return http.ErrUseLastResponse
		},
	}
	req, err := http.NewRequest("GET", srv.Issuer+"/.well-known/jwks.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Python-urllib/3.11")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Encoding"); resp.StatusCode != 200 || got != "" {
		t.Errorf("status %d, Content-Encoding %q: want 200 and none", resp.StatusCode, got)
	}
	var set struct {
		Keys []struct{ Kty, Alg, Kid string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, k := range set.Keys {
		kinds[k.Kty+" "+k.Alg]++
	}
	if kinds["OKP EdDSA"] == 0 || kinds["RSA RS256"] == 0 {
		t.Fatalf("the set has %v: the test needs both kinds side by side", kinds)
	}
	s := makers[0].service(t, srv, 0)
	s.want(t, 200, token(t, srv, clients["RS256"], s.audience), "an OKP key beside the RSA key")
}
