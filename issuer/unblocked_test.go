package issuer

import (
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/record"
	"keymill/issuer/unblocked"
	"keymill/storage"
)

// TestEveryServerHearsThatAUserWasUnblocked before it counts the next attempt, and hears nothing of it once no failure
// from before can count. Then no record is left.
func TestEveryServerHearsThatAUserWasUnblocked(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		b := a.another()
		a.user("alice", "7")
		before := must[LoginCount](t)(b.LoginCount(t.Context(), "alice", home))
		if !before.Unblocked.IsZero() || UserOfCountKey(before.Key) != "7" {
			t.Fatalf("before: %+v", before)
		}
		must[any](t)(a.UnblockUser(t.Context(), "alice", "test"))
		time.Sleep(20 * time.Minute)
		for _, i := range []*Issuer{a.Issuer, b} {
			count := must[LoginCount](t)(i.LoginCount(t.Context(), "alice", home))
			if count.Key != before.Key || count.Ago < 20*time.Minute || count.Ago > 21*time.Minute || count.Unblocked.IsZero() {
				t.Errorf("after 20 minutes: %+v", count)
			}
		}
		first := must[LoginCount](t)(b.LoginCountOf(t.Context(), "7")).Unblocked
		must[any](t)(a.UnblockUser(t.Context(), "alice", "test"))
		if again := must[LoginCount](t)(b.LoginCountOf(t.Context(), "7")); !again.Unblocked.After(first) || again.Ago > time.Minute {
			t.Errorf("unblocked again: %+v, the first time was %v", again, first)
		}
		// The decision time of another server may be earlier.
		behind := must[LoginCount](t)(b.LoginCountOf(t.Context(), "7")).Unblocked
		if err := a.store.Update(t.Context(), func(tx storage.Tx) error { return unblocked.Put(tx, "7", behind.Add(-time.Second)) }); err != nil {
			t.Fatal(err)
		}
		if third := must[LoginCount](t)(b.LoginCountOf(t.Context(), "7")).Unblocked; !third.After(behind) {
			t.Errorf("unblocked at a server that is behind: %v, the time before was %v", third, behind)
		}
		time.Sleep(unblocked.KeepFor + time.Minute)
		synctest.Wait()
		if n := a.records("unblocked/"); n != 0 {
			t.Errorf("%d records are left", n)
		}
		if last := must[LoginCount](t)(b.LoginCount(t.Context(), "alice", home)); last != before {
			t.Errorf("long after: %+v", last)
		}
	})
}

// TestTheNextUserWithAnIDIsCountedApart, so that no server takes the addresses of the first one for known ones.
func TestTheNextUserWithAnIDIsCountedApart(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		a.user("alice", "7")
		must[any](t)(a.UnblockUser(t.Context(), "alice", "test"))
		first := must[LoginCount](t)(a.LoginCountOf(t.Context(), "7"))
		if err := a.RemoveUser(t.Context(), "alice", "test"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		a.user("alice", "7")
		if next := must[LoginCount](t)(a.LoginCountOf(t.Context(), "7")); next.Key == first.Key || !next.Unblocked.IsZero() {
			t.Errorf("the first user is counted as %+v, and the next as %+v", first, next)
		}
	})
}

// TestADamagedUnblockingKeepsNoUserOut: the failures stay counted, and a login works.
func TestADamagedUnblockingKeepsNoUserOut(t *testing.T) {
	w := newWorld(t)
	w.user("alice", "7")
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error { return record.PutJSON(tx, unblocked.Key("7"), unblocked.Record{}) }); err != nil {
		t.Fatal(err)
	}
	if count, err := w.LoginCountOf(t.Context(), "7"); err != nil || !count.Unblocked.IsZero() || UserOfCountKey(count.Key) != "7" {
		t.Errorf("%+v, %v", count, err)
	}
}
