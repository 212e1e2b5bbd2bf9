package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// freshPayload returns a payload that is valid now.
func freshPayload(pairs ...string) string {
	now := time.Now().Unix()
	return payload(append([]string{"exp", fmt.Sprint(now + 60), "iat", fmt.Sprint(now - 5)}, pairs...)...)
}

func goodToken() string { return sign(edHeader(""), freshPayload()) }

func mustVerifier(t testing.TB, change func(*VerifierConfig)) *Verifier {
	t.Helper()
	c := VerifierConfig{
		Issuer: wanted().Issuer, Audience: wanted().Audience, Algorithms: wanted().Algorithms,
		Keys: mustSet(t, edKey("ed"), rsaKey("rsa")),
	}
	if change != nil {
		change(&c)
	}
	v, err := NewVerifier(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A guardedHandler records which requests its Guard passed on and which it refused.
type guardedHandler struct {
	http.Handler
	calls int
	whys  []error
	shown []*http.Request // as Refused got them
}

func newGuarded(v *Verifier, scopes ...string) *guardedHandler {
	d := &guardedHandler{}
	g := Guard{Verifier: v, Refused: func(r *http.Request, why error) {
		d.whys, d.shown = append(d.whys, why), append(d.shown, r)
	}}
	d.Handler = g.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.calls++
		io.WriteString(w, ClaimsOf(r.Context()).Subject)
	}), scopes...)
	return d
}

