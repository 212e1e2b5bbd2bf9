package jwks

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func ask(t *testing.T, h http.Handler, method string, header http.Header) *http.Response {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	request, err := http.NewRequest(method, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		request.Header = header
	}
	response, err := server.Client().Transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func published(t *testing.T) (*Handler, *Set) {
	set := mustSet(t, edKey("ed"), rsaKey("rsa"))
	h := NewHandler(5 * time.Minute)
	h.Publish(set)
	return h, set
}

// R59.
func TestAnswersCanBeCachedAndRevalidated(t *testing.T) {
	h, set := published(t)
	length := strconv.Itoa(len(set.JSON()))
	for _, method := range []string{"GET", "HEAD"} {
		response := ask(t, h, method, http.Header{"Accept-Encoding": {"gzip"}})
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", method, response.Status)
		}
		for name, want := range map[string]string{
			"Cache-Control":               "public, max-age=300",
			"ETag":                        set.ETag(),
			"Content-Type":                "application/json",
			"Content-Length":              length,
			"Access-Control-Allow-Origin": "*",
			"X-Content-Type-Options":      "nosniff",
			"Content-Encoding":            "", // no client gets gzip
		} {
			if got := response.Header.Get(name); got != want {
				t.Errorf("%s: %s = %q, want %q", method, name, got, want)
			}
		}
		body, err := io.ReadAll(response.Body)
		want := string(set.JSON())
		if method == "HEAD" {
			want = ""
		}
		if err != nil || string(body) != want {
			t.Errorf("%s: body %q, %v", method, body, err)
		}
	}
}

// R59.
func TestIfNoneMatchIsAnsweredWith304(t *testing.T) {
	h, set := published(t)
	etag := set.ETag()
	for _, tt := range []struct {
		lines []string
		want  int
	}{
		{[]string{etag}, 304},
		{[]string{"W/" + etag}, 304}, // the comparison is weak
		{[]string{`"a,b", W/"c" ,` + etag}, 304},
		{[]string{`"other"`, etag}, 304},
		{[]string{" * "}, 304},
		{[]string{`"other"`}, 200},
		{[]string{""}, 200},
		{[]string{etag[1 : len(etag)-1]}, 200},    // no quotes, no tag
		{[]string{`"x` + etag[1:]}, 200},          // a longer tag with the same end
		{[]string{`"unclosed, ` + etag[1:]}, 200}, // the first quote is not closed
		{[]string{`junk, ` + etag}, 200},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			response := ask(t, h, method, http.Header{"If-None-Match": tt.lines})
			if response.StatusCode != tt.want {
				t.Errorf("%s with %q: %s, want %d", method, tt.lines, response.Status, tt.want)
			}
			w := httptest.NewRecorder() // keeps the headers that net/http would drop
			h.ServeHTTP(w, &http.Request{Method: method, Header: http.Header{"If-None-Match": tt.lines}})
			if wantBody := tt.want == 200 && method == "GET"; (w.Body.Len() > 0) != wantBody {
				t.Errorf("%s with %q wrote %d bytes", method, tt.lines, w.Body.Len())
			}
			if response.Header.Get("ETag") != etag || response.Header.Get("Cache-Control") == "" {
				t.Errorf("%s with %q: header %v", method, tt.lines, response.Header)
			}
		}
	}
}

func TestHandlerAnswers503BeforeThereAreKeys(t *testing.T) {
	response := ask(t, NewHandler(time.Minute), "GET", nil)
	if response.StatusCode != 503 || response.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s, %v", response.Status, response.Header)
	}
}

func TestHandlerRefusesOtherMethods(t *testing.T) {
	h, _ := published(t)
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		response := ask(t, h, method, nil)
		if response.StatusCode != 405 || response.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s, Allow %q", method, response.Status, response.Header.Get("Allow"))
		}
	}
}

// TestEveryAnswerIsOneSet: body and ETag belong together while sets are replaced.
func TestEveryAnswerIsOneSet(t *testing.T) {
	h, first := published(t)
	second := mustSet(t, edKey("ed"))
	body := map[string]string{first.ETag(): string(first.JSON()), second.ETag(): string(second.JSON())}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 500 {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
				w.Header().Add("Vary", "Origin") // a handler around this one may do that
				if got := w.Header().Get("ETag"); body[got] != w.Body.String() {
					t.Errorf("ETag %s was sent with the body %s", got, w.Body)
					return
				}
			}
		})
	}
	for range 500 {
		h.Publish(second)
		h.Publish(first)
	}
	group.Wait()
}

// FuzzIfNoneMatch checks that any value is read to its end, and that only a tag in it matches.
func FuzzIfNoneMatch(f *testing.F) {
	f.Add(`"a", W/"b,c" ,"tag"`)
	f.Add(`W/W/"tag"`)
	f.Fuzz(func(t *testing.T, list string) {
		if anyLists([]string{list}, `"tag"`) && !strings.Contains(list, `"tag"`) {
			t.Errorf("%q matched", list)
		}
	})
}
