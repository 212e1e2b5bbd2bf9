package keyexport

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/adminapi/adminapitest"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/jwks"
)

// An issuer publishes the key set that a test gives it, for one second.
type issuer struct {
	url string
	set atomic.Pointer[jwks.Set] // nil answers with 500
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set := i.set.Load()
		switch {
		case r.URL.Path == "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.url, i.url+"/keys")
		case set == nil:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.Header().Set("Cache-Control", "max-age=1")
			w.Write(set.JSON())
		}
	}))
	t.Cleanup(s.Close)
	i.url = s.URL
	return i
}

// TestTheKeysOfAnyIssuerAreExported: once, and then again before max-age is over.
func TestTheKeysOfAnyIssuerAreExported(t *testing.T) {
	i := newIssuer(t)
	i.set.Store(setOf(t, "a"))
	source, err := FromIssuer(i.url)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	next := func() (kids []string, err error) {
		t.Helper()
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p, err := source.Next(limited)
		if err == nil {
			for _, k := range p.Set.Keys() {
				kids = append(kids, k.KID)
			}
		}
		return kids, err
	}
	if kids, err := next(); err != nil || len(kids) != 1 || kids[0] != "a" {
		t.Fatalf("%q, %v", kids, err)
	}
	i.set.Store(setOf(t, "b"))
	for kids := []string{"a"}; kids[0] != "b"; {
		if kids, err = next(); err != nil {
			t.Fatal(err)
		}
	}
	i.set.Store(nil)
	for err == nil {
		_, err = next()
	}
	if !strings.HasPrefix(err.Error(), "the keys of "+i.url+" cannot be fetched: ") || !strings.Contains(err.Error(), "500") {
		t.Error(err)
	}
}

// TestAnIssuerMustBeTrustworthy: http only to this machine.
func TestAnIssuerMustBeTrustworthy(t *testing.T) {
	for _, url := range []string{"", "http://id.example.com", "id.example.com", "https://id.example.com/?a=b", "https://a:b@id.example.com"} {
		if _, err := FromIssuer(url); err == nil || terminal.Report(&bytes.Buffer{}, err) != 2 || !strings.HasPrefix(err.Error(), "--issuer") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// TestTheKeysOfAServerAreExported through its admin API.
func TestTheKeysOfAServerAreExported(t *testing.T) {
	answer := []api.PublishedKey{{KID: "a", Alg: "EdDSA", PublicKey: pemOf(t, "a"), Certificate: certificateOf(t, "a")}}
	server := adminapitest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/admin/v1/keys/published" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		json.NewEncoder(w).Encode(answer)
	}))
	p, err := FromServer(server).Next(t.Context())
	if err != nil || string(p.Set.JSON()) != string(setOf(t, "a").JSON()) || p.Certificates["a"] != certificateOf(t, "a") {
		t.Errorf("%v", err)
	}
	for what, text := range map[string]string{"no PEM": "x", "no certificate": pemOf(t, "a"), "another key's": certificateOf(t, "b")} {
		answer[0].Certificate = text
		if _, err := FromServer(server).Next(t.Context()); err == nil {
			t.Errorf("a certificate that is %s: no error", what)
		}
	}
	answer[0].Certificate = ""
	for what, text := range map[string]string{
		"no PEM":        "MCowBQYDK2VwAyEA",
		"no key":        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"another curve": "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAhSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n-----END PUBLIC KEY-----\n",
	} {
		answer[0].PublicKey = text
		if _, err := FromServer(server).Next(t.Context()); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