// ask calls the handler directly, so that no header is changed by net/http.
func (d *guardedHandler) ask(method, target string, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	if len(authorization) > 0 {
		r.Header["Authorization"] = authorization
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

func TestTheAnswersAreThoseOfRFC6750(t *testing.T) {
	good := goodToken()
	const (
		none      = `Bearer realm="orders"`
		misplaced = none + `, error="invalid_request", error_description="exactly one bearer token in one Authorization header is required"`
		bad       = none + `, error="invalid_token", error_description="the access token is invalid, expired or for another audience"`
		noScope   = none + `, error="insufficient_scope", error_description="the access token does not grant the required scope", scope="read admin"`
	)
	for _, tt := range []struct {
		name          string
		target        string
		authorization []string
		scopes        string
		status        int
		challenge     string
		why           error
	}{
		{"a good token", "/", []string{"Bearer " + good}, "read write", 200, "", nil},
		{"schemes know no case", "/", []string{"bEARER " + good}, "", 200, "", nil},
		{"1*SP", "/", []string{"Bearer   " + good}, "", 200, "", nil},
		{"a query of other names", "/?access=1&token=2&access_tokens=3", []string{"Bearer " + good}, "", 200, "", nil},

		{"nothing", "/", nil, "", 401, none, ErrNoToken},
		{"another scheme", "/", []string{"Basic YTpi"}, "", 401, none, ErrNoToken},
		{"a longer scheme", "/", []string{"Bearers " + good}, "", 401, none, ErrNoToken},
		{"no scheme", "/", []string{good}, "", 401, none, ErrNoToken},
		{"an empty field", "/", []string{""}, "", 401, none, ErrNoToken},
		{"a tab is no space", "/", []string{"Bearer\t" + good}, "", 401, none, ErrNoToken},

		{"only the scheme", "/", []string{"Bearer"}, "", 400, misplaced, ErrCredentials},
		{"an empty token", "/", []string{"Bearer "}, "", 400, misplaced, ErrCredentials},
		{"only padding", "/", []string{"Bearer =="}, "", 400, misplaced, ErrCredentials},
		{"two fields", "/", []string{"Bearer " + good, "Bearer " + good}, "", 400, misplaced, ErrCredentials},
		{"two fields of two schemes", "/", []string{"Basic YTpi", "Bearer " + good}, "", 400, misplaced, ErrCredentials},
		{"two fields in one", "/", []string{"Bearer " + good + ", Bearer " + good}, "", 400, misplaced, ErrCredentials},
		{"a space behind", "/", []string{"Bearer " + good + " "}, "", 400, misplaced, ErrCredentials},
		{"garbage behind", "/", []string{"Bearer " + good + " x"}, "", 400, misplaced, ErrCredentials},
		{"a parameter", "/", []string{"Bearer token=" + good}, "", 400, misplaced, ErrCredentials},
		{"quotes", "/", []string{`Bearer "` + good + `"`}, "", 400, misplaced, ErrCredentials},
		{"a line end", "/", []string{"Bearer " + good + "\n"}, "", 400, misplaced, ErrCredentials},
		{"a zero byte", "/", []string{"Bearer " + good + "\x00"}, "", 400, misplaced, ErrCredentials},
		{"padding inside", "/", []string{"Bearer a=b"}, "", 400, misplaced, ErrCredentials},

		{"R95: in the query", "/?access_token=" + good, nil, "", 400, misplaced, ErrCredentials},
		{"R95: in the query, with a good header", "/?a=1&access_token=x", []string{"Bearer " + good}, "", 400, misplaced, ErrCredentials},
		{"R95: in the query, behind a semicolon", "/?a=1;access_token=x", []string{"Bearer " + good}, "", 400, misplaced, ErrCredentials},
		{"R95: in the query, in disguise", "/?%61ccess%5ftoken=x", []string{"Bearer " + good}, "", 400, misplaced, ErrCredentials},
		{"R95: in the query, empty", "/?access_token", []string{"Bearer " + good}, "", 400, misplaced, ErrCredentials},

		{"no token of ours", "/", []string{"Bearer abc-._~+/=="}, "", 401, bad, ErrMalformed},
		{"a tampered token", "/", []string{"Bearer " + good[:len(good)-8] + "AAAAAAAA"}, "", 401, bad, ErrSignature},
		{"a long token", "/", []string{"Bearer " + strings.Repeat("a", maxTokenBytes+1)}, "", 401, bad, ErrMalformed},
		{"much space", "/", []string{"Bearer" + strings.Repeat(" ", maxTokenBytes) + good}, "", 401, bad, ErrMalformed},

		{"one scope of two", "/", []string{"Bearer " + good}, "read admin", 403, noScope, ErrScope},
	} {
		d := newGuarded(mustVerifier(t, nil), strings.Fields(tt.scopes)...)
		w := d.ask("GET", tt.target, tt.authorization...)
		if w.Code != tt.status || w.Header().Get("WWW-Authenticate") != tt.challenge {
			t.Errorf("%s: %d, %q; want %d, %q", tt.name, w.Code, w.Header().Get("WWW-Authenticate"), tt.status, tt.challenge)
		}
		if tt.why == nil {
			if d.calls != 1 || len(d.whys) != 0 || w.Body.String() != "alice" {
				t.Errorf("%s: called %d times, %q, refused for %v", tt.name, d.calls, w.Body, d.whys)
			}
			continue
		}
		if d.calls != 0 || len(d.whys) != 1 || !errors.Is(d.whys[0], tt.why) {
			t.Errorf("%s: called %d times, refused for %v, want %v", tt.name, d.calls, d.whys, tt.why)
		}
		refusalIsSafe(t, tt.name, w.Result())
	}
}

// refusalIsSafe checks the properties of all refusals.
func refusalIsSafe(t *testing.T, name string, w *http.Response) {
	t.Helper()
	for field, want := range map[string]string{
		"Cache-Control": "no-store", "Content-Type": "application/json", "X-Content-Type-Options": "nosniff",
	} {
		if got := w.Header.Get(field); got != want {
			t.Errorf("%s: %s = %q, want %q", name, field, got, want)
		}
	}
	body, err := io.ReadAll(w.Body)
	code := regexp.MustCompile(`error="(\w+)"`).FindStringSubmatch(w.Header.Get("WWW-Authenticate"))
	want := "{}" // no code if the request has no token (RFC 6750, section 3.1)
	if code != nil {
		want = `{"error":"` + code[1] + `"}`
	}
	if err != nil || string(body) != want || w.Header.Get("Content-Length") != fmt.Sprint(len(want)) {
		t.Errorf("%s: body %q (%s bytes, %v), want %q", name, body, w.Header.Get("Content-Length"), err, want)
	}
}

// R95.
func TestEveryInvalidTokenGetsTheSameAnswer(t *testing.T) {
	good := goodToken()
	d := newGuarded(mustVerifier(t, nil))
	server := httptest.NewServer(d)
	defer server.Close()
	var first string
	for _, tt := range []struct {
		token string
		why   error
	}{
		{"x", ErrMalformed},
		{"a.b.c.d.e", ErrMalformed},
		{good + "=", ErrMalformed},
		{strings.Repeat("A", maxTokenBytes+1), ErrMalformed},
		{sign(edHeader(`,"crit":["x"]`), freshPayload()), ErrHeader},
		{sign(`{"alg":"EdDSA","kid":"ed","typ":"JWT"}`, freshPayload()), ErrType},
		{sign(`{"alg":"none","kid":"ed","typ":"at+jwt"}`, freshPayload()), ErrAlgorithm},
		{sign(`{"alg":"EdDSA","kid":"made-up","typ":"at+jwt"}`, freshPayload()), ErrUnknownKey},
		{good[:len(good)-8] + "AAAAAAAA", ErrSignature},
		{sign(edHeader(""), freshPayload("sub", "")), ErrClaims},
		{sign(edHeader(""), freshPayload("exp", "")), ErrClaims},
		{sign(edHeader(""), freshPayload("iss", `"https://other.example"`)), ErrIssuer},
		{sign(edHeader(""), freshPayload("aud", `"invoices"`)), ErrAudience},
		{sign(edHeader(""), freshPayload("exp", "1000000000")), ErrExpired},
		{sign(edHeader(""), freshPayload("nbf", "9000000000")), ErrNotYet},
	} {
		d.whys, d.shown = nil, nil
		request, err := http.NewRequest("GET", server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+tt.token)
		answer := dump(t, server.Client(), request)
		if first == "" {
			first = answer
		}
		if answer != first || !strings.HasPrefix(answer, "401 ") {
			t.Errorf("%v:\n%swant\n%s", tt.why, answer, first)
		}
		if len(d.whys) != 1 || !errors.Is(d.whys[0], tt.why) {
			t.Errorf("refused for %v, want %v", d.whys, tt.why)
		}
		if told := fmt.Sprint(d.whys, d.shown[0].Header, d.shown[0].URL); len(tt.token) > 20 && strings.Contains(told, tt.token[:20]) {
			t.Errorf("%v: Refused gets the token: %s", tt.why, told)
		}
	}
}

// dump returns a whole answer except its date.
func dump(t *testing.T, client *http.Client, request *http.Request) string {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := response.Status + "\n"
	delete(response.Header, "Date")
	for _, name := range slices.Sorted(maps.Keys(response.Header)) {
		out += fmt.Sprintf("%s: %q\n", name, response.Header[name])
	}
	return out + string(body) + "\n"
}

// R95.
func TestRefusedNeverGetsTheToken(t *testing.T) {
	secret := goodToken()
	for name, authorization := range map[string][]string{
		"in the query": nil, "where the scheme belongs": {secret}, "of another scheme": {"Basic " + secret},
		"twice": {"Bearer " + secret, "Bearer " + secret}, "with garbage": {"Bearer " + secret + " x"},
		"without the scope": {"Bearer " + secret},
	} {
		d := newGuarded(mustVerifier(t, nil), "admin")
		target := "/path?a=1"
		if authorization == nil {
			target += "&access_token=" + secret
		}
		r := httptest.NewRequest("POST", target, nil)
		r.Header["Authorization"], r.Header["User-Agent"] = authorization, []string{"agent"}
		r.ParseForm() // a handler in front of the guard may do that
		d.ServeHTTP(httptest.NewRecorder(), r)
		shown := d.shown[0]
		if told := fmt.Sprintf("%v %+v", d.whys, *shown); strings.Contains(told, secret) {
			t.Errorf("%s: Refused gets %s", name, told)
		}
		if shown.URL.Path != "/path" || shown.Header.Get("User-Agent") != "agent" {
			t.Errorf("%s: Refused gets neither path nor agent: %v", name, shown)
		}
		if !slices.Equal(r.Header["Authorization"], authorization) || r.URL.RawQuery != strings.TrimPrefix(target, "/path?") {
			t.Errorf("%s: the request itself was changed", name)
		}
	}
}

// TestAHandlerGetsTheRequestAsItCame: the body is unread, also a form with an access_token, and
// the header is there for handlers that call other services.
func TestAHandlerGetsTheRequestAsItCame(t *testing.T) {
	form := "access_token=" + goodToken()
	request := func(authorization string) *http.Request {
		r := httptest.NewRequest("POST", "/", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		return r
	}
	calls := false
	h := Guard{Verifier: mustVerifier(t, nil)}.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls = true
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != form || r.Form != nil || r.Header.Get("Authorization") == "" {
			t.Errorf("body %q, %v, form %v, header %v", body, err, r.Form, r.Header)
		}
	}))
	r := request("Bearer " + goodToken())
	if h.ServeHTTP(httptest.NewRecorder(), r); !calls {
		t.Error("a valid token was refused")
	}
	calls = false
	r, w := request(""), httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if rest, _ := io.ReadAll(r.Body); calls || w.Code != 401 || string(rest) != form {
		t.Errorf("a token in a form alone: %d, and %q of the body was left", w.Code, rest)
	}
}

