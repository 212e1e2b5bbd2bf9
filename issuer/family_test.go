package issuer

import (
	"testing"
	"time"
)

// The table repeats the drawing of tokenState, row by row.
func TestClassifyMatchesTheDrawing(t *testing.T) {
	const grace = 30 * time.Second
	for _, tt := range []struct {
		g, shown uint32
		age      time.Duration
		want     tokenState
	}{
		{5, 5, 0, tokenCurrent},
		{5, 5, time.Hour, tokenCurrent},
		{5, 4, 0, tokenInGrace},
		{5, 4, -3 * time.Second, tokenInGrace},
		{5, 4, grace - 1, tokenInGrace},
		{5, 4, grace, tokenLate}, // the last instant does not belong to it
		{5, 4, time.Hour, tokenLate},
		{5, 3, 0, tokenReplayed}, // even inside a grace
		{5, 0, time.Hour, tokenReplayed},
		{5, 6, 0, tokenRolledBack},
		{0, 0, 0, tokenCurrent},
		{0, 1, 0, tokenRolledBack},
		{1, 0, 0, tokenInGrace},
	} {
		rec := familyRecord{generation: tt.g}
		if got := rec.classify(tt.shown, tt.age, grace); got != tt.want {
			t.Errorf("g %d, shown %d after %v: %d, want %d", tt.g, tt.shown, tt.age, got, tt.want)
		}
	}
	rec := familyRecord{generation: 1}
	if got := rec.classify(0, 0, 0); got != tokenLate {
		t.Errorf("without a grace, a retry at the same instant is %d", got)
	}
}

func TestASessionRefreshesAndAReplayEndsIt(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	p := w.begin("7")
	first := p.rotate()
	again, err := w.refresh(first)
	if err != nil || again.Refresh != p.grant.Refresh {
		t.Fatalf("within the grace: got %v, the same successor: %v", err, again.Refresh == p.grant.Refresh)
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
		t.Errorf("the session is %+v, want one of generation 2 that a replay ended", s)
	}
}
