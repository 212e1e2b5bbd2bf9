package keyset

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"keymill/issuer/verifiers"
	"keymill/jwks"
	"keymill/keystore"
)

const (
	good   = "orders-api.abcdefghij234567"
	forged = "orders-api.zzzzzzzzzz234567"
)

// keys returns n public keys.
func keys(t testing.TB, n int) (list []keystore.PublicKey) {
	t.Helper()
	for i := range n {
		var seed [ed25519.SeedSize]byte
		binary.BigEndian.PutUint64(seed[:], uint64(i))
		public := ed25519.NewKeyFromSeed(seed[:]).Public()
		list = append(list, keystore.PublicKey{KID: fmt.Sprint("key-", i), Alg: jwks.EdDSA, Public: public})
	}
	return list
}

// told is what a handler tells of an answer. name is that of a pinned verifier.
type told struct {
	verifiers.Fetch
	name string
}

// follow returns the handler of a set of n keys, and what it tells. The credential good is that of orders-api.
func follow(t testing.TB, n int) (http.Handler, chan told) {
	set := New(5 * time.Minute)
	set.Publish(keys(t, n))
	if issue := set.Issue(); issue != "" {
		t.Fatal(issue)
	}
	out := make(chan told, 100)
	h := set.Handler(Watch{
		Addresses: func(r *http.Request) (netip.Addr, netip.Addr) {
			peer := netip.MustParseAddrPort(r.RemoteAddr).Addr()
			through, _ := netip.ParseAddr(r.Header.Get("Via"))
			return peer, through
		},
		Pinned: func(credential string, set *jwks.Set) bool {
			if credential == good {
				out <- told{verifiers.Fetch{Set: set}, "orders-api"}
			}
			return credential == good
		},
		Observed: func(f verifiers.Fetch) *verifiers.Visitor {
			out <- told{f, ""}
			return nil
		},
		Again: func(*verifiers.Visitor, *jwks.Set) bool { return false },
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			t.Errorf("%s: %v", r.Method, err)
		}
	}), out
}

// ask sends a request without a network, and returns the answer and the name that was told. "none" means that
// nothing was told.
func ask(h http.Handler, told chan told, method, target string, header http.Header) (*httptest.ResponseRecorder, string) {
	r := &http.Request{Method: method, URL: &url.URL{Path: Path, RawQuery: target}, Header: header, RemoteAddr: "192.0.2.7:1234"}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	select {
	case f := <-told:
		return w, f.name
	default:
		return w, "none"
	}
}

// TestACredentialChangesNoAnswer: whatever a caller sends, in a header and in a parameter, it gets the same bytes and
// headers. Only the one correct credential in the place that counts names a verifier.
//
// R59.
func TestACredentialChangesNoAnswer(t *testing.T) {
	h, told := follow(t, 2)
	plain, name := ask(h, told, "GET", "", http.Header{})
	if name != "" || plain.Code != 200 || plain.Header()["Vary"] != nil {
		t.Fatalf("%d %v, name %q", plain.Code, plain.Header(), name)
	}
	long := strings.Repeat("a", 10_000) + ".abcdefghij234567"
	in := func(values ...string) http.Header { return http.Header{"Keymill-Verifier": values} }
	for what, tt := range map[string]struct {
		header http.Header
		query  string
		want   string
	}{
		"header":                          {in(good), "", "orders-api"},
		"parameter alone":                 {nil, "verifier=" + good, "orders-api"},
		"among others":                    {nil, "a=1&verifier=" + good + "&verifierx=2&b", "orders-api"},
		"header and parameter":            {in(good), "verifier=" + good, "orders-api"},
		"header, forged parameter":        {in(good), "verifier=" + forged, "orders-api"},
		"forged header, parameter":        {in(forged), "verifier=" + good, ""},
		"empty header, parameter":         {in(""), "verifier=" + good, ""},
		"forged header":                   {in(forged), "", ""},
		"forged parameter":                {nil, "verifier=" + forged, ""},
		"repeated header":                 {in(good, good), "", ""},
		"repeated header, parameter":      {in(good, forged), "verifier=" + good, ""},
		"joined header":                   {in(good + ", " + good), "", ""},
		"repeated parameter":              {nil, "verifier=" + good + "&verifier=" + good, ""},
		"repeated parameter, first empty": {nil, "verifier=&verifier=" + good, ""},
		"parameter without a value":       {nil, "verifier", ""},
		"other parameter":                 {nil, "Verifier=" + good, ""},
		"a long header":                   {in(long), "", ""},
		"a long parameter":                {nil, "verifier=" + long, ""},
		"ten thousand parameters":         {nil, strings.Repeat("verifier=a&", 10_000) + "verifier=" + good, ""},
		"NUL bytes":                       {in(good + "\x00"), "", ""},
		"NUL bytes in a parameter":        {nil, "verifier=" + good + "%00", ""},
		"raw NUL bytes in a parameter":    {nil, "verifier=\x00" + good, ""},
		"ANSI":                            {in("\x1b[31m" + good), "", ""},
		"ANSI in a parameter":             {nil, "verifier=%1b[31m" + good, ""},
		"bidirectional text":              {in("\u202e" + good), "", ""},
		"HTML":                            {in("<b>" + good), "", ""},
		"a broken escape":                 {nil, "verifier=%zz&%", ""},
	} {
		w, name := ask(h, told, "GET", tt.query, tt.header)
		if name != tt.want {
			t.Errorf("%s: name %q, want %q", what, name, tt.want)
		}
		if w.Code != 200 || w.Body.String() != plain.Body.String() || !reflect.DeepEqual(w.Header(), plain.Header()) {
			t.Errorf("%s: %d %v", what, w.Code, w.Header())
		}
		cached := tt.header.Clone()
		if cached == nil {
			cached = http.Header{}
		}
		cached.Set("If-None-Match", plain.Header().Get("Etag"))
		if w, name := ask(h, told, "GET", tt.query, cached); w.Code != 304 || name != tt.want {
			t.Errorf("%s: %d for a caller that has the set, name %q", what, w.Code, name)
		}
	}
}

