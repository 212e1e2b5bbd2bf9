package endpoint

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
)

// R1.
func TestTokenRequestsMustBePOST(t *testing.T) {
	w := newWorld(t)
	a := w.send("GET", "/token?"+w.good(), "")
	refusedToken(t, "GET", a, 405, "invalid_request")
	if a.header.Get("Allow") != "POST" {
		t.Errorf("Allow: %q", a.header.Get("Allow"))
	}
	for _, method := range []string{"HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		if a := w.send(method, "/token", ""); a.status != 405 || a.header.Get("Allow") != "POST" {
			t.Errorf("%s: %d, Allow %q", method, a.status, a.header.Get("Allow"))
		}
	}
}

// R1.
func TestNoPathRedirects(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/token/", "/TOKEN", "//token", "/x/../token", "/./token", "/token%2f"} {
		a := w.send("POST", path, w.good(), formHeader)
		if a.status != 404 || a.header.Get("Location") != "" || a.code(t) != "not_found" {
			t.Errorf("%s: %d, Location %q", path, a.status, a.header.Get("Location"))
		}
	}
}

// R2.
func TestSecretsInTheURLAreRefusedAndNotLogged(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{
		"client_secret", "refresh_token", "code", "password", "client_id", "client_assertion", "token", "client%5fsecret",
	} {
		refusedToken(t, name, w.send("POST", "/token?"+name+"=kms_leaked_in_url", w.good(), formHeader), 400, "invalid_request")
	}
	refusedToken(t, "broken query", w.send("POST", "/token?client_secret=kms_leaked_in_url;x", w.good(), formHeader), 400, "invalid_request")
	w.send("GET", "/token?client_secret=kms_leaked_in_url", "")
	w.send("GET", "/nowhere?client_secret=kms_leaked_in_url", "")
	if strings.Contains(w.log.String(), "leaked_in_url") {
		t.Error("the log contains the value")
	}
	w.token(w.send("POST", "/token?trace=1", w.good(), formHeader))
}

// R3.
func TestARepeatedParameterIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, more := range []string{
		"grant_type=client_credentials", "grant_type=", "client_id=billing", "client_secret=" + w.secret,
		"scope=read&scope=read", "scope=&scope=read", "foo=1&foo=2", "sc%6Fpe=read&scope=read",
	} {
		refusedToken(t, more, w.post(w.good(more)), 400, "invalid_request")
	}
	w.token(w.post(w.good("resource=orders&audience=orders&resource=orders&audience=")))
	refusedToken(t, "two audiences", w.post(w.good("resource=orders&audience=shop")), 400, "invalid_target")
	refusedToken(t, "two resources", w.post(w.good("resource=orders&resource=shop")), 400, "invalid_target")
}

// R4.
func TestAnEmptyParameterCountsAsAbsent(t *testing.T) {
	w := newWorld(t)
	without, with := w.post(w.good()).json(t), w.post(w.good("scope=&audience=&resource=")).json(t)
	if without["scope"] != "read write" || with["scope"] != without["scope"] || with["expires_in"] != without["expires_in"] {
		t.Errorf("got %v and %v", without, with)
	}
	form := "client_id=billing&client_secret=" + w.secret
	a, b := w.post(form), w.post(form+"&grant_type=")
	refusedToken(t, "no grant_type", a, 400, "invalid_request")
	if a.body != b.body || a.status != b.status {
		t.Errorf("got %s and %s", a.body, b.body)
	}
	w.token(w.post("grant_type=client_credentials&client_secret=&client_id=", basic("billing", w.secret)))
}

// R5.
func TestUnknownParametersAreIgnored(t *testing.T) {
	w := newWorld(t)
	w.token(w.post(w.good("foo=1&bar=&=x&&baz")))
}

// R6.
func TestOnlyFormsAreAccepted(t *testing.T) {
	w := newWorld(t)
	for _, header := range []string{
		"Content-Type: application/json", "Content-Type: multipart/form-data; boundary=x", "Content-Type: text/plain", "X: y",
		"Content-Type: application/x-www-form-urlencoded2", "Content-Type: application/x-www-form-urlencoded; charset=utf-16",
		"Content-Type: ;", "Content-Type: application/x-www-form-urlencoded, text/plain",
	} {
		refusedToken(t, header, w.send("POST", "/token", w.good(), header), 400, "invalid_request")
	}
	refusedToken(t, "two types", w.send("POST", "/token", w.good(), formHeader, "Content-Type: text/plain"), 400, "invalid_request")
	refusedToken(t, "compressed", w.post(w.good(), "Content-Encoding: gzip"), 400, "invalid_request")
	for _, header := range []string{
		"Content-Type: application/x-www-form-urlencoded; charset=UTF-8", "Content-Type: Application/X-WWW-Form-Urlencoded",
	} {
		w.token(w.send("POST", "/token", w.good(), header))
	}
}

