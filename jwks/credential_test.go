package jwks

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const pinned = "orders-api.abcdefghij234567"

// TestARemoteNamesItselfToTheKeySetOnly: discovery is not asked with the credential, and neither is the target of a
// redirect. A request that is conditional has it too.
func TestARemoteNamesItselfToTheKeySetOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := publishing(t, 5*time.Minute, edKey("ed"))
		named, conditional, redirect := 0, 0, false
		s := newSite("https://id.example/keys", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if values := r.Header[VerifierHeader]; len(values) != 1 || values[0] != pinned {
				t.Errorf("the key set was requested with %q", values)
			}
			if named++; r.Header.Get("If-None-Match") != "" {
				conditional++
			}
			if redirect {
				http.Redirect(w, r, "https://elsewhere.example/keys", http.StatusFound)
				return
			}
			keys.ServeHTTP(w, r)
		}))
		site := s.answer
		s.become(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if values := r.Header[VerifierHeader]; values != nil && r.URL.Path != "/keys" {
				t.Errorf("%s was requested with %q", r.URL, values)
			}
			if r.URL.Host != "id.example" {
				t.Errorf("%s was requested", r.URL)
			}
			site.ServeHTTP(w, r)
		}), false)
		r := follows(t, &s.origin, RemoteConfig{Issuer: "https://id.example", Verifier: pinned})
		wantSet(t, r, "ed")
		pass(10 * time.Minute)
		s.change(func() { redirect = true })
		pass(10 * time.Minute)
		if named < 3 || conditional < 2 {
			t.Errorf("%d requests, %d of them conditional", named, conditional)
		}
	})
}

// TestARemoteWithoutACredentialSendsNone, not even an empty one.
func TestARemoteWithoutACredentialSendsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o origin
		o.publish(t, time.Minute, edKey("ed"))
		wantSet(t, follows(t, &o, RemoteConfig{}), "ed")
		if values, found := o.header[VerifierHeader]; found {
			t.Errorf("sent %q", values)
		}
	})
}

func TestAMistypedCredentialIsRefusedAtTheStart(t *testing.T) {
	for _, c := range []string{
		"orders-api", "orders-api.", ".abcdefghij234567", "orders-api.abcdefghij23456", "orders-api.abcdefghij2345678",
		"orders-api.ABCDEFGHIJ234567", "orders-api.abcdefghij234561", "Orders.abcdefghij234567", "-a.abcdefghij234567", "_a.abcdefghij234567",
		"a b.abcdefghij234567", "a.b.abcdefghij234567", " " + pinned, pinned + "\n", strings.Repeat("a", 64) + ".abcdefghij234567",
		"https://id.example/.well-known/jwks.json?verifier=" + pinned,
	} {
		_, err := NewRemote(RemoteConfig{Issuer: "https://id.example", Verifier: c})
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "keymill verifier add") || strings.Contains(err.Error(), "abcdefghij") {
			t.Errorf("%q: %v", c, err)
		}
	}
	for _, c := range []string{"", pinned, "0.2222222222222222", strings.Repeat("a", 63) + ".abcdefghij234567", "a_-.zzzzzzzzzzzzzzzz"} {
		if err := checkCredential(c); err != nil {
			t.Errorf("%q: %v", c, err)
		}
	}
}

// TestACredentialReachesNoLogAndNoError, neither as the Verifier of the configuration nor as a part of the URL.
//
// R104.
func TestACredentialReachesNoLogAndNoError(t *testing.T) {
	for _, answer := range []http.Handler{
		nil, http.NotFoundHandler(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "no set") }),
	} {
		synctest.Test(t, func(t *testing.T) {
			var o origin
			o.become(answer, false)
			var lines bytes.Buffer
			log := slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
			r, err := NewRemote(RemoteConfig{
				URL: "https://id.example/keys?v=1&verifier=" + pinned, Verifier: pinned, Client: &http.Client{Transport: &o}, Log: log,
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Set(t.Context())
			pass(time.Hour)
			r.Close()
			said := fmt.Sprintf("%v %+v %s", err, r.Status(), &lines)
			if strings.Contains(said, "abcdefghij") || !strings.Contains(said, "https://id.example/keys?v=1&verifier=…") {
				t.Errorf("it says %s", said)
			}
		})
	}
	if _, err := NewRemote(RemoteConfig{URL: "http://id.example/keys?verifier=" + pinned}); err == nil || strings.Contains(err.Error(), "abcdefghij") {
		t.Errorf("a refused URL: %v", err)
	}
}