// TestEveryMethodNeedsAToken: without a token the answers of a handler to OPTIONS and HEAD would
// be open.
func TestEveryMethodNeedsAToken(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "TRACE", "MADEUP"} {
		d := newGuarded(mustVerifier(t, nil))
		response := ask(t, d, method, http.Header{"Access-Control-Request-Method": {"PUT"}, "Origin": {"https://app.example"}})
		if response.StatusCode != 401 || d.calls != 0 || response.ContentLength != 2 {
			t.Errorf("%s: %s, %d bytes, called %d times", method, response.Status, response.ContentLength, d.calls)
		}
		if response := ask(t, d, method, http.Header{"Authorization": {"Bearer " + goodToken()}}); response.StatusCode != 200 {
			t.Errorf("%s with a token: %s", method, response.Status)
		}
	}
}

// TestNamesAreQuotedInTheChallenge: a name cannot end its string or begin another header.
func TestNamesAreQuotedInTheChallenge(t *testing.T) {
	for audience, want := range map[string]string{
		`orders`:                  `Bearer realm="orders"`,
		`a"b\c`:                   `Bearer realm="a\"b\\c"`,
		`", error="no`:            `Bearer realm="\", error=\"no"`,
		"x\r\nSet-Cookie: a=b":    `Bearer realm="x??Set-Cookie: a=b"`,
		"é\x7f":                   `Bearer realm="???"`,
		"https://api.example/v1?": `Bearer realm="https://api.example/v1?"`,
	} {
		v := mustVerifier(t, func(c *VerifierConfig) { c.Audience = audience })
		response := ask(t, newGuarded(v), "GET", nil)
		if got := response.Header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != want || len(response.Cookies()) > 0 {
			t.Errorf("%q: %q, want %q", audience, got, want)
		}
	}
}

