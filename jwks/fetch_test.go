package jwks

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// issuerServer answers discovery with document, in which ISSUER stands for its own
// address, and serves set at /keys.
func issuerServer(t *testing.T, document string, set *Set) string {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(strings.ReplaceAll(document, "ISSUER", server.URL)))
	})
	h := NewHandler(time.Minute)
	h.Publish(set)
	mux.Handle("/keys", h)
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/keys", http.StatusFound)
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		w.Write(bytes.Repeat([]byte(" "), 300<<10))
	})
	return server.URL
}

func TestFetchReadsTheSetOfTheIssuer(t *testing.T) {
	set := mustSet(t, edKey("ed"), rsaKey("rsa"))
	issuer := issuerServer(t, `{"issuer":"ISSUER","jwks_uri":"ISSUER/keys","more":[1]}`, set)
	for _, client := range []*http.Client{nil, {Timeout: time.Second}} {
		got, err := Fetch(context.Background(), client, issuer)
		if err != nil {
			t.Fatal(err)
		}
		if got.ETag() != set.ETag() {
			t.Errorf("fetched %s", got.JSON())
		}
	}
}

func TestFetchBelievesOnlyTheIssuersOwnDocument(t *testing.T) {
	set := mustSet(t, edKey("ed"))
	for name, document := range map[string]string{
		"another issuer":   `{"issuer":"https://id.example","jwks_uri":"ISSUER/keys"}`,
		"trailing slash":   `{"issuer":"ISSUER/","jwks_uri":"ISSUER/keys"}`,
		"no issuer":        `{"jwks_uri":"ISSUER/keys"}`,
		"issuer twice":     `{"issuer":"x","issuer":"ISSUER","jwks_uri":"ISSUER/keys"}`,
		"no jwks_uri":      `{"issuer":"ISSUER"}`,
		"other scheme":     `{"issuer":"ISSUER","jwks_uri":"https://127.0.0.1:1/keys"}`,
		"not loopback":     `{"issuer":"ISSUER","jwks_uri":"http://192.0.2.1/keys"}`,
		"file":             `{"issuer":"ISSUER","jwks_uri":"file:///keys"}`,
		"relative":         `{"issuer":"ISSUER","jwks_uri":"/keys"}`,
		"redirect":         `{"issuer":"ISSUER","jwks_uri":"ISSUER/moved"}`,
		"too long":         `{"issuer":"ISSUER","jwks_uri":"ISSUER/long"}`,
		"missing":          `{"issuer":"ISSUER","jwks_uri":"ISSUER/none"}`,
		"not a set":        `{"issuer":"ISSUER","jwks_uri":"ISSUER/.well-known/openid-configuration"}`,
		"no document":      `nothing`,
		"document too big": `{"issuer":"ISSUER","jwks_uri":"ISSUER/keys"}` + strings.Repeat(" ", 256<<10),
	} {
		if got, err := Fetch(context.Background(), nil, issuerServer(t, document, set)); err == nil {
			t.Errorf("%s: fetched %s", name, got.JSON())
		}
	}
}

func TestFetchNeverStepsDownFromTLS(t *testing.T) {
	const document = `{"issuer":"https://id.example","jwks_uri":"http://127.0.0.1/keys"}`
	if location, err := readDiscovery([]byte(document), "https://id.example"); err == nil {
		t.Errorf("went on to %s", location)
	}
}

func TestFetchAsksOnlyWhereAnswersCanBeTrusted(t *testing.T) {
	for _, issuer := range []string{
		"", "id.example", "http://id.example", "http://192.0.2.1", "ftp://127.0.0.1", "https://", "http://localhost.example",
		"https://id.example//", "https://id.example/a//b", "https://id.example/a/..", "https://id.example/./a", "https://id.example/%61",
		"https://id.example?x", "https://id.example#x", "https://id.example/a#", "https://id.example/a?", "https://a@id.example",
		"HTTPS://id.example", "https://:443",
	} {
		asked := false
		client := &http.Client{Transport: transport(func() { asked = true })}
		if _, err := Fetch(context.Background(), client, issuer); err == nil || asked {
			t.Errorf("%q: asked %v, %v", issuer, asked, err)
		}
	}
}

type transport func()

func (f transport) RoundTrip(*http.Request) (*http.Response, error) {
	f()
	return nil, http.ErrServerClosed
}

func TestFetchEndsWithItsContext(t *testing.T) {
	stuck := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		<-stuck
	}))
	defer server.Close()
	defer close(stuck)
	// A Fetch that does not see the cancellation ends by its own timeout, with another error.
	if _, err := Fetch(ctx, nil, server.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// FuzzReadDiscovery: whatever a document says, the keys are asked for by TLS only.
func FuzzReadDiscovery(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://id.example","jwks_uri":"https://id.example/keys"}`))
	f.Add([]byte(`{"issuer":"https://id.example","jwks_uri":"HTTP://[::1]/"}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		location, err := readDiscovery(document, "https://id.example")
		if err == nil && !strings.HasPrefix(strings.ToLower(location), "https://") {
			t.Errorf("would ask %q", location)
		}
	})
}
