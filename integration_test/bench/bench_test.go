package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"keymill/integration_test/server"
	"keymill/jwks"
)

func testAccounts() accounts {
	return accounts{
		service: server.Client{ID: "bench", Secret: "secret"}, web: server.Client{ID: "web", Secret: "hidden"},
		user: "user", password: "password",
	}
}

// A grant is the answer to a request for a token (RFC 6749, section 5.1).
type grant struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	Scope       string `json:"scope"`
	Refresh     string `json:"refresh_token,omitempty"`
}

func testFloor(t *testing.T) (*floor, string) {
	t.Helper()
	c := testAccounts()
	clients := map[string]string{c.service.ID: c.service.Secret, c.web.ID: c.web.Secret}
	f, err := newFloor("http://127.0.0.1", clients, 1234, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		server.Close()
		f.records.db.Close()
	})
	return f, strings.TrimPrefix(server.URL, "http://")
}

// TestTheFloorIssuesValidTokens: it issues tokens that a verifier accepts, and only for the
// right secret. A floor that did less would be no fair comparison.
func TestTheFloorIssuesValidTokens(t *testing.T) {
	f, address := testFloor(t)
	kid := strings.Repeat("k", 43)
	for audience, key := range map[string]jwks.Key{
		audienceEd:  {KID: kid, Alg: jwks.EdDSA, Public: f.keys.ed.Public().(ed25519.PublicKey)},
		audienceRSA: {KID: kid, Alg: jwks.RS256, Public: &f.keys.rsa.PublicKey},
		audienceEC:  {KID: kid, Alg: jwks.ES256, Public: &f.keys.ec.PublicKey},
	} {
		l, err := dial(address, 1, func() caller { return tokenCaller(audience)(target{address: address, accounts: testAccounts()}) })
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		if err := l.connections[0].exchange(); err != nil {
			t.Fatal(err)
		}
		var answer grant
		if err := json.Unmarshal(l.connections[0].answer, &answer); err != nil {
			t.Fatal(err)
		}
		set, err := jwks.NewSet(key)
		if err != nil {
			t.Fatal(err)
		}
		want := jwks.Expectation{Issuer: f.issuer, Audience: audience, Algorithms: []string{key.Alg}}
		c, err := jwks.Check(answer.AccessToken, set, want, time.Now())
		if err != nil || c.ID == "" || !c.HasScope("read") || answer.ExpiresIn != 900 {
			t.Errorf("%s: %+v, %v", audience, c, err)
		}
	}
	for _, c := range []server.Client{{ID: "bench", Secret: "wrong"}, {ID: "web", Secret: "secret"}, {ID: "unknown"}} {
		l, err := dial(address, 1, func() caller {
			return tokenCaller(audienceEd)(target{address: address, accounts: accounts{service: c}})
		})
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		if _, err := l.run(time.Millisecond); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("client %s with a wrong secret: %v, want a 401", c.ID, err)
		}
	}
}

