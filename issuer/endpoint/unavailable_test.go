package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/keyset"
	"keymill/issuer/record"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/moved"
)

// TestOnlyAFaultThatPassesSaysWhenToTryAgain: an answer to what only the operator can repair has no
// Retry-After and no advice to try again, in every format.
func TestOnlyAFaultThatPassesSaysWhenToTryAgain(t *testing.T) {
	damaged := storage.Damaged("user/alice", "it is empty")
	for what, tt := range map[string]struct {
		err    error
		passes bool
	}{
		"a full disk":              {fmt.Errorf("put: %w", storage.ErrNoSpace), true},
		"an unknown outcome":       {storage.ErrUnknownOutcome, true},
		"a store that is away":     {fmt.Errorf("get: %w", storage.ErrUnavailable), true},
		"a broken store":           {storage.ErrBroken, true},
		"a closed store":           {storage.ErrClosed, true},
		"no key":                   {&keystore.UnavailableError{Reason: "no key"}, true},
		"no key for a while":       {&keystore.UnavailableError{Reason: "no key", RetryAfter: time.Hour}, true},
		"too slow":                 {context.DeadlineExceeded, true},
		"a damaged record":         {damaged, false},
		"the same, wrapped":        {fmt.Errorf("read: %w", errors.Join(damaged)), false},
		"a forged record":          {&storage.DamageError{Key: "user/alice", Err: storage.ErrForged}, false},
		"a missing record":         {record.Missing(storage.ErrNotFound, "user/alice", "a session needs it"), false},
		"a record of a later time": {fmt.Errorf("record user/alice: %w", record.ErrNewer), false},
	} {
		for format, body := range map[string]string{
			"public":    fmt.Sprint(replyTo(tt.err, unavailable{code: temporarilyUnavailable}).body),
			"admin":     fmt.Sprint(replyTo(tt.err, unavailable{code: "unavailable", withReason: true}).body),
			"simplejwt": fmt.Sprint(formatSimpleJWT(httptest.NewRequest("POST", "/", nil), replyTo(tt.err, unavailable{code: temporarilyUnavailable}), tt.err).body),
		} {
			if strings.Contains(body, "again") != tt.passes {
				t.Errorf("%s, %s: %s", what, format, body)
			}
			if named := strings.Contains(body, "alice"); named != (format == "admin" && !tt.passes) {
				t.Errorf("%s, %s: names the record is %v: %s", what, format, named, body)
			}
		}
		a := replyTo(tt.err, unavailable{code: temporarilyUnavailable})
		if a.status != 503 || (a.retryAfter >= time.Second) != tt.passes || a.retryAfter < time.Second && a.retryAfter != 0 {
			t.Errorf("%s: %d, try again after %s", what, a.status, a.retryAfter)
		}
		if code := a.body.(api.ErrorResponse).Code; (code == serverError) == tt.passes {
			t.Errorf("%s: %s", what, code)
		}
	}
}

// TestAMovedStoreIsNotTriedAgain: an administrator learns where the store is. A client learns only that it has moved, and asks
// the same address later, which its operator sends to the new servers.
func TestAMovedStoreIsNotTriedAgain(t *testing.T) {
	err := fmt.Errorf("put: %w", &moved.Error{Record: moved.Record{State: moved.Moved, To: "postgres://db.example.com/keymill"}})
	public := replyTo(err, unavailable{code: temporarilyUnavailable})
	a := replyTo(err, unavailable{code: "unavailable", withReason: true})
	if body := fmt.Sprint(a.body); a.status != 503 || a.retryAfter != 0 || !strings.Contains(body, "was moved to postgres://db.example.com/keymill") || strings.Contains(body, "again") {
		t.Errorf("admin: %+v", a)
	}
	for format, a := range map[string]reply{
		"public":    public,
		"simplejwt": formatSimpleJWT(httptest.NewRequest("POST", "/", nil), public, err),
	} {
		if body := fmt.Sprint(a.body); a.status != 503 || a.retryAfter == 0 || !strings.Contains(body, "has moved") || strings.Contains(body, "db.example") {
			t.Errorf("%s: %+v", format, a)
		}
	}
	err.(interface{ Unwrap() error }).Unwrap().(*moved.Error).State = moved.Moving
	if a := replyTo(err, unavailable{code: "unavailable", withReason: true}); a.retryAfter == 0 || !strings.Contains(fmt.Sprint(a.body), "try again later") {
		t.Errorf("a store that is being moved: %+v", a)
	}
}

