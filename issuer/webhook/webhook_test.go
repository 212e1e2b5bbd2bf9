package webhook

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/outbox"
	"keymill/issuer/refusal"
	"keymill/jwks"
)

// TestTheSignatureMatchesThePublishedVector uses the vector that the libraries of Standard Webhooks
// test. The receiver of these tests must accept it too.
func TestTheSignatureMatchesThePublishedVector(t *testing.T) {
	w := newWorld(t, "")
	at, h := time.Unix(1614265330, 0), http.Header{}
	e := outbox.Event{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", Payload: []byte(`{"test": 2432232314}`)}
	w.sender.sign(h, e, at)
	if got, want := h.Get("webhook-signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
	if err := verifyDelivery(hookSecret, h, e.Payload, at); err != nil {
		t.Error(err)
	}
	if err := verifyDelivery(hookSecret, h, []byte("{}"), at); err == nil {
		t.Error("the receiver of these tests accepts a wrong signature")
	}
}

// TestARealReceiverGetsEveryEventOnce uses HTTP and verifies each event. After that, the Sender must
// not write to the store.
func TestARealReceiverGetsEveryEventOnce(t *testing.T) {
	r := newReceiver(t)
	server := httptest.NewServer(r)
	defer server.Close()
	w := newWorld(t, server.URL)
	kinds := []string{"session.replayed", "session.revoked", "user.revoked", "client.revoked"}
	ids := map[string]string{}
	for _, kind := range kinds {
		ids[w.leave(kind)] = kind
	}
	w.run()
	eventually(t, func() bool { return len(w.waiting()) == 0 })
	before := w.writes()
	time.Sleep(2500 * time.Millisecond)
	if w.writes() != before {
		t.Error("an idle Sender writes")
	}
	got := r.tries("")
	if len(got) != len(kinds) {
		t.Errorf("%d deliveries of %d events", len(got), len(kinds))
	}
	for _, d := range got {
		if ids[d.id] != d.kind {
			t.Errorf("event %s arrived as %s, was %s", d.id, d.kind, ids[d.id])
		}
	}
}

func TestADecisionReachesTheReceiver(t *testing.T) {
	r := newReceiver(t)
	server := httptest.NewServer(r)
	defer server.Close()
	w := newWorld(t, server.URL)
	w.run()
	w.logout(2)
	eventually(t, func() bool { return len(r.tries("")) == 2 && len(w.waiting()) == 0 })
	for _, d := range r.tries("") {
		if d.kind != "user.revoked" || d.tries != 1 {
			t.Errorf("%+v", d)
		}
	}
}

// writes returns when the file of the store was changed.
func (w *world) writes() time.Time {
	w.t.Helper()
	info, err := os.Stat(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	return info.ModTime()
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	const failsafe = 5 * time.Minute // much longer than it takes, so that only a deadlock reaches it
	for end := time.Now().Add(failsafe); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the condition was not met within %v", failsafe)
		}
	}
}

// TestACrashBeforeTheDeletionSendsAgain requires the same id. The store is copied when the receiver
// has the event and the Sender has not read the answer. The copy is what kill -9 would leave.
func TestACrashBeforeTheDeletionSendsAgain(t *testing.T) {
	w := newWorld(t, "")
	image := w.path + ".killed"
	w.receiver.answer = func(receivedTry) (int, http.Header) {
		b, err := os.ReadFile(w.path)
		if err == nil {
			err = os.WriteFile(image, b, 0o600)
		}
		if err != nil {
			t.Error(err)
		}
		return 200, nil
	}
	id := w.leave("session.replayed")
	w.run()
	eventually(t, func() bool { return len(w.waiting()) == 0 })
	w.stop()
	if n := len(w.receiver.tries(id)); n != 1 {
		t.Fatalf("%d tries before the crash", n)
	}
	w.store.Close()
	if err := os.Rename(image, w.path); err != nil {
		t.Fatal(err)
	}
	w.receiver.answer = nil
	w.open("")
	w.run()
	eventually(t, func() bool { return len(w.waiting()) == 0 })
	w.stop()
	if n := len(w.receiver.tries(id)); n != 2 || len(w.receiver.tries("")) != 2 {
		t.Errorf("%d tries of the event, %d of all, want 2", n, len(w.receiver.tries("")))
	}
}

func TestOnlyA2xxOfTheReceiverIsASuccess(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	endless := func(status int) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(status)
			for {
				if _, err := io.WriteString(rw, strings.Repeat("all work and no play ", 100)); err != nil {
					return
				}
			}
		}
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		why     string // of the failure; "" for success
	}{
		{"no content", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(204) }, ""},
		{"accepted", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(202) }, ""},
		{"endless body", endless(200), ""},
		{"failure with an endless body", endless(500), "answered 500"},
		{"not found", http.NotFound, "answered 404"},
		{"redirect", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "answered 307"},
		{"redirect as GET", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, elsewhere.URL, http.StatusSeeOther)
		}, "answered 303"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		{"endless header", func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("X", strings.Repeat("x", 1<<20)) }, "header"},
	} {
		server := httptest.NewServer(tt.handler)
		w := newWorld(t, server.URL)
		_, got := w.sender.post(t.Context(), outbox.Event{ID: "x", Kind: "test", Payload: []byte("{}")})
		if tt.why == "" && got.failure != "" || !strings.Contains(got.failure, tt.why) || strings.Contains(got.failure, hookPath) {
			t.Errorf("%s: %q, want %q", tt.name, got.failure, tt.why)
		}
		w.sender.client.CloseIdleConnections()
		server.Close()
	}
}