// R7.
func TestMalformedFormsAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, more := range []string{"a=1;b=2", "x=%zz", "%zz=x", "x=%", "x=%4", strings.Repeat("p=1&", 100), many(65)} {
		refusedToken(t, short(more), w.post(w.good(more)), 400, "invalid_request")
	}
	a := w.post(w.good(many(11_000)))
	refusedToken(t, "11,000 parameters", a, 413, "invalid_request")
	if a.header.Get("Connection") != "close" {
		t.Error("the server keeps the connection and reads the rest of a body that is too large")
	}
	refusedToken(t, "large body", w.post(w.good("x="+strings.Repeat("a", maxFormBytes))), 413, "invalid_request")
	chunked, err := http.NewRequest("POST", w.public.URL+"/token", chunks{strings.NewReader(w.good("x=" + strings.Repeat("a", maxFormBytes)))})
	if err != nil {
		t.Fatal(err)
	}
	chunked.Header.Set("Content-Type", formType)
	refusedToken(t, "large body in chunks", do(t, w.public.Client(), chunked), 413, "invalid_request")
	w.token(w.post(w.good("x=" + strings.Repeat("a", maxFormBytes-1000))))
}

// chunks sends a body without its length.
type chunks struct{ *strings.Reader }

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "p%d=1&", i)
	}
	return strings.TrimSuffix(b.String(), "&")
}

