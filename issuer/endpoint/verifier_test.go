package endpoint

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"keymill/issuer/endpoint/keyset"
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
func TestACredentialIsInNoLineAndNoRefusal(t *testing.T) {
	const tag = "abcdefghij234567"
	credential := "orders-api." + tag
	w := newWorldAt(t, testIssuer, withMetrics)
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

func headerText(h http.Header) string {
	var b strings.Builder
	h.Write(&b)
	return b.String()
}
