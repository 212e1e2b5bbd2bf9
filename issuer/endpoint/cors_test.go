package endpoint

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const preflightVary = "Origin, Access-Control-Request-Headers"

// preflightPaths are the paths that pages of the origin of client web may use, and those that
// pages of all origins may use.
var (
	preflightPaths = []string{
		"/token", "/revoke", "/api/token/", "/api/token/refresh/", "/api/token/verify/", "/api/token/blacklist/",
		"/session/login", "/session/refresh", "/session/logout",
	}
	documentPaths = []string{"/.well-known/jwks.json", oauthPath, openidPath}
)

// askHeaders sends a preflight request of a page of client web.
func (w *world) askHeaders(path, method string, asked ...string) answer {
	w.t.Helper()
	headers := []string{"Origin: " + appOrigin, "Access-Control-Request-Method: " + method}
	for _, line := range asked {
		headers = append(headers, "Access-Control-Request-Headers: "+line)
	}
	return w.send("OPTIONS", path, "", headers...)
}

func numbered(n int) string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("x-%d", i))
	}
	return strings.Join(names, ", ")
}

// TestPreflightsAllowTheHeadersTheyAskFor: each case is sent to every path with CORS. A list
// that is refused is not repeated, not even in part.
func TestPreflightsAllowTheHeadersTheyAskFor(t *testing.T) {
	w := newWorld(t).withAlice()
	const bad = "-"
	for _, tt := range []struct {
		asked []string
		want  string
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{"content-type"}, "content-type"},
		{[]string{"authorization,content-type,x-csrftoken,x-requested-with"}, "authorization, content-type, x-csrftoken, x-requested-with"},
		{[]string{"baggage,sentry-trace,traceparent,tracestate"}, "baggage, sentry-trace, traceparent, tracestate"},
		{[]string{"x-datadog-trace-id,x-b3-traceid,request-id"}, "x-datadog-trace-id, x-b3-traceid, request-id"},
		{[]string{"Accept-Language, \tX-App"}, "Accept-Language, X-App"},
		{[]string{"x-a", "x-b"}, "x-a, x-b"},
		{[]string{",x-a,, x-b ,"}, "x-a, x-b"},
		{[]string{"!#$%&'*+-.^_`|~09azAZ"}, "!#$%&'*+-.^_`|~09azAZ"},
		{[]string{numbered(32)}, numbered(32)},
		{[]string{strings.Repeat("a", 1024)}, strings.Repeat("a", 1024)},

		{[]string{numbered(33)}, bad},
		{[]string{numbered(20), numbered(13)}, bad},
		{[]string{strings.Repeat("a", 1025)}, bad},
		{[]string{strings.Repeat("a", 1000), strings.Repeat("b", 25)}, bad},
		{[]string{strings.Repeat(",", 1025)}, bad},
		{[]string{"x a"}, bad},
		{[]string{"x-a: 1"}, bad},
		{[]string{"x-a;q=1"}, bad},
		{[]string{`"x-a"`}, bad},
		{[]string{"x-a, <script>"}, bad},
		{[]string{"x/a"}, bad},
		{[]string{"x@a"}, bad},
		{[]string{"x-é"}, bad},
		{[]string{"x-\xff"}, bad},
	} {
		for _, path := range append(preflightPaths, documentPaths...) {
			method, origin := "POST", appOrigin
			if strings.HasPrefix(path, "/.well-known/") {
				method, origin = "GET", "*"
			}
			a := w.askHeaders(path, method, tt.asked...)
			allowed, given := a.header["Access-Control-Allow-Headers"]
			what := fmt.Sprintf("%s asked for %.60q: %d %q %s", path, tt.asked, a.status, allowed, a.body)
			if a.header.Get("Vary") != preflightVary {
				t.Errorf("%s: Vary %q", what, a.header["Vary"])
			}
			if tt.want == bad {
				if a.status != 400 || given || a.header.Get("Access-Control-Allow-Origin") != "" {
					t.Error(what)
				}
				continue
			}
			if a.status != 204 || strings.Join(allowed, "|") != tt.want || given != (tt.want != "") ||
				a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Access-Control-Max-Age") != "600" {
				t.Error(what)
			}
		}
	}
}

