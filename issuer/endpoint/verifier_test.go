package endpoint

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/keyset"
	"keymill/issuer/verifiers"
)

// TestAProxyInFrontOfAVerifierIsSeen: a trusted one that names its client, and one that only says that it is there. The
// client that an untrusted one names is not believed.
func TestAProxyInFrontOfAVerifierIsSeen(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	for _, tt := range []struct {
		peer, header    string
		client, through string
	}{
		{"192.0.2.7:1", "", "192.0.2.7", ""},
		{"[2001:db8::1%eth0]:1", "", "2001:db8::1", ""},
		{"[::ffff:192.0.2.7]:1", "", "192.0.2.7", ""},
		{"10.0.0.5:1", "", "10.0.0.5", ""}, // the proxy itself, as far as we know
		{"10.0.0.5:1", "X-Forwarded-For: 192.0.2.7", "192.0.2.7", "10.0.0.5"},
		{"10.0.0.5:1", "X-Forwarded-For: 203.0.113.1, 192.0.2.7, 10.0.0.9", "192.0.2.7", "10.0.0.5"},
		{"10.0.0.5:1", "X-Forwarded-For: unknown", "10.0.0.5", "10.0.0.5"},
		{"10.0.0.5:1", "Via: 1.1 cache", "10.0.0.5", "10.0.0.5"},
		{"192.0.2.7:1", "X-Forwarded-For: 203.0.113.1", "192.0.2.7", "192.0.2.7"},
		{"192.0.2.7:1", "Forwarded: for=203.0.113.1", "192.0.2.7", "192.0.2.7"},
		{"192.0.2.7:1", "Via: 1.1 cache", "192.0.2.7", "192.0.2.7"},
		{"@", "Via: 1.1 cache", "", ""},
	} {
		r := httptest.NewRequest("GET", keyset.Path, nil)
		r.RemoteAddr = tt.peer
		if name, value, ok := strings.Cut(tt.header, ": "); ok {
			r.Header.Set(name, value)
		}
		client, through := w.server.addresses(r)
		text := func(a netip.Addr) string {
			if !a.IsValid() {
				return ""
			}
			return a.String()
		}
		if text(client) != tt.client || text(through) != tt.through {
			t.Errorf("%s with %q: %v through %v, want %s through %q", tt.peer, tt.header, client, through, tt.client, tt.through)
		}
	}
}

// TestACredentialIsInNoLineAndNoRefusal: not in a line of any level, in an answer or in a metric, whatever becomes of the request.
//
// R104.
func TestACredentialIsInNoLineAndNoRefusal(t *testing.T) {
	w := newWorldAt(t, testIssuer, withMetrics, withVerifiers(t))
	credential := w.pin("orders-api")
	_, tag, _ := strings.Cut(credential, ".")
	many := make([]string, 0, maxHeaderLines+1)
	for range maxHeaderLines + 1 {
		many = append(many, credential)
	}
	for _, tt := range []struct {
		method, path string
		values       []string // of the header
		status       int
	}{
		{"GET", keyset.Path + "?verifier=" + credential, nil, 200},
		{"GET", keyset.Path, []string{credential}, 200},
		{"GET", keyset.Path + "?verifier=" + credential, []string{credential, credential}, 200},
		{"GET", keyset.Path + "?verifier=%00%1b[31m" + credential + "&verifier=%zz", []string{"\t\x1b[31m" + credential}, 200},
		{"GET", keyset.Path, many, 431},
		{"POST", keyset.Path + "?verifier=" + credential, []string{credential}, 405},
		{"POST", keyset.Path, []string{credential, credential}, 405},
		{"GET", keyset.Path + "/?verifier=" + credential, []string{credential}, 404},
		{"POST", "/token?verifier=" + credential, []string{credential}, 400},
		{"GET", "/healthz?verifier=" + credential, []string{credential}, 200},
	} {
		r := httptest.NewRequest(tt.method, "/", strings.NewReader(""))
		r.Header["Keymill-Verifier"] = tt.values
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(tt.path, "?")
		a := httptest.NewRecorder()
		w.server.Public().ServeHTTP(a, r)
		if a.Code != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, a.Code, tt.status)
		}
		if answer := a.Body.String() + headerText(a.Header()); strings.Contains(answer, tag) {
			t.Errorf("%s %s is answered with %s", tt.method, tt.path, answer)
		}
	}
	log := w.log.String()
	if strings.Contains(log, tag) || !strings.Contains(log, `"status":405`) || !strings.Contains(log, `"status":431`) {
		t.Errorf("the log is %s", log)
	}
	if text := w.monitored("GET", "/metrics").body; strings.Contains(text, tag) || strings.Contains(text, "orders-api") || !strings.Contains(text, `keymill_jwks_requests_total{code="200"} 4`) {
		t.Errorf("the metrics are %s", text)
	}
}

