package jwks

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// served makes a Remote of what h serves at a real address.
func served(t testing.TB, h http.Handler, c RemoteConfig) *Remote {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c.URL = server.URL + "/keys"
	r, err := NewRemote(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close) // before the server, which waits for its connections
	return r
}

// TestMadeUpKidsCostOneFetchPerCooldown: ten thousand tokens with random kids, as
// fast as they come from 16 goroutines, counted at the server.
//
// I21.
func TestMadeUpKidsCostOneFetchPerCooldown(t *testing.T) {
	for _, cooldown := range []time.Duration{0, 5 * time.Millisecond} {
		var fetches atomic.Int64
		keys := publishing(t, 5*time.Minute, edKey("ed"))
		start := time.Now()
		r := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fetches.Add(1)
			keys.ServeHTTP(w, r)
		}), RemoteConfig{Cooldown: cooldown})
		v := newVerifier(t, r, 0)
		parts := strings.SplitN(tokenOf("x"), ".", 2)
		var sent atomic.Int64
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() {
				for n := sent.Add(1); n <= 10_000; n = sent.Add(1) {
					token := encode(fmt.Sprintf(`{"alg":"EdDSA","kid":"r%d","typ":"at+jwt"}`, n)) + "." + parts[1]
					if _, err := v.Verify(t.Context(), token); !errors.Is(err, ErrUnknownKey) {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		took := time.Since(start)
		if cooldown == 0 {
			cooldown = DefaultCooldown
		}
		most := int64(took/cooldown) + 1
		t.Logf("counted: 10000 tokens in %v, cooldown %v: %d fetches, at most %d", took.Round(time.Millisecond), cooldown, fetches.Load(), most)
		if fetches.Load() > most {
			t.Errorf("%d fetches", fetches.Load())
		}
	}
}

// I21.
func TestAWrongSignatureCostsNoFetch(t *testing.T) {
	var fetches atomic.Int64
	keys := publishing(t, 5*time.Minute, edKey("ed"))
	r := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		keys.ServeHTTP(w, r)
	}), RemoteConfig{Cooldown: time.Nanosecond})
	v := newVerifier(t, r, 0)
	wantSet(t, r, "ed")
	good, other := tokenOf("ed"), sign(edHeader(""), payload("sub", `"mallory"`))
	forged := good[:strings.LastIndexByte(good, '.')] + other[strings.LastIndexByte(other, '.'):]
	for range 200 {
		if _, err := v.Verify(t.Context(), forged); !errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
	}
	if fetches.Load() != 1 {
		t.Errorf("counted: %d fetches", fetches.Load())
	}
}

// failure waits for the first attempt, which must fail, and be the only one so far.
func failure(t *testing.T, r *Remote) error {
	t.Helper()
	set, err := r.Set(t.Context())
	if !errors.Is(err, ErrUnavailable) || set != nil {
		t.Fatalf("%v, %v", set, err)
	}
	if n := r.Status().Fetches; n != 1 {
		t.Errorf("the error came after %d attempts, want 1", n)
	}
	return err
}

func TestASlowDripEndsWithTheDeadline(t *testing.T) {
	r := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, " ")
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}), RemoteConfig{Timeout: 200 * time.Millisecond})
	if err := failure(t, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestALongBodyIsNotReadToItsEnd(t *testing.T) {
	written := make(chan int, 10)
	r := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 0
		for block := bytes.Repeat([]byte(" "), 64<<10); n < 10<<20; {
			m, err := w.Write(block)
			if n += m; err != nil {
				break
			}
		}
		written <- n
	}), RemoteConfig{})
	if err := failure(t, r); !strings.Contains(err.Error(), "262144 bytes") {
		t.Error(err)
	}
	if n := <-written; n > 8<<20 { // what the buffers of a loopback connection hold
		t.Errorf("the server could send %d bytes", n)
	}
}

func TestAGzipBombIsMeasuredUnpacked(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write([]byte(`{"keys":[]`))
	io.CopyN(z, spaces{}, 20<<20)
	z.Close()
	r := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb.Bytes())
	}), RemoteConfig{})
	if err := failure(t, r); bomb.Len() > maxDocumentBytes || !strings.Contains(err.Error(), "262144 bytes") {
		t.Error(err)
	}
}

type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestLongHeadersAreRefused(t *testing.T) {
	keys := publishing(t, time.Minute, edKey("ed"))
	for _, client := range []*http.Client{nil, {Timeout: time.Minute}} {
		r := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 100<<10))
			keys.ServeHTTP(w, r)
		}), RemoteConfig{Client: client})
		failure(t, r)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	var followed atomic.Bool
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	r := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/keys" {
			followed.Store(true)
		}
		http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
	}), RemoteConfig{Client: client})
	if err := failure(t, r); followed.Load() || !strings.Contains(err.Error(), "307") {
		t.Errorf("followed %v: %v", followed.Load(), err)
	}
	if client.CheckRedirect(nil, nil) != nil {
		t.Error("the caller's client was changed")
	}
}

func TestCloseLetsGoOfOurConnectionsAndNotOfTheCallers(t *testing.T) {
	for name, transport := range map[string]*http.Transport{"ours": nil, "the caller's": {}} {
		closed := make(chan struct{}, 1)
		server := httptest.NewUnstartedServer(publishing(t, time.Minute, edKey("ed")))
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				closed <- struct{}{}
			}
		}
		server.Start()
		c := RemoteConfig{URL: server.URL}
		if transport != nil {
			c.Client = &http.Client{Transport: transport}
		}
		r, err := NewRemote(c)
		if err != nil {
			t.Fatal(err)
		}
		wantSet(t, r, "ed")
		r.Close()
		wait := 100 * time.Millisecond
		if transport == nil {
			wait = 5 * time.Minute
		}
		select {
		case <-closed:
			if transport != nil {
				t.Errorf("%s: closed", name)
			}
		case <-time.After(wait):
			if transport == nil {
				t.Errorf("%s: left open", name)
			}
		}
		server.Close()
	}
}