// TestALongAnswerIsNotReadToItsEnd checks successes and failures.
func TestALongAnswerIsNotReadToItsEnd(t *testing.T) {
	for _, status := range []int{200, 500} {
		w := newWorld(t, "")
		long := strings.NewReader(strings.Repeat("all work and no play ", 100_000))
		all := long.Len()
		w.sender.client.Transport = memoryTransport(func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(long), Request: r}
		})
		w.sender.post(t.Context(), outbox.Event{ID: "x", Kind: "test", Payload: []byte("{}")})
		if read := all - long.Len(); read > maxAnswerBytes {
			t.Errorf("status %d: %d bytes of the answer were read, at most %d are needed", status, read, maxAnswerBytes)
		}
	}
}

// A memoryTransport answers in memory.
type memoryTransport func(*http.Request) *http.Response

func (a memoryTransport) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

// TestAReceiverThatCannotBeReachedIsAFailure, and so is one whose certificate the system does
// not trust.
func TestAReceiverThatCannotBeReachedIsAFailure(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	impostor := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a receiver without a trusted certificate got a request")
	}))
	impostor.Config.ErrorLog = nil
	defer impostor.Close()
	for url, want := range map[string]string{gone.URL: "refused", impostor.URL: "certificate"} {
		w := newWorld(t, url)
		_, got := w.sender.post(t.Context(), outbox.Event{ID: "x", Payload: []byte("{}")})
		if !strings.Contains(got.failure, want) || strings.Contains(got.failure, hookPath) {
			t.Errorf("%s: %q, want %q", url, got.failure, want)
		}
	}
	// Go never uses a proxy for loopback addresses, so a request cannot show this.
	w := newWorld(t, gone.URL)
	if w.sender.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("proxies are used")
	}
}

func TestEventsAreDeliveredOverTLS(t *testing.T) {
	r := newReceiver(t)
	server := httptest.NewTLSServer(r)
	defer server.Close()
	w := newWorld(t, server.URL)
	w.sender.client.Transport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	w.leave("user.revoked")
	w.run()
	eventually(t, func() bool { return len(w.waiting()) == 0 })
}

// TestAnAnswerOf410DropsTheEvent after one try, with an audit record.
func TestAnAnswerOf410DropsTheEvent(t *testing.T) {
	w := newWorld(t, "")
	w.receiver.answer = func(d receivedTry) (int, http.Header) {
		if d.kind == "user.revoked" {
			return 410, nil
		}
		return 200, nil
	}
	unwanted, wanted := w.leave("user.revoked"), w.leave("session.revoked")
	w.run()
	eventually(t, func() bool { return len(w.waiting()) == 0 })
	w.stop()
	for _, id := range []string{unwanted, wanted} {
		if n := len(w.receiver.tries(id)); n != 1 {
			t.Errorf("%s: %d tries", id, n)
		}
	}
	if drops := w.drops(); len(drops) != 1 || !strings.Contains(drops[unwanted], "410") {
		t.Errorf("dropped %v", drops)
	}
}