// withVerifiers makes a world remember which set verifiers were served.
func withVerifiers(t *testing.T) func(c *Config) {
	return func(c *Config) {
		var err error
		c.Verifiers, err = verifiers.Open(t.Context(), verifiers.Config{
			URL: testIssuer + keyset.Path, Store: c.Keys.Store(), Keys: c.Keys, MaxAge: c.KeySet.MaxAge(), Log: c.Log,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// pin pins a verifier and returns its credential.
func (w *world) pin(name string) string {
	w.t.Helper()
	v, err := w.server.cfg.Verifiers.Add(w.t.Context(), api.NewVerifier{Name: name}, "uid:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return v.Credential
}

// TestAPinnedVerifierIsKnownByItsCredential, in the header and in the URL that was printed. With a forged one it is an
// observed caller, like all others.
func TestAPinnedVerifierIsKnownByItsCredential(t *testing.T) {
	w := newWorldAt(t, testIssuer, withVerifiers(t))
	orders, shop := w.pin("orders-api"), w.pin("shop")
	_, tag, _ := strings.Cut(shop, ".")
	registry := w.server.cfg.Verifiers
	served := func(name string) int {
		t.Helper()
		v, err := registry.Verifier(name)
		if err != nil || (v.Last == nil) != (len(v.Served) == 0) {
			t.Fatalf("%+v, %v", v, err)
		}
		return len(v.Served)
	}
	keys := len(rawKeys(t, w)) // an observed fetch
	w.send("HEAD", keyset.Path, "", "Keymill-Verifier: "+orders)
	w.send("GET", keyset.Path, "", "Keymill-Verifier: orders-api."+tag)
	w.send("GET", keyset.Path+"?verifier=orders-api."+tag, "")
	if served("orders-api") != 0 || served("shop") != 0 {
		t.Error("a HEAD or a forged credential counts")
	}
	w.send("GET", keyset.Path, "", "Keymill-Verifier: "+orders)
	v, err := registry.Verifier("shop")
	if err != nil {
		t.Fatal(err)
	}
	w.send("GET", strings.TrimPrefix(v.URL, testIssuer), "")
	// A fetch counts after the answer was sent, which can be after it was read.
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if seen := registry.Observed(); served("shop") > 0 && len(seen) == 1 && seen[0].Fetches == 3 {
			break
		}
	}
	if served("orders-api") != keys || served("shop") != keys {
		t.Errorf("%d and %d keys, want %d", served("orders-api"), served("shop"), keys)
	}
	seen := registry.Observed()
	if len(seen) != 1 || seen[0].Fetches != 3 || seen[0].Address != "127.0.0.1" || seen[0].Agent != "Go-http-client/1.1" || seen[0].Through != "" {
		t.Errorf("observed: %+v", seen)
	}
	if strings.Contains(w.log.String(), tag) {
		t.Errorf("the log is %s", w.log)
	}
}

func headerText(h http.Header) string {
	var b strings.Builder
	h.Write(&b)
	return b.String()
}