// TestPreflightsOfOtherOriginsAreNotEchoed: what such a page asks for is not even checked.
func TestPreflightsOfOtherOriginsAreNotEchoed(t *testing.T) {
	w := newWorld(t).withAlice()
	for _, path := range preflightPaths {
		for _, origin := range []string{"https://evil.example", "null", "http://app.example.com", "*"} {
			for _, asked := range []string{"traceparent", "x a", numbered(33)} {
				a := w.send("OPTIONS", path, "", "Origin: "+origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: "+asked)
				if a.status != 403 || a.header.Get("Vary") != preflightVary || a.header.Get("Access-Control-Allow-Headers") != "" {
					t.Errorf("%s of %s for %.20q: %d %v", path, origin, asked, a.status, a.header)
				}
			}
		}
	}
}

// TestDocumentsAnswerOPTIONS: libraries that read the documents in a page add headers such as
// traceparent, and some ask without being a browser. The document itself does not change.
func TestDocumentsAnswerOPTIONS(t *testing.T) {
	w := newWorld(t)
	for _, path := range documentPaths {
		before := w.send("GET", path, "")
		for what, headers := range map[string][]string{
			"no page":         nil,
			"a page":          {"Origin: https://any.example", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: traceparent"},
			"a sandbox":       {"Origin: null", "Access-Control-Request-Method: GET"},
			"only an origin":  {"Origin: https://any.example"},
			"HEAD of a page":  {"Origin: https://any.example", "Access-Control-Request-Method: HEAD"},
			"the issuer's":    {"Origin: " + testIssuer, "Access-Control-Request-Method: GET"},
			"an unknown verb": {"Origin: https://any.example", "Access-Control-Request-Method: BREW"},
		} {
			a := w.send("OPTIONS", path, "", headers...)
			if a.status != 204 || a.body != "" {
				t.Errorf("%s, %s: %d %s", path, what, a.status, a.body)
			}
			for name, want := range map[string]string{
				"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, HEAD", "Access-Control-Allow-Credentials": "",
				"Allow": "GET, HEAD", "Cache-Control": "no-store", "Etag": "",
			} {
				if got := a.header.Get(name); got != want {
					t.Errorf("%s, %s: %s: %q", path, what, name, got)
				}
			}
		}
		if a := w.send("POST", path, ""); a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d %q", path, a.status, a.header["Allow"])
		}
		after := w.send("GET", path, "", "Origin: https://any.example", "Traceparent: 00-1-1-00")
		if after.body != before.body || after.header.Get("Access-Control-Allow-Origin") != "*" || after.header.Get("Vary") != "" {
			t.Errorf("GET %s: %d %v", path, after.status, after.header)
		}
	}
	if a := w.send("OPTIONS", "/.well-known/nothing", ""); a.status != 404 {
		t.Errorf("a document that does not exist: %d", a.status)
	}
}

// FuzzAskedHeaders checks that every list is refused, or repeated as tokens within the bounds.
func FuzzAskedHeaders(f *testing.F) {
	for _, s := range []string{"", "content-type", "a, b ,c", "x:1", "a\tb", "é", ",,,", numbered(33)} {
		f.Add(s, "traceparent")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		header := http.Header{}
		err := allowHeaders(header, []string{a, b})
		echoed := header.Get("Access-Control-Allow-Headers")
		if err != nil {
			if len(header) != 0 {
				t.Fatalf("%q was refused and repeated: %v", a, header)
			}
			return
		}
		if names := strings.Split(echoed, ", "); len(names) > 32 || len(a)+len(b) > 1024 {
			t.Fatalf("%d names in %d bytes", len(names), len(a)+len(b))
		}
		for name := range strings.SplitSeq(echoed, ", ") {
			if !isToken(name) && echoed != "" || !strings.Contains(a+","+b, name) {
				t.Fatalf("%q became %q", a, echoed)
			}
		}
	})
}

// isToken asks net/http, whose methods are tokens as well.
func isToken(name string) bool {
	_, err := http.NewRequest(name, "http://127.0.0.1/", nil)
	return err == nil && name != ""
}