// R8.
func TestUnknownAndForbiddenGrantsAreRefused(t *testing.T) {
	w := newWorld(t)
	form := "client_id=billing&client_secret=" + w.secret + "&grant_type="
	for _, g := range []string{"urn:example:grant", "CLIENT_CREDENTIALS", "client_credentials%20", "authorization_code"} {
		refusedToken(t, g, w.post(form+g), 400, "unsupported_grant_type")
	}
	c, err := w.issuer.AddClient(t.Context(), api.NewClient{ID: "idle", Audiences: []string{"orders"}}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	refusedToken(t, "not allowed", w.post("grant_type=client_credentials&client_id=idle&client_secret="+string(c.Secret)), 400, "unauthorized_client")
}

// R9.
func TestWrongUnknownAndDisabledLookTheSame(t *testing.T) {
	w := newWorld(t)
	disabled, yes := w.client("disabled"), true
	if _, err := w.issuer.SetClient(t.Context(), "disabled", api.ClientChange{Disabled: &yes}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	const grant = "grant_type=client_credentials"
	answers := map[string]answer{
		"wrong, basic":    w.post(grant, basic("billing", "kms_wrong")),
		"unknown, basic":  w.post(grant, basic("unknown", "kms_wrong")),
		"disabled, basic": w.post(grant, basic("disabled", disabled)),
		"wrong, post":     w.post(grant + "&client_id=billing&client_secret=wrong"),
		"unknown, post":   w.post(grant + "&client_id=unknown&client_secret=wrong"),
		"disabled, post":  w.post(grant + "&client_id=disabled&client_secret=" + disabled),
		"no secret":       w.post(grant + "&client_id=billing"),
		"impossible id":   w.post(grant, basic("bill\x00ing", w.secret)),
		"empty secret":    w.post(grant, basic("billing", "")),
		"no such scheme":  w.post(grant, "Authorization: Bearer abc"),
		"broken basic":    w.post(grant, "Authorization: Basic ???"),
	}
	first := answers["wrong, basic"]
	for what, a := range answers {
		refusedToken(t, what, a, 401, "invalid_client")
		a.header.Del("Date")
		first.header.Del("Date")
		if a.body != first.body || fmt.Sprint(a.header) != fmt.Sprint(first.header) {
			t.Errorf("%s: %v %s, but %v %s", what, a.header, a.body, first.header, first.body)
		}
	}
	if got := first.header.Get("WWW-Authenticate"); got != `Basic realm="keymill"` {
		t.Errorf("WWW-Authenticate: %q", got)
	}
	refusedToken(t, "nothing shown", w.post(grant), 401, "invalid_client")
}

// R10.
func TestTwoMethodsOfAuthenticationAreRefused(t *testing.T) {
	w := newWorld(t)
	const grant = "grant_type=client_credentials"
	good := basic("billing", w.secret)
	for what, a := range map[string]answer{
		"basic and post":        w.post(w.good(), good),
		"basic and assertion":   w.post(grant+"&client_assertion=a.b.c", good),
		"basic and type":        w.post(grant+"&client_assertion_type=urn:x", good),
		"post and assertion":    w.post(w.good("client_assertion=a.b.c")),
		"two headers":           w.post(grant, good, good),
		"another id in body":    w.post(grant+"&client_id=other", good),
		"basic and only secret": w.post(grant+"&client_secret="+w.secret, good),
	} {
		refusedToken(t, what, a, 400, "invalid_request")
	}
	refusedToken(t, "assertion alone", w.post(grant+"&client_id=billing&client_assertion=a.b.c"), 401, "invalid_client")
	w.token(w.post(grant+"&client_id=billing", good))
}

// R11.
func TestClientIDsWithSpecialCharactersAuthenticate(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"a:b", "100%", "a+b", "a b", "a%3Ab", `"\`, "%", "a&b=c;d"} {
		secret := w.client(id, "read")
		c := w.verify(w.token(w.post("grant_type=client_credentials", basic(id, secret))), "orders")
		if c.Subject != id || c.ClientID != id {
			t.Errorf("%q: sub %q, client_id %q", id, c.Subject, c.ClientID)
		}
	}
	// Generated secrets have none of these characters, but decoding must return what was encoded.
	for _, secret := range []string{":", "%", "+", " ", "a:b%+ c"} {
		got, ok := parseBasic(strings.TrimPrefix(basic("a:%+ b", secret), "Authorization: "))
		if !ok || got.ClientID != "a:%+ b" || string(got.Secret) != secret {
			t.Errorf("%q: got %q, %q", secret, got.ClientID, string(got.Secret))
		}
	}
	// a:bc is YTpiYw==, and only that.
	for header, want := range map[string]bool{"Basic YTpiYw==": true, "basic YTpiYw==": true, "Basic YTpiYx==": false, "Basic YTpiYw": false} {
		if _, ok := parseBasic(header); ok != want {
			t.Errorf("%s: %v", header, ok)
		}
	}
}

// R12.
func TestTokenAnswersAreNeverCached(t *testing.T) {
	w := newWorld(t)
	for _, a := range []answer{w.post(w.good()), w.post("grant_type=x"), w.post(w.good("scope=none"))} {
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Pragma": "no-cache", "Content-Type": "application/json", "X-Content-Type-Options": "nosniff",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%d: %s: %q", a.status, name, got)
			}
		}
	}
	body := w.post(w.good()).json(t)
	if len(body) != 4 || body["token_type"] != "Bearer" || body["expires_in"] != 900.0 || body["scope"] != "read write" {
		t.Errorf("got %v", body)
	}
}

// R13.
func TestErrorTextsContainNothingFromTheRequest(t *testing.T) {
	w := newWorld(t)
	odd := `%22%3E%3C%C3%A9%0A%00%5C` // "><é, line feed, NUL, backslash
	for _, form := range []string{
		"grant_type=" + odd, odd + "=1&" + odd + "=2", w.good("scope=" + odd), w.good("audience=" + odd),
		"grant_type=client_credentials&client_id=" + odd + "&client_secret=" + odd, odd + ";",
	} {
		a := w.post(form)
		text := a.code(t) + fmt.Sprint(a.json(t)["error_description"])
		if a.status < 400 || a.status >= 500 {
			t.Errorf("%s: %d", form, a.status)
		}
		for _, c := range []byte(text) {
			if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
				t.Errorf("%s: byte %#x in %q", form, c, text)
			}
		}
		if strings.ContainsAny(text, "<>") {
			t.Errorf("%s: %q echoes the request", form, text)
		}
	}
}

// R14.
func TestNoPasswordAndNoImplicitGrant(t *testing.T) {
	w := newWorld(t)
	form := "client_id=billing&client_secret=" + w.secret
	refusedToken(t, "password", w.post(form+"&grant_type=password&username=a&password=b"), 400, "unsupported_grant_type")
	refusedToken(t, "implicit", w.post(form+"&grant_type=implicit"), 400, "unsupported_grant_type")
	for _, kind := range []string{"token", "id_token"} {
		refusedToken(t, kind, w.post(form+"&response_type="+kind), 400, "unsupported_response_type")
	}
}

// R15.
func TestClientCredentialsAreForConfidentialClientsAndBringNoRefreshToken(t *testing.T) {
	w := newWorld(t)
	if _, err := w.issuer.AddClient(t.Context(), api.NewClient{ID: "web", Public: true, Audiences: []string{"orders"}}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	refusedToken(t, "public", w.post("grant_type=client_credentials&client_id=web"), 400, "unauthorized_client")
	if _, ok := w.post(w.good()).json(t)["refresh_token"]; ok {
		t.Error("a refresh token")
	}
}

// R16.
func TestScopesAreCheckedAndNamed(t *testing.T) {
	w := newWorld(t)
	for _, scope := range []string{"buy", "read+buy", "read++write", "READ", "%00"} {
		refusedToken(t, scope, w.post(w.good("scope="+scope)), 400, "invalid_scope")
	}
	for asked, want := range map[string]string{"": "read write", "read": "read", "write+read": "read write"} {
		a := w.post(w.good("scope=" + asked))
		if got := a.json(t)["scope"]; got != want {
			t.Errorf("asked %q: got %v", asked, got)
		}
		if c := w.verify(w.token(a), "orders"); c.Scope != want {
			t.Errorf("asked %q: the token says %q", asked, c.Scope)
		}
	}
}

// R17.
func TestASecretThatIsShownIsVerified(t *testing.T) {
	w := newWorld(t)
	if _, err := w.issuer.AddClient(t.Context(), api.NewClient{ID: "web", Public: true, Audiences: []string{"orders"}}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	const grant = "grant_type=client_credentials"
	refusedToken(t, "post", w.post(grant+"&client_id=web&client_secret=x"), 401, "invalid_client")
	refusedToken(t, "basic", w.post(grant, basic("web", "x")), 401, "invalid_client")
	refusedToken(t, "basic, a blank", w.post(grant, basic("web", " ")), 401, "invalid_client")
}

// R18.
func TestTenWrongSecretsLimitOneClientAtOneAddress(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const grant = "grant_type=client_credentials"
		for n := range limit.ClientFailures {
			refusedToken(t, fmt.Sprint("failure ", n), w.post(grant, basic("billing", "kms_wrong")), 401, "invalid_client")
		}
		a := w.post(w.good())
		refusedToken(t, "the right secret after the limit", a, 429, "temporarily_unavailable")
		if wait := a.header.Get("Retry-After"); wait != "90" {
			t.Errorf("Retry-After: %q", wait)
		}
		// Another client at the same address, and the same client at another one.
		other := w.client("other", "read")
		w.token(w.post(grant, basic("other", other)))
		w.http = w.from("127.0.0.2")
		if a := w.post(w.good()); a.status != 200 {
			t.Errorf("from elsewhere: %d %s", a.status, a.body)
		}
	})
}

// R18.
func TestAKnownClientIsLimitedToo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.token(w.post(w.good()))
		for range limit.ClientFailures {
			refusedToken(t, "failure", w.post("grant_type=client_credentials", basic("billing", "kms_wrong")), 401, "invalid_client")
		}
		refusedToken(t, "one more", w.post("grant_type=client_credentials", basic("billing", "kms_wrong")), 429, "temporarily_unavailable")
	})
}

// R18.
func TestAnIPv6NetworkSharesItsFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		guess := func(n int) answer {
			return w.post("grant_type=client_credentials", basic(fmt.Sprint("client", n), "kms_wrong"),
				fmt.Sprintf("X-Forwarded-For: 2001:db8::%x", n+1))
		}
		for n := range limit.AddressFailures {
			refusedToken(t, "failure", guess(n), 401, "invalid_client")
		}
		refusedToken(t, "one more", guess(limit.AddressFailures), 429, "temporarily_unavailable")
	}, trustsLoopback)
}

// R18.
func TestSuccessesAreNotCounted(t *testing.T) {
	w := newWorld(t)
	for range 3 * limit.ClientFailures {
		w.token(w.post(w.good()))
	}
}

func FuzzBasic(f *testing.F) {
	f.Add("Basic " + base64.StdEncoding.EncodeToString([]byte("a:b")))
	f.Add("basic " + base64.StdEncoding.EncodeToString([]byte("a%3Ab:%zz")))
	f.Add("Basic =")
	f.Fuzz(func(t *testing.T, header string) {
		c, ok := parseBasic(header)
		if !ok {
			if c != (issuer.Credentials{}) {
				t.Fatal("an error came with a result")
			}
			return
		}
		again, ok := parseBasic(strings.TrimPrefix(basic(c.ClientID, string(c.Secret)), "Authorization: "))
		if !ok || again != c || c.ClientID == "" {
			t.Fatalf("%q became %q", header, again.ClientID)
		}
	})
}
