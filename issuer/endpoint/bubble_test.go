package endpoint

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// inBubble runs f with a Server in a bubble, where time passes only while every goroutine
// waits. Hashing and storing take no time there, so no limit of the server depends on how
// fast the machine is. Requests go straight to the handler: a socket would stop the clock.
func inBubble(t *testing.T, f func(t *testing.T, w *world), change ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, url: testIssuer, log: &logBuffer{}, path: filepath.Join(t.TempDir(), "keymill.db")}
		keys := testKeys
		keys.Algorithms = []string{"EdDSA"} // RSA keys take longer than the tests themselves
		w.open(t, keys, change...)
		w.base, w.http = "http://127.0.0.1", w.from("127.0.0.1")
		w.secret = w.seedRecords(t, "EdDSA")
		f(t, w)
	})
}

// from returns a client at an address.
func (w *world) from(address string) *http.Client {
	return &http.Client{Transport: directTransport{w.server.Public(), address + ":40000"}}
}

// A directTransport calls the handler.
type directTransport struct {
	http.Handler
	from string
}

func (d directTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	served := r.Clone(r.Context())
	served.RequestURI, served.RemoteAddr = r.URL.RequestURI(), d.from
	if served.Host == "" {
		served.Host = r.URL.Host
	}
	if served.Body == nil {
		served.Body = http.NoBody
	}
	answer := httptest.NewRecorder()
	d.ServeHTTP(answer, served)
	return answer.Result(), nil
}
