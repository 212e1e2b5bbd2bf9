package issuer

import (
	"errors"
	"testing"
	"time"

	"keymill/issuer/refusal"
)

// TestAnOlderRecordThatIsPutBackIsNoticedOnlyWhereSomethingKnowsBetter: the owner of a database can put back the value
// that a single record had before, with its tag. A session is ended by the next token of its holder, because the counter in the
// token is ahead of the record. Nothing is ahead of the record of a user: the old password is valid again.
//
// docs/security.md says both.
func TestAnOlderRecordThatIsPutBackIsNoticedOnlyWhereSomethingKnowsBetter(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", testPassword, "")
	p := w.begin("7")
	before := w.all()
	next := refusal.Secret("another correct horse battery staple")
	if _, err := w.SetPassword(t.Context(), "alice", next, "uid:0"); err != nil {
		t.Fatal(err)
	}
	q := w.begin("7")
	between := w.all()
	q.rotate()
	time.Sleep(time.Millisecond)
	q.rotate()

	// Two rotations of a session.
	family := ""
	for key, v := range between {
		if now, ok := w.all()[key]; ok && key[:min(7, len(key))] == "family/" && string(now) != string(v) {
			family = key
		}
	}
	w.putBelow(family, between[family])
	w.restart()
	var refused *refusal.Refusal
	if _, err := w.refresh(q.grant.Refresh); !errors.As(err, &refused) || refused.Code != "invalid_grant" {
		t.Errorf("a token that is ahead of its session: %v", err)
	}
	w.wantAudited("session.rolled_back", 1)

	// A change of a password.
	w.putBelow("user/7", before["user/7"])
	w.restart()
	if _, err := w.login("alice", testPassword); err != nil {
		t.Errorf("the old password: %v", err)
	}
	if _, err := w.login("alice", next); err == nil {
		t.Error("the new password is still valid, so the record was noticed: say so in docs/security.md")
	}
	if d := w.keys.Damaged(); d != nil {
		t.Errorf("damaged: %v", d)
	}
	if _, err := w.refresh(p.grant.Refresh); err != nil {
		t.Errorf("a session from before the change of the password: %v", err)
	}
}