// TestOnlyTheLogNamesADamagedRecord: the caller learns that a retry does not help.
//
// I23.
func TestOnlyTheLogNamesADamagedRecord(t *testing.T) {
	w := newWorld(t).withAlice()
	p := w.obtain()
	for _, key := range []string{"user/7", "client/web"} {
		stored := w.stored(func(k string) bool { return k == key })[key]
		w.putBelow(map[string][]byte{key: oneBit(stored)})
		w.saysNoDetail(key, w.ask("/revoke", p.Access, "client_id=web"))
		w.saysNoDetail(key, w.rotate(p.Refresh))
		w.saysNoDetail(key, w.postJSON("/api/token/verify/", map[string]string{"token": p.Refresh}))
		if log := w.log.String(); !strings.Contains(log, "record "+key+" is damaged") {
			t.Errorf("the log does not name %s:\n%s", key, log)
		}
		w.putBelow(map[string][]byte{key: stored})
	}
	w.token(w.rotate(p.Refresh))
}

// TestAStoreThatIsAwayIsNotReady: the server still serves the key set, and asks the store until it answers. Only
// the administrator learns the reason.
func TestAStoreThatIsAwayIsNotReady(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.server.Run(ctx) }()
		is := func(ready bool) {
			t.Helper()
			time.Sleep(2 * readyEvery)
			synctest.Wait()
			if w.server.Ready() != ready {
				t.Errorf("Ready is %v, want %v", !ready, ready)
			}
			want := map[bool]int{true: 200, false: 503}[ready]
			for path, status := range map[string]int{"/readyz": want, "/healthz": 200, keyset.Path: 200, oauthDocument: 200} {
				if a := w.send("GET", path, ""); a.status != status || strings.Contains(a.body, "10.0.0.9") {
					t.Errorf("%s while ready is %v: %d %s", path, ready, a.status, a.body)
				}
			}
		}
		is(true)
		for range 2 {
			gone := time.Now()
			w.counted.cut.Store(true)
			is(false)
			if a := w.post(w.good()); a.status != 503 || a.header.Get("Retry-After") == "" {
				t.Errorf("/token: %d %v %s", a.status, a.header, a.body)
			}
			issues := w.server.checks.Issues()
			want := fmt.Sprintf("the store cannot be reached since %s: ", gone.Add(readyEvery).UTC().Format(time.RFC3339))
			if len(issues) != 1 || !strings.HasPrefix(issues[0], want) || !strings.Contains(issues[0], "connection refused") {
				t.Errorf("issues %q, want %q", issues, want)
			}
			time.Sleep(time.Minute)
			w.counted.cut.Store(false)
			is(true) // no other request told that the store is back
		}
		cancel()
		<-ended
		if log := w.log.String(); strings.Count(log, `"not ready","issues":"the store cannot be reached since`) != 2 || strings.Count(log, `"ready again"`) != 2 {
			t.Error(log)
		}
	})
}

// TestAStoreThatIsAwayIsAskedOnce for a request: it can take its whole deadline to say so, and a client waits.
func TestAStoreThatIsAwayIsAskedOnce(t *testing.T) {
	w := newWorld(t).withAlice()
	w.counted.cut.Store(true)
	defer w.counted.cut.Store(false)
	for path, form := range map[string]string{"/token": "grant_type=client_credentials", "/introspect": "token=x"} {
		before := w.counted.views.Load() + w.counted.updates.Load()
		a := w.send("POST", path, form+"&client_id=billing&client_secret="+w.secret, formHeader)
		if a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		if n := w.counted.views.Load() + w.counted.updates.Load() - before; n != 1 {
			t.Errorf("%s asked the store %d times", path, n)
		}
	}
}
