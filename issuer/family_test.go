package issuer

import (
	"testing"
	"time"
)

// TestTheTableOfAnswers repeats the drawing of verdict row by row.
func TestTheTableOfAnswers(t *testing.T) {
	const grace = 30 * time.Second
	for _, tt := range []struct {
		g, shown uint32
		age      time.Duration
		want     verdict
	}{
		{5, 5, 0, rotates},
		{5, 5, time.Hour, rotates},
		{5, 4, 0, graced},
		{5, 4, -3 * time.Second, graced},
		{5, 4, grace - 1, graced},
		{5, 4, grace, lateRetry}, // the last instant does not belong to it
		{5, 4, time.Hour, lateRetry},
		{5, 3, 0, replayed}, // even inside a grace
		{5, 0, time.Hour, replayed},
		{5, 6, 0, rolledBack},
		{0, 0, 0, rotates},
		{0, 1, 0, rolledBack},
		{1, 0, 0, graced},
	} {
		rec := familyRecord{g: tt.g}
		if got := rec.judge(tt.shown, tt.age, grace); got != tt.want {
			t.Errorf("g %d, shown %d after %v: %d, want %d", tt.g, tt.shown, tt.age, got, tt.want)
		}
	}
	rec := familyRecord{g: 1}
	if got := rec.judge(0, 0, 0); got != lateRetry {
		t.Errorf("without a grace a retry in the same instant is %d", got)
	}
}

func TestAFamilyRefreshesAndAReplayEndsIt(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	first := p.rotate()
	again, err := w.refresh(first)
	if err != nil || again.Refresh != p.grant.Refresh {
		t.Fatalf("within the grace: %v, the same successor: %v", err, again.Refresh == p.grant.Refresh)
	}
	p.rotate()
	_, err = w.refresh(first)
	refused(t, err, "invalid_grant")
	_, err = w.refresh(p.grant.Refresh)
	refused(t, err, "invalid_grant")
	w.restart()
	_, err = w.refresh(p.grant.Refresh)
	refused(t, err, "invalid_grant")
	if s := p.session(); s.State != "revoked" || s.Reason != endings[endedReplay].words || s.Generation != 2 {
		t.Errorf("%+v", s)
	}
}
