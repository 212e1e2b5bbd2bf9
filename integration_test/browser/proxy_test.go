package browser

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// An exchange is one request and its answer, as the browser sent and received them.
type exchange struct {
	Method, Path string
	Header       http.Header // of the request
	Status       int
	Answer       http.Header
	Body         []byte // of the answer
}

// tokenPrefix is the beginning of every refresh token.
const tokenPrefix = "kmr_"

// A recorder is a proxy between the browser and keymill. It records every exchange.
type recorder struct {
	mu       sync.Mutex // guards what follows
	proxy    *httputil.ReverseProxy
	passed   []exchange
	together int             // refreshes that are released at once; 0 releases each immediately
	gathered []chan struct{} // refreshes that wait for the others
	inFlight int             // refreshes that keymill has not answered
	most     int             // the highest value of inFlight
	held     chan struct{}   // not nil: refusals of a refresh wait until it is closed
	leaks    []string        // places where a script could have read a refresh token
}

// forward makes the recorder forward to target, as an operator's proxy does: it keeps the Host
// header and adds X-Forwarded-For. The issuer is the proxy's own URL, so the proxy listens
// before the server starts.
func (rec *recorder) forward(t *testing.T, target string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.proxy = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.SetXForwarded()
		r.Out.Host = r.In.Host
		r.Out.Header.Del("Accept-Encoding") // so that the bodies can be read here
	}}
}

func (rec *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refresh := r.Method == http.MethodPost && r.URL.Path == "/session/refresh"
	if refresh {
		rec.gather(r.Context())
	}
	answer := httptest.NewRecorder()
	rec.target().ServeHTTP(answer, r)
	// Record it before answering. A test that sees the answer's effect must see the exchange.
	rec.record(exchange{
		r.Method, r.URL.Path, r.Header.Clone(),
		answer.Code, answer.Header().Clone(), slices.Clone(answer.Body.Bytes()),
	}, refresh)
	if refresh && answer.Code == http.StatusUnauthorized {
		rec.hold(r.Context())
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	io.Copy(w, answer.Body)
}

func (rec *recorder) record(x exchange, refresh bool) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.passed = append(rec.passed, x)
	if refresh {
		rec.inFlight--
	}
	if bytes.Contains(x.Body, []byte(tokenPrefix)) {
		rec.leaks = append(rec.leaks, x.Path+": the body")
	}
	for name, values := range x.Answer {
		if name != "Set-Cookie" && strings.Contains(strings.Join(values, " "), tokenPrefix) {
			rec.leaks = append(rec.leaks, x.Path+": "+name)
		}
	}
}

func (rec *recorder) target() *httputil.ReverseProxy {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.proxy
}

// gather holds a refresh until as many have arrived as are to be released together.
func (rec *recorder) gather(ctx context.Context) {
	rec.mu.Lock()
	rec.inFlight++
	rec.most = max(rec.most, rec.inFlight)
	if rec.together < 2 {
		rec.mu.Unlock()
		return
	}
	start := make(chan struct{})
	rec.gathered = append(rec.gathered, start)
	if len(rec.gathered) == rec.together {
		for _, start := range rec.gathered {
			close(start)
		}
		rec.gathered = nil
	}
	rec.mu.Unlock()
	select {
	case <-start:
	case <-ctx.Done():
	case <-time.After(callLimit): // the test fails, since mostAtOnce is too low
	}
}

// holdRefusals makes the recorder keep the answers to refused refreshes until release is called.
func (rec *recorder) holdRefusals() (release func()) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	held := make(chan struct{})
	rec.held = held
	return sync.OnceFunc(func() {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.held = nil
		close(held)
	})
}

func (rec *recorder) hold(ctx context.Context) {
	rec.mu.Lock()
	held := rec.held
	rec.mu.Unlock()
	if held == nil {
		return
	}
	select {
	case <-held:
	case <-ctx.Done():
	}
}

// reset sets how many refreshes are released together, and drops the recorded exchanges.
func (rec *recorder) reset(together int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.together, rec.passed, rec.most, rec.gathered = together, nil, 0, nil
}

// passedOn returns the exchanges on a path since reset, without preflights.
func (rec *recorder) passedOn(path string) []exchange {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var on []exchange
	for _, x := range rec.passed {
		if x.Path == path && x.Method != "OPTIONS" {
			on = append(on, x)
		}
	}
	return on
}

// await waits for an exchange on path.
func (rec *recorder) await(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(callLimit); len(rec.passedOn(path)) == 0; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no request on %s arrived", path)
		}
	}
}

// mostAtOnce returns the highest number of refreshes in flight at once since reset.
func (rec *recorder) mostAtOnce() int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.most
}

// leaked returns the places where a script could have read a refresh token.
func (rec *recorder) leaked() []string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.leaks
}
