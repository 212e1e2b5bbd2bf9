package verifiers

import (
	"encoding/json"
	"net/http"
	"testing"
)

// TestTheKeySetSuitsSimpleClients: PyJWT's client sends no Accept-Encoding, follows
// what urllib follows and parses the whole set, so an answer has to be plain JSON at
// the first address, and a key that it cannot use (OKP for an RS256 service) has to
// be of a kind that it can at least read.
func TestTheKeySetSuitsSimpleClients(t *testing.T) {
	srv, clients := issuer(t, "", "15m")
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
	s := makerOf(t, "simplejwt").service(t, srv, "RS256", 0)
	s.want(t, 200, token(t, srv, clients["RS256"], s.audience), "an OKP key beside the RSA key")
}
