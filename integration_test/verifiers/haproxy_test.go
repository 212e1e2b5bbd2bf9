package verifiers

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

// TestWhatTheHAProxyPageSays about lists of audiences, about crit and about headers of the caller.
func TestWhatTheHAProxyPageSays(t *testing.T) {
	srv, clients := issuer(t, slow, "10m")
	m := newMints(t, srv, clients)["RS256"]
	s := libraryOf(t, "haproxy").service(t, srv, "RS256", 0)
	s.want(t, 200, m.claim(nil), "one audience")
	s.want(t, 401, m.claim(object{"aud": []string{s.audience}}), "a list with the audience alone")
	s.want(t, 401, m.claim(object{"aud": []string{s.audience, "elsewhere"}}), "a list of audiences")
	s.want(t, 200, m.claim(object{"exp": "9999999999"}), "exp as text")
	s.want(t, 401, m.head(object{"crit": []string{"b64", "exp"}}), "crit with two entries")
	s.want(t, 200, m.head(object{"crit": []string{}}), "an empty crit, which RFC 7515 forbids")

	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["X-Subject"] = []string{"root", "admin"}
	req.Header.Set("Authorization", "Bearer "+m.genuine)
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Sub string }
	if body, err := io.ReadAll(resp.Body); err != nil || json.Unmarshal(body, &answer) != nil || answer.Sub != clients["RS256"].ID {
		t.Errorf("with a forged header: %q, %v", body, err)
	}
	req.Header.Del("Authorization")
	req.URL.RawQuery = "access_token=" + m.genuine
	if resp, err = s.http.Do(req); err != nil || resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("a token in the query: %v, %v", resp, err)
	}
}
