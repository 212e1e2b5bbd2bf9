package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/keystore"
	"keymill/storage"
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