func TestRequirePanicsForAnInvalidGuard(t *testing.T) {
	v := mustVerifier(t, nil)
	nothing := http.NotFoundHandler()
	for _, tt := range []struct {
		name   string
		guard  Guard
		next   http.Handler
		scopes []string
		says   string
	}{
		{"no verifier", Guard{}, nothing, nil, "Verifier"},
		{"an empty verifier", Guard{Verifier: &Verifier{}}, nothing, nil, "NewVerifier"},
		{"no handler", Guard{Verifier: v}, nil, nil, "handler"},
		{"a function that is nil", Guard{Verifier: v}, http.HandlerFunc(nil), nil, "handler"},
		{"an empty scope", Guard{Verifier: v}, nothing, []string{"read", ""}, `""`},
		{"two scopes in one", Guard{Verifier: v}, nothing, []string{"read write"}, `"read write"`},
		{"a quote", Guard{Verifier: v}, nothing, []string{`a"b`}, "6749"},
		{"a backslash", Guard{Verifier: v}, nothing, []string{`a\b`}, "6749"},
		{"a line end", Guard{Verifier: v}, nothing, []string{"a\n"}, "6749"},
		{"no ASCII", Guard{Verifier: v}, nothing, []string{"läs"}, "6749"},
		{"a control character", Guard{Verifier: v}, nothing, []string{"a\x7f"}, "6749"},
	} {
		func() {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.HasPrefix(said, "jwks: ") || !strings.Contains(said, tt.says) {
					t.Errorf("%s: %q does not say %q", tt.name, said, tt.says)
				}
			}()
			tt.guard.Require(tt.next, tt.scopes...)
		}()
	}
	Guard{Verifier: v}.Require(nothing, "orders:read", "https://api.example/.default", "!#[]~", "read", "read")
}