// TestTheSecondFloorSignsWithLibcrypto, and verifies each signature before it leaves.
func TestTheSecondFloorSignsWithLibcrypto(t *testing.T) {
	f, address := testFloor(t)
	key, err := rsa.GenerateKey(rand.Reader, rsaBits) // another one, so that the token shows which of the two signs
	if err != nil {
		t.Fatal(err)
	}
	if f.keys.libcrypto, err = newLibcrypto(key); err != nil {
		t.Fatal(err)
	}
	l, err := dial(address, 1, func() caller { return tokenCaller(audienceRSA)(target{address: address, accounts: testAccounts()}) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if err := l.connections[0].exchange(); err != nil {
		t.Fatal(err)
	}
	var answer grant
	if err := json.Unmarshal(l.connections[0].answer, &answer); err != nil {
		t.Fatal(err)
	}
	set, err := jwks.NewSet(jwks.Key{KID: strings.Repeat("k", 43), Alg: jwks.RS256, Public: &key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwks.Check(answer.AccessToken, set, jwks.Expectation{Issuer: f.issuer, Audience: audienceRSA, Algorithms: []string{jwks.RS256}}, time.Now()); err != nil {
		t.Error(err)
	}
	f.keys.libcrypto.public = &f.keys.rsa.PublicKey
	if err := l.connections[0].exchange(); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("a signature of another key left: %v", err)
	}
}

// TestTheFloorRefreshesDurably: each session's record on disk counts its refreshes.
func TestTheFloorRefreshesDurably(t *testing.T) {
	f, address := testFloor(t)
	l, err := dial(address, 8, func() caller { return refreshCaller(audienceEd)(target{address: address, accounts: testAccounts()}) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	answers := 0
	for answers < 2*len(l.connections) { // a login and a refresh of each, even on a slow disk
		s, err := l.run(100 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		answers += len(s.latencies)
	}
	for _, c := range l.connections {
		var answer grant
		if err := json.Unmarshal(c.answer, &answer); err != nil || len(answer.Refresh) != tokenChars || answer.AccessToken == "" {
			t.Errorf("answer %s, %v", c.answer, err)
		}
	}
	path := f.records.db.Path()
	if err := f.records.db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := refreshesOnDisk(t, path); n != answers-len(l.connections) { // the first of each is its login
		t.Errorf("the records count %d refreshes and the clients %d", n, answers-len(l.connections))
	}
}

func refreshesOnDisk(t *testing.T, path string) (n int) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("floor")).ForEach(func(k, v []byte) error {
			if len(v) != recordBytes {
				t.Errorf("record of %d bytes", len(v))
			}
			n += int(binary.BigEndian.Uint32(v))
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTheFloorStaysSmall(t *testing.T) {
	for _, name := range []string{"floor.go", "floor_form.go", "floor_keys.go", "floor_libcrypto.go", "floor_refresh.go"} {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(source, []byte("\n")); lines >= 150 {
			t.Errorf("%s has %d lines, want less than 150", name, lines)
		}
	}
}

func TestAComparisonCountsBothServers(t *testing.T) {
	_, a := testFloor(t)
	_, b := testFloor(t)
	for _, sc := range scenarios() {
		pid := os.Getpid()
		r, err := compare(sc, 2, target{address: a, pid: pid, accounts: testAccounts()}, target{address: b, pid: pid, accounts: testAccounts()}, plan{slices: 2, slice: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []totals{r.server, r.floor} {
			if len(got.perSecond) != 2 || len(got.perCPU) != 2 || median(got.perSecond) <= 0 || len(got.latencies) == 0 {
				t.Errorf("%s: %d slices, %d latencies", sc.name, len(got.perSecond), len(got.latencies))
			}
		}
		var out strings.Builder
		if err := printResults(&out, []result{r}); err != nil || !strings.Contains(out.String(), sc.name) {
			t.Errorf("printed %q, %v", out.String(), err)
		}
	}
}

func TestALoadFailsAtAnyWrongAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"no length": "HTTP/1.1 200 OK\r\n\r\n",
		"short":     "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
		"not HTTP":  "SSH-2.0-x\r\n\r\n",
		"busy":      "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			conn.Write([]byte(answer))
			conn.Close()
		}))
		address := strings.TrimPrefix(server.URL, "http://")
		l, err := dial(address, 1, func() caller { return always("GET / HTTP/1.1\r\nHost: x\r\n\r\n") })
		if err != nil {
			t.Fatal(err)
		}
		if s, err := l.run(time.Second); err == nil {
			t.Errorf("%s: counted %d answers", name, len(s.latencies))
		}
		l.close()
		server.Close()
	}
}

func TestStatisticsAreComputedRight(t *testing.T) {
	ms := func(n ...int) (out []time.Duration) {
		for _, n := range n {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return out
	}
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[99-i] = time.Duration(i+1) * time.Millisecond
	}
	for _, tt := range []struct {
		got, want time.Duration
	}{
		{percentile(hundred, 0.50), 50 * time.Millisecond},
		{percentile(hundred, 0.99), 99 * time.Millisecond},
		{percentile(ms(7), 0.99), 7 * time.Millisecond},
		{percentile(nil, 0.5), 0},
	} {
		if tt.got != tt.want {
			t.Errorf("percentile = %v, want %v", tt.got, tt.want)
		}
	}
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("median of three = %v", m)
	}
	if m := median([]float64{4, 1, 2, 9}); m != 3 {
		t.Errorf("median of four = %v", m)
	}
	if low, high := medianWithin([]float64{10, 1, 2, 9, 3, 8, 4, 7, 5, 6}); low != 2 || high != 9 {
		t.Errorf("the median of ten is within %v and %v", low, high)
	}
	if low, high := medianWithin([]float64{3, 1, 2}); low != 1 || high != 3 {
		t.Errorf("the median of three is within %v and %v", low, high)
	}
	before, err := cpuTime(os.Getpid())
	for begun := time.Now(); err == nil && time.Since(begun) < 20*time.Millisecond; {
	}
	if after, failed := cpuTime(os.Getpid()); err != nil || failed != nil || after <= before {
		t.Errorf("CPU time = %v after %v, %v, %v", after, before, err, failed)
	}
	if bytes, err := residentBytes(os.Getpid()); err != nil || bytes < 1<<20 {
		t.Errorf("resident = %d, %v", bytes, err)
	}
}

func TestAssertNamesTheBoundsThatAreMissed(t *testing.T) {
	sc := scenario{name: "x", share: 0.9, spread: map[int]float64{16: 3}}
	slow := result{
		scenario: sc, connections: 16,
		server: totals{perCPU: []float64{80, 80, 95}, latencies: []time.Duration{1, 1, 1, 9}},
		floor:  totals{perCPU: []float64{100, 100, 100}},
	}
	if missed := slow.missed(); len(missed) != 2 {
		t.Errorf("missed = %q", missed)
	}
	slow.connections, slow.server.perCPU[0] = 1, 91 // the spread has no bound there
	if missed := slow.missed(); len(missed) != 0 {
		t.Errorf("missed = %q", missed)
	}
	for want, rounds := range map[string][]float64{
		"":                    {1.02, 1.03, 1.01, 1.04, 1.02, 1.02, 1.03, 1.03, 0.8, 1.5},
		"wanted at most 1.05": {1.06, 1.07, 1.06, 1.06, 1.06, 1.07, 1.06, 1.06, 0.9, 1.1},
		"a quieter machine":   {0.8, 1.2, 0.9, 1.1, 1, 1.2, 0.8, 1.2, 1, 1},
	} {
		missed := repeatedResult{rounds: rounds}.missed("before")
		if got := strings.Join(missed, ""); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%v: %q", rounds, got)
		}
	}
	costly := startCost{
		startCPU: time.Second, launchCPU: 50 * time.Millisecond,
		fresh: 3 * time.Second, launch: 50 * time.Millisecond, key: 100 * time.Millisecond, resident: 40e6,
	}
	if missed := costly.missed(); len(missed) != 3 {
		t.Errorf("missed = %q", missed)
	}
	late := startCost{firstKeys: time.Second, startCPU: 4, launch: 1, launchCPU: 1} // the machine was busy
	if missed := late.missed(); len(missed) != 0 {
		t.Errorf("missed = %q", missed)
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	o, err := parseOptions([]string{"token", "--quick", "--assert"})
	if err != nil || !o.quick || !o.assert || len(o.groups) != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parseOptions([]string{"--against", "/bin/keymill", "jwks"}); err != nil || o.against != "/bin/keymill" || len(o.groups) != 1 {
		t.Errorf("--against: %+v, %v", o, err)
	}
	if o, err := parseOptions([]string{"--against", "/bin/keymill", "--assert", "jwks"}); err != nil || o.isLoad("jwks") || !o.isLoad("token") {
		t.Errorf("--against with a bound: %+v, %v", o, err)
	}
	for _, wrong := range [][]string{{"--against"}, {"--against", "/bin/keymill", "--assert"}, {"--against", "/bin/keymill", "--assert", "jwks", "token"}} {
		if o, err := parseOptions(wrong); err == nil {
			t.Errorf("%v gives %+v", wrong, o)
		}
	}
	if _, err := parseOptions([]string{"--fast"}); err == nil {
		t.Error("an unknown flag was accepted")
	}
	if o, _ := parseOptions(nil); len(o.groups) != len(groups()) {
		t.Errorf("without a group the groups are %q, want all", o.groups)
	}
}
