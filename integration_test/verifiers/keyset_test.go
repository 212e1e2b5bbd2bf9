package verifiers

import (
	"encoding/json"
	"net/http"
	"testing"
)

// TestSimpleClientsCanReadTheKeySet: PyJWT's client sends no Accept-Encoding, follows only the
// redirects of urllib and parses the whole set. So the answer must be plain JSON without a
// redirect, and PyJWT must be able to parse the keys that it does not use (OKP in an RS256
// service).
func TestSimpleClientsCanReadTheKeySet(t *testing.T) {
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
		t.Fatalf("the set has %v, want keys of both algorithms", kinds)
	}
	s := libraryOf(t, "simplejwt").service(t, srv, "RS256", 0)
	s.want(t, 200, token(t, srv, clients["RS256"], s.audience), "an OKP key beside the RSA key")
}
