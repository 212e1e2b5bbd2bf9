package jwks

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestOnlyAGETSaysWhichSetTheClientHas: a set that was sent to the end, or one that the client names.
func TestOnlyAGETSaysWhichSetTheClientHas(t *testing.T) {
	h, set := published(t)
	for _, tt := range []struct {
		method, ifNoneMatch string
		status              int
		want                *Set
	}{
		{"GET", "", 200, set},
		{"GET", `"other"`, 200, set},
		{"GET", set.ETag(), 304, set},
		{"GET", `"other", W/` + set.ETag(), 304, set},
		{"GET", "*", 304, nil}, // the client has some set
		{"HEAD", "", 200, nil},
		{"HEAD", set.ETag(), 304, nil},
		{"POST", "", 405, nil},
		{"OPTIONS", set.ETag(), 405, nil},
	} {
		r := httptest.NewRequest(tt.method, "/", nil)
		if tt.ifNoneMatch != "" {
			r.Header.Set("If-None-Match", tt.ifNoneMatch)
		}
		w, plain := httptest.NewRecorder(), httptest.NewRecorder()
		if got := h.ServeSet(w, r); got != tt.want || w.Code != tt.status {
			t.Errorf("%s with %s: %d, set %v, want %d, %v", tt.method, tt.ifNoneMatch, w.Code, got != nil, tt.status, tt.want != nil)
		}
		if h.ServeHTTP(plain, r); plain.Code != w.Code || plain.Body.String() != w.Body.String() || len(plain.Header()) != len(w.Header()) {
			t.Errorf("%s with %s: ServeHTTP answers %d %v", tt.method, tt.ifNoneMatch, plain.Code, plain.Header())
		}
	}
	if NewHandler(time.Minute).ServeSet(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)) != nil {
		t.Error("a set before the first one was published")
	}
}

// A brokenWriter fails in one of its calls.
type brokenWriter struct {
	*httptest.ResponseRecorder
	write, flush error
}

func (b brokenWriter) Write(p []byte) (int, error) {
	if b.write != nil {
		return 0, b.write
	}
	return b.ResponseRecorder.Write(p)
}

func (b brokenWriter) FlushError() error { return b.flush }

// A promptWriter is that of a client that hangs up when it has read the last byte.
type promptWriter struct {
	*httptest.ResponseRecorder
	hangUp func()
}

func (p promptWriter) FlushError() error {
	p.hangUp()
	return nil
}

// TestASetThatWasNotSentIsNotServed: not after an error of the connection, for a client that has hung up, or where no one
// can tell.
func TestASetThatWasNotSentIsNotServed(t *testing.T) {
	h, set := published(t)
	get := httptest.NewRequest("GET", "/", nil)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	reset := errors.New("connection reset by peer")
	fresh := httptest.NewRecorder
	for what, got := range map[string]*Set{
		"a failed write":            h.ServeSet(brokenWriter{fresh(), reset, nil}, get),
		"a failed flush":            h.ServeSet(brokenWriter{fresh(), nil, reset}, get),
		"a client that has gone":    h.ServeSet(fresh(), get.WithContext(gone)),
		"a writer without a flush ": h.ServeSet(struct{ http.ResponseWriter }{fresh()}, get),
	} {
		if got != nil {
			t.Errorf("%s counts as served", what)
		}
	}
	if h.ServeSet(brokenWriter{fresh(), nil, nil}, get) != set {
		t.Error("a complete answer does not count")
	}
	reading, hangUp := context.WithCancel(t.Context())
	if h.ServeSet(promptWriter{fresh(), hangUp}, get.WithContext(reading)) != set || reading.Err() == nil {
		t.Error("an answer does not count if the client closes the connection after the last byte")
	}
}
