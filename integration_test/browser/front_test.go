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

// An exchange is one request and its answer, as the browser sent and got them.
type exchange struct {
	Method, Path string
	Header       http.Header // of the request
	Status       int
	Answer       http.Header
	Body         []byte // of the answer
}

// tokenPrefix is what every refresh token begins with.
const tokenPrefix = "kmr_"

// A front stands between the browser and keymill and remembers what passed.
type front struct {
	mu       sync.Mutex // guards what follows
	proxy    *httputil.ReverseProxy
	passed   []exchange
	together int             // how many refreshes start as one, 0 for each as it comes
	gathered []chan struct{} // those that wait for the others
	inFlight int             // refreshes that keymill has not answered
	most     int             // of them at once
	leaks    []string        // where a script could have read a refresh token
}

// forward makes f a proxy as operators put in front of keymill: it keeps the name that
// the browser asked for, and says whom it asks for. The issuer has the front's name, so
// the front listens before there is anything behind it.
func (f *front) forward(t *testing.T, target string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proxy = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.SetXForwarded()
		r.Out.Host = r.In.Host
		r.Out.Header.Del("Accept-Encoding") // so that the bodies can be read here
	}}
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refresh := r.Method == http.MethodPost && r.URL.Path == "/session/refresh"
	if refresh {
		f.gather(r.Context())
	}
	answer := httptest.NewRecorder()
	f.behind().ServeHTTP(answer, r)
	// Before the answer, so that a test which sees its effect sees the exchange too.
	f.remember(exchange{
		r.Method, r.URL.Path, r.Header.Clone(),
		answer.Code, answer.Header().Clone(), slices.Clone(answer.Body.Bytes()),
	}, refresh)
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	io.Copy(w, answer.Body)
}

func (f *front) remember(x exchange, refresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passed = append(f.passed, x)
	if refresh {
		f.inFlight--
	}
	if bytes.Contains(x.Body, []byte(tokenPrefix)) {
		f.leaks = append(f.leaks, x.Path+": the body")
	}
	for name, values := range x.Answer {
		if name != "Set-Cookie" && strings.Contains(strings.Join(values, " "), tokenPrefix) {
			f.leaks = append(f.leaks, x.Path+": "+name)
		}
	}
}

func (f *front) behind() *httputil.ReverseProxy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proxy
}

// gather holds a refresh back until as many are there as shall start together.
func (f *front) gather(ctx context.Context) {
	f.mu.Lock()
	f.inFlight++
	f.most = max(f.most, f.inFlight)
	if f.together < 2 {
		f.mu.Unlock()
		return
	}
	start := make(chan struct{})
	f.gathered = append(f.gathered, start)
	if len(f.gathered) == f.together {
		for _, start := range f.gathered {
			close(start)
		}
		f.gathered = nil
	}
	f.mu.Unlock()
	select {
	case <-start:
	case <-ctx.Done():
	case <-time.After(callLimit): // and the test will tell that they did not come together
	}
}

// reset sets how many refreshes start as one, and forgets what has passed.
func (f *front) reset(together int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.together, f.passed, f.most, f.gathered = together, nil, 0, nil
}

// passedOn returns what passed on a path since reset, preflights left out.
func (f *front) passedOn(path string) []exchange {
	f.mu.Lock()
	defer f.mu.Unlock()
	var on []exchange
	for _, x := range f.passed {
		if x.Path == path && x.Method != "OPTIONS" {
			on = append(on, x)
		}
	}
	return on
}

// await waits until something has passed on path.
func (f *front) await(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(callLimit); len(f.passedOn(path)) == 0; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing has passed on %s", path)
		}
	}
}

// mostAtOnce is how many refreshes were in flight at once since reset.
func (f *front) mostAtOnce() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

// leaked is wherever a refresh token has passed that a script can read.
func (f *front) leaked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leaks
}