func TestRequireKeepsItsOwnScopes(t *testing.T) {
	scopes := []string{"admin"}
	d := newGuarded(mustVerifier(t, nil), scopes...)
	scopes[0] = "read"
	if w := d.ask("GET", "/", "Bearer "+goodToken()); w.Code != 403 {
		t.Errorf("%d: the scope was changed after Require", w.Code)
	}
}

// lost returns a Remote whose issuer accepts connections and never answers.
func lost(t *testing.T) *Verifier {
	t.Helper()
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	t.Cleanup(func() { close(end); server.Close() })
	return following(t, server.URL, time.Minute)
}

func following(t *testing.T, issuer string, timeout time.Duration) *Verifier {
	t.Helper()
	keys, err := NewRemote(RemoteConfig{Issuer: issuer, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	return mustVerifier(t, func(c *VerifierConfig) { c.Issuer, c.Keys = issuer, keys })
}

func TestWithoutKeysTheAnswerIs503(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	d := newGuarded(following(t, server.URL, 0))
	w := d.ask("GET", "/", "Bearer "+goodToken())
	if w.Code != 503 || w.Header().Get("Retry-After") != "5" || len(w.Header().Values("WWW-Authenticate")) != 0 {
		t.Errorf("%d, %v", w.Code, w.Header())
	}
	if w.Body.String() != `{"error":"temporarily_unavailable"}` || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%q, %v", w.Body, w.Header())
	}
	if d.calls != 0 || len(d.whys) != 1 || !errors.Is(d.whys[0], ErrUnavailable) {
		t.Errorf("called %d times, refused for %v", d.calls, d.whys)
	}
	if w := d.ask("GET", "/"); w.Code != 401 {
		t.Errorf("%d: a request without a token needs no keys", w.Code)
	}
}

// TestAClientThatLeftIsNotReported checks also that a request whose time the service limits is
// reported, and an invalid token too, even if its sender left at once. No client gets the 200
// that net/http sends if nothing is written.
func TestAClientThatLeftIsNotReported(t *testing.T) {
	left := func() (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(20*time.Millisecond, cancel)
		return ctx, cancel
	}
	late := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), 20*time.Millisecond)
	}
	for _, tt := range []struct {
		name   string
		end    func() (context.Context, context.CancelFunc)
		keys   *Verifier
		token  string
		status int
		told   bool
	}{
		{"left", left, lost(t), goodToken(), 503, false},
		{"late", late, lost(t), goodToken(), 503, true},
		{"left with a bad token", left, mustVerifier(t, nil), "x", 401, true},
	} {
		d := newGuarded(tt.keys)
		ctx, cancel := tt.end()
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+tt.token)
		if tt.status == 401 {
			cancel()
		}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		cancel()
		if w.Code != tt.status || d.calls != 0 || (len(d.whys) > 0) != tt.told {
			t.Errorf("%s: %d, called %d times, refused for %v", tt.name, w.Code, d.calls, d.whys)
		}
	}
}

// TestAHandlerMayChangeTheClaims although the token is cached.
func TestAHandlerMayChangeTheClaims(t *testing.T) {
	v := mustVerifier(t, func(c *VerifierConfig) { c.Cache = 8 })
	h := Guard{Verifier: v}.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := ClaimsOf(r.Context())
		io.WriteString(w, c.Subject+c.Audience[0]+string(c.Raw[:1]))
		c.Subject, c.Audience[0], c.Raw[0] = "mallory", "all", '!'
	}))
	token := goodToken()
	for range 3 {
		r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+token)
		if h.ServeHTTP(w, r); w.Body.String() != "aliceorders{" {
			t.Errorf("the next request gets %q", w.Body)
		}
	}
	if c := ClaimsOf(context.Background()); c != nil {
		t.Errorf("%v outside of a guard", c)
	}
}
