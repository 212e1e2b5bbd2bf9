package endpoint

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"keymill/issuer/endpoint/limit"
	"keymill/storage"
)

// stored returns the records below the tags that keys selects.
func (w *world) stored(keys func(string) bool) map[string][]byte {
	w.t.Helper()
	found := map[string][]byte{}
	if err := w.file.View(w.t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan(" ", "\x7f") {
			if err != nil {
				return err
			}
			if keys(e.Key) {
				found[e.Key] = bytes.Clone(e.Value)
			}
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return found
}

// putBelow writes records below the tags; nil deletes one.
func (w *world) putBelow(records map[string][]byte) {
	w.t.Helper()
	if err := w.file.Update(w.t.Context(), func(tx storage.Tx) error {
		for key, value := range records {
			err := tx.Put(key, value)
			if value == nil {
				err = tx.Delete(key)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

// loginKeyOf returns the key of the record that leads to a user.
func (w *world) loginKeyOf(id string) (key string) {
	for k, v := range w.stored(func(key string) bool { return len(key) > 6 && key[:6] == "login/" }) {
		if string(v[:len(id)]) == id {
			key = k
		}
	}
	return key
}

func oneBit(stored []byte) []byte {
	broken := bytes.Clone(stored)
	broken[len(broken)/3] ^= 4
	return broken
}

// saysNoDetail fails unless an answer is the one of http.md for a damaged record: it neither names the record
// nor says that a retry helps.
func (w *world) saysNoDetail(what string, a answer) {
	w.t.Helper()
	switch a.body {
	case `{"error":"server_error","error_description":"the server cannot do this until its operator has repaired it, see the server's log"}`:
	case `{"detail":"the server cannot do this until its operator has repaired it, see the server's log"}`:
	case "": // HEAD
	default:
		w.t.Errorf("%s: the answer is %s", what, a.body)
	}
	if a.header.Get("Retry-After") != "" || a.header.Get("Set-Cookie") != "" || a.header.Get("Cache-Control") != "no-store" {
		w.t.Errorf("%s: the headers are %v", what, a.header)
	}
}

// TestADamagedUserFollowsTheLimitsOfAWrongPassword: a login with the name gets 503, with any password, as
// often as others get 401, and 429 after that. Other users still log in from the same address.
//
// R98, I23.
func TestADamagedUserFollowsTheLimitsOfAWrongPassword(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.withAlice()
		w.user("bob", "8")
		w.user("carol", "9")
		for _, key := range []string{"user/8", w.loginKeyOf("9")} {
			w.putBelow(map[string][]byte{key: oneBit(w.stored(func(k string) bool { return k == key })[key])})
		}
		w.postJSON("/session/login", credentials("bob", alicesPassword))
		want(t, "the log", w.logged(), "msg=request_of_failed level=WARN status=503 client=web user=8 reason=damaged")
		for _, tt := range []struct{ path, name, password string }{
			{"/api/token/", "bob", alicesPassword}, {"/session/login", "bob", "wrong"}, {"/session/login", "carol", alicesPassword},
		} {
			w.server.passwords = limit.NewPasswordLimiter(time.Now())
			for n := range limit.AccountFailures + 1 {
				want := http.StatusServiceUnavailable
				if n == limit.AccountFailures {
					want = http.StatusTooManyRequests
				}
				a := w.postJSON(tt.path, credentials(tt.name, tt.password))
				if a.status != want {
					t.Errorf("login %d of %s: got %d %s, want %d", n+1, tt.name, a.status, a.body, want)
				}
				if a.status == http.StatusServiceUnavailable {
					w.saysNoDetail(tt.name, a)
				}
			}
			if a := w.postJSON(tt.path, credentials("alice", alicesPassword)); a.status != 200 {
				t.Errorf("another user got %d %s", a.status, a.body)
			}
		}
		if got := w.server.refused.Take(); got["damaged"] != 3*limit.AccountFailures+1 {
			t.Errorf("counted for the audit log: %v", got)
		}
	})
}