// TestOtherAnswersAreNotTold: a HEAD, a 304 that names no set, a method that is refused, and an answer without keys.
func TestOtherAnswersAreNotTold(t *testing.T) {
	h, told := follow(t, 2)
	w, _ := ask(h, told, "GET", "", nil)
	etag := w.Header().Get("Etag")
	for _, tt := range []struct {
		method, etag string
		status       int
	}{
		{"HEAD", "", 200}, {"HEAD", etag, 304}, {"GET", "*", 304}, {"POST", "", 405}, {"DELETE", etag, 405}, {"OPTIONS", "", 405}, {"get", "", 405},
	} {
		header := http.Header{jwks.VerifierHeader: {good}}
		if tt.etag != "" {
			header.Set("If-None-Match", tt.etag)
		}
		if w, name := ask(h, told, tt.method, "", header); name != "none" || w.Code != tt.status {
			t.Errorf("%s with %q: %d, name %q", tt.method, tt.etag, w.Code, name)
		}
	}
	empty := New(time.Minute).Handler(Watch{Observed: func(f verifiers.Fetch) *verifiers.Visitor {
		t.Errorf("told of %v", f)
		return nil
	}})
	none := httptest.NewRecorder()
	if err := empty(none, httptest.NewRequest("GET", Path, nil)); err != nil || none.Code != 503 {
		t.Errorf("without keys: %d, %v", none.Code, err)
	}
}

// TestAFetchSaysWhoCame: the address, the proxy, the program, and the set that was served.
func TestAFetchSaysWhoCame(t *testing.T) {
	h, told := follow(t, 3)
	r := httptest.NewRequest("GET", Path, nil)
	r.RemoteAddr = "[2001:db8:1:2:aaaa::5]:443"
	r.Header.Set("User-Agent", "PyJWT/2.8")
	r.Header.Set("Via", "10.0.0.5")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	f := <-told
	if f.Address != netip.MustParseAddr("2001:db8:1:2:aaaa::5") || f.Through != netip.MustParseAddr("10.0.0.5") || f.Agent != "PyJWT/2.8" ||
		f.name != "" || f.Set.ETag() != w.Header().Get("Etag") || len(f.Set.Keys()) != 3 {
		t.Errorf("%+v", f)
	}
}

// FuzzParameter compares the reader of the parameter with the one of the standard library.
func FuzzParameter(f *testing.F) {
	f.Add("verifier=" + good)
	f.Add("a&verifier=b=c&&verifier")
	f.Fuzz(func(t *testing.T, query string) {
		got := parameter(query)
		if strings.ContainsAny(query, "%+;") { // which the other one decodes or refuses
			return
		}
		values, err := url.ParseQuery(query)
		want := ""
		if err == nil && len(values["verifier"]) == 1 {
			want = values["verifier"][0]
		}
		if got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	})
}