// TestAnErrorHoldsNoPassword, whoever's it is.
func TestAnErrorHoldsNoPassword(t *testing.T) {
	for _, setting := range []string{"http://alice:s3cret@127.0.0.1:1", "http://alice:s3cret@[::1", "gopher://alice:s3cret@proxy", "http://alice:s3 cret@proxy"} {
		client := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
			u, err := url.Parse(setting)
			if err != nil {
				return nil, fmt.Errorf("invalid proxy address %q: %v", setting, err) // as net/http has it
			}
			return u, nil
		}}}
		r, err := NewRemote(RemoteConfig{URL: "https://id.example/keys", Client: client})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Set(t.Context())
		r.Close()
		if err == nil || strings.Contains(err.Error(), "cret") || !strings.Contains(err.Error(), "https://id.example/keys") {
			t.Errorf("%s: %v", setting, err)
		}
	}
	for _, c := range []RemoteConfig{{URL: "https://alice:s3cret@id.example"}, {Issuer: "https://alice:s3cret@id.example"}, {URL: "https://alice:s3cret@id.exa mple"}} {
		if _, err := NewRemote(c); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Error(err)
		}
	}
}

// R85.
func TestARemoteOfNobodyOrOfAnybodyIsRefused(t *testing.T) {
	for name, c := range map[string]RemoteConfig{
		"neither":           {},
		"both":              {Issuer: "https://id.example", URL: "https://id.example/keys"},
		"issuer's dots":     {Issuer: "https://id.example/a/../b"},
		"issuer's slashes":  {Issuer: "https://id.example/a//"},
		"issuer's query":    {Issuer: "https://id.example/a?b"},
		"issuer by http":    {Issuer: "http://id.example"},
		"URL by http":       {URL: "http://id.example/keys"},
		"URL by http to IP": {URL: "http://192.0.2.1/keys"},
		"URL of localhost.": {URL: "http://localhost.example/keys"},
		"no host":           {URL: "https:///keys"},
		"only a port":       {URL: "https://:443/keys"},
		"relative":          {URL: "/keys"},
		"file":              {URL: "file:///keys"},
		"user":              {URL: "https://alice@id.example/keys"},
		"fragment":          {URL: "https://id.example/keys#a"},
		"cooldown":          {URL: "https://id.example/keys", Cooldown: -1},
		"timeout":           {URL: "https://id.example/keys", Timeout: -1},
		"stale for a day":   {URL: "https://id.example/keys", MaxStale: 24*time.Hour + 1},
	} {
		r, err := NewRemote(c)
		if !errors.Is(err, ErrExpectation) || r != nil {
			t.Errorf("%s: %v", name, err)
		}
		if r != nil {
			r.Close()
		}
	}
}

// TestADeadConnectionIsLeft: a connection that goes dead without a word fails one attempt
// and not all that follow, also where the caller brought the transport.
func TestADeadConnectionIsLeft(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(publishing(t, time.Second, edKey("ed")))
			server.EnableHTTP2 = http2
			server.StartTLS()
			t.Cleanup(server.Close)
			between := forward(t, server.Listener.Addr().String())
			r, err := NewRemote(RemoteConfig{
				URL: "https://" + between.Addr().String() + "/keys", Client: server.Client(), Timeout: 2 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Close)
			wantSet(t, r, "ed")
			between.swallow()
			dead, failed := time.Now(), false
			for s := r.Status(); !failed || s.Err != nil; s = r.Status() {
				failed = failed || s.Err != nil
				if time.Since(dead) > 5*time.Minute { // bounds a hang
					t.Fatalf("failed %v, %+v", failed, s)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

// A forwarder stands between two ends of TCP.
type forwarder struct {
	net.Listener
	mu   sync.Mutex
	dead *atomic.Bool // of the connections that are open now
}

func forward(t *testing.T, to string) *forwarder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{Listener: l, dead: new(atomic.Bool)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			f.mu.Lock()
			dead := f.dead
			f.mu.Unlock()
			go pump(server, client, dead)
			go pump(client, server, dead)
		}
	}()
	return f
}

// swallow lets nothing through any more, and says nothing of it, but on new connections.
func (f *forwarder) swallow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead.Store(true)
	f.dead = new(atomic.Bool)
}

func pump(to, from net.Conn, dead *atomic.Bool) {
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if dead.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestASetMayHaveAQueryAndComeFromThisMachine(t *testing.T) {
	for _, location := range []string{"https://id.example/keys?app=1", "http://localhost/keys", "http://[::1]:1/keys"} {
		var o origin
		r, err := NewRemote(RemoteConfig{URL: location, Client: &http.Client{Transport: &o}})
		if err != nil {
			t.Errorf("%s: %v", location, err)
			continue
		}
		r.Close()
	}
}

// BenchmarkRemoteHit is what Remote adds to every verification.
func BenchmarkRemoteHit(b *testing.B) {
	r := served(b, publishing(b, time.Hour, edKey("ed")), RemoteConfig{})
	ctx := b.Context()
	wantSet(b, r, "ed")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.current(ctx); err != nil {
				b.Error(err)
			}
		}
	})
}