// TestEveryWrongConfigurationIsRefused with an error that contains no secret.
func TestEveryWrongConfigurationIsRefused(t *testing.T) {
	w := newWorld(t, "")
	good := Config{URL: "https://siem.example.com" + hookPath, Loopback: jwks.IsLoopback, Secret: hookSecret, Outbox: w.outbox}
	for _, url := range []string{
		"", "siem.example.com" + hookPath, "https:" + hookPath, "https://" + hookPath, "https://:443" + hookPath,
		"http://siem.example.com" + hookPath, "http://192.0.2.1" + hookPath, "http://localhost.example.com" + hookPath,
		"ftp://localhost" + hookPath, "unix:///run/x" + hookPath, "https:opaque" + hookPath, "https://siem.example.com" + hookPath + "#part",
		"https://siem.example.com" + hookPath + "#", "https://user:hunter2@siem.example.com" + hookPath,
		"https://user@siem.example.com" + hookPath, "https://siem.example.com:port" + hookPath, "https://siem example.com" + hookPath,
		"https://siem.example.com" + hookPath + "\n", "https://siem.example.com" + hookPath + "%zz",
	} {
		cfg := good
		cfg.URL = url
		refusedConfig(t, cfg)
	}
	for _, secret := range []refusal.Secret{
		"", "whsec_", hookSecret[len("whsec_"):], "whsk_" + hookSecret[len("whsec_"):], "WHSEC_" + hookSecret[len("whsec_"):],
		hookSecret + "\n", " " + hookSecret, hookSecret[:len(hookSecret)-1], hookSecret[:len(hookSecret)-4], // 21 bytes
		"whsec_" + refusal.Secret(strings.Repeat("AAAA", 21)) + "AAA=", // 65 bytes
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", "whsec_MfKQ9r8GKYqr\nTwjUPD8ILPZIo2LaLaSw",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAB==", // unused bits that are not zero
	} {
		cfg := good
		cfg.Secret = secret
		refusedConfig(t, cfg)
	}
	cfg := good
	cfg.Outbox = nil
	refusedConfig(t, cfg)
	for _, url := range []string{
		good.URL, "http://localhost:9000/", "http://127.0.0.1:9000", "http://[::1]/x?y=z", "https://siem.example.com:8443/x", "HTTPS://siem.example.com",
	} {
		cfg := good
		cfg.URL = url
		if _, err := New(cfg); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, secret := range []refusal.Secret{hookSecret, "whsec_" + refusal.Secret(strings.Repeat("AAAA", 21)) + "AA=="} { // 24 and 64 bytes
		cfg := good
		cfg.Secret = secret
		if _, err := New(cfg); err != nil {
			t.Errorf("a secret of %d characters: %v", len(secret), err)
		}
	}
}

func refusedConfig(t *testing.T, cfg Config) {
	t.Helper()
	w, err := New(cfg)
	if err == nil || w != nil {
		t.Errorf("%q with a secret of %d characters was accepted", cfg.URL, len(cfg.Secret))
		return
	}
	for _, secret := range []string{"MfKQ", "hunter2", hookPath} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error contains %q: %v", secret, err)
		}
	}
}

// TestAStopDoesNotWaitForTheReceiver: a stop interrupts the try, which does not count as a failure.
// The event stays.
func TestAStopDoesNotWaitForTheReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.receiver.answer = func(receivedTry) (int, http.Header) { return 0, nil }
		id := w.leave("session.revoked")
		w.run()
		time.Sleep(2 * time.Second) // the Sender looks for events once a second
		if n := len(w.receiver.tries(id)); n != 1 {
			t.Fatalf("%d tries are running, want 1", n)
		}
		began := time.Now()
		w.stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("the stop took %s", took)
		}
		if got := w.waiting(); len(got) != 1 || strings.Contains(w.log.String(), "not sent") {
			t.Errorf("%d wait, log %s", len(got), w.log)
		}
		// The same holds if the try ends before the loop sees the stop.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		q := newQueue(w.sender)
		q.finish(ctx, &delivery{Event: outbox.Event{ID: id}, outcome: outcome{failure: "context canceled"}})
		if q.failing || strings.Contains(w.log.String(), "not sent") {
			t.Error("a stop counts as a failure")
		}
		// A stop after the delivery must not keep the event.
		d := &delivery{Event: outbox.Event{ID: id, Kind: "session.revoked"}, accepted: true}
		if o := w.sender.try(ctx, d); o.failure != "" || len(w.waiting()) != 0 {
			t.Errorf("%+v, %d wait", o, len(w.waiting()))
		}
	})
}

// TestTheEndOfTheStoreIsNotLogged: the process says why it ends. An event whose receipt cannot be noted is sent again by the
// next one.
func TestTheEndOfTheStoreIsNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "")
		w.leave("session.revoked")
		w.receiver.answer = func(receivedTry) (int, http.Header) { w.store.Close(); return http.StatusNoContent, nil }
		w.run()
		time.Sleep(5 * time.Minute)
		w.stop()
		if log := w.log.String(); strings.Contains(log, `"WARN"`) || strings.Contains(log, `"ERROR"`) || len(w.receiver.tries("")) != 1 {
			t.Errorf("%d tries, and logged\n%s", len(w.receiver.tries("")), log)
		}
	})
}
