package crash

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

const (
	stormFamilies = 24 // fewer than the limit of one user at one client
	stormAnswers  = 10 // least number of answers before a kill
	stormTabs     = 2  // tabs that present the same token at the same time
)

// TestRefreshesSurviveKill9: many families refresh without a pause, each in two tabs that present the
// same token at once. The server is killed in the middle, many times with the same store. Then the
// test compares what the tabs know with what the server does:
//
//   - A generation that was answered is accepted after the restart. No acknowledged refresh is lost
//     (I8).
//   - Every generation has one successor, in every tab and at every retry. One that was used long
//     ago is refused and ends its family (I9).
//   - A tab without an answer retries with the same token and succeeds (I12).
//   - No two access tokens have the same id (I13).
//
// I8.
func TestRefreshesSurviveKill9(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	srv := server.Start(t, server.Options{Config: server.WebConfig})
	srv.AddWeb(t)
	s := &storm{srv: srv, ids: map[string]bool{}}
	for range stormFamilies {
		s.families = append(s.families, login(t, srv))
	}
	kills := counts.Of("kill9-storms")
	round := 0
	// A kill may hit no refresh between its commit and its answer. Then more kills follow.
	for ; round < kills || s.unheard == 0 && round < 10*kills; round++ {
		s.killDuringRefreshes(t, 50*time.Millisecond+time.Duration(random.IntN(250))*time.Millisecond)
		if err := srv.Start(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		s.retry(t)
		s.replay(t, random.IntN(len(s.families)))
		if t.Failed() {
			t.Fatalf("round %d failed", round)
		}
	}
	t.Logf("counted: %d kills, %d acknowledged rotations, %d requests without an answer, %d committed rotations whose answer was lost, %d replays refused; "+
		"0 rotations lost, 0 tokens with two successors, 0 honest clients logged out",
		round, s.answered.Load(), s.unanswered.Load(), s.unheard, s.replayed)
	if s.answered.Load() < int64(stormAnswers*kills) || s.unheard == 0 || s.replayed == 0 {
		t.Error("the test saw too little: too few answers, no refresh without an answer, or no replay")
	}
}

// A storm is many families that refresh at once, and what their tabs were answered.
type storm struct {
	srv                  *server.Server
	families             []*chain
	answered, unanswered atomic.Int64
	unheard              int // rotations that were committed although no tab got the answer
	replayed             int

	mu  sync.Mutex
	ids map[string]bool // jti of every access token; guarded by mu
}

// killDuringRefreshes refreshes all families and kills the server after a while.
func (s *storm) killDuringRefreshes(t *testing.T, after time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	before := s.answered.Load()
	var wg sync.WaitGroup
	for _, c := range s.families {
		wg.Go(func() {
			for ctx.Err() == nil && s.tabs(t, c) {
			}
		})
	}
	time.Sleep(after)
	await(t, "enough answers before the kill", func() bool { return s.answered.Load() >= before+stormAnswers })
	s.srv.Kill()
	cancel()
	wg.Wait()
}

// tabs presents the newest token of a family in every tab at once. It returns false if a tab got no
// answer. The requests do not end with the storm's context, so that an answer that is under way is
// still read.
func (s *storm) tabs(t *testing.T, c *chain) bool {
	from, token := c.newest()
	var wg sync.WaitGroup
	var lost atomic.Bool
	for range stormTabs {
		wg.Go(func() {
			a, err := s.srv.Refresh(context.WithoutCancel(t.Context()), server.Web, token)
			if err != nil || a.Status == http.StatusServiceUnavailable {
				s.unanswered.Add(1)
				lost.Store(true)
				return
			}
			s.checkAnswer(t, c, from, a)
		})
	}
	wg.Wait()
	return !lost.Load()
}

// checkAnswer checks the answer to a refresh that the tab was allowed to make.
func (s *storm) checkAnswer(t *testing.T, c *chain, from uint32, a server.Answer) {
	t.Helper()
	if a.Status != http.StatusOK {
		t.Errorf("an honest client was logged out with generation %d: %s", from, a)
		return
	}
	s.answered.Add(1)
	if err := c.note(from, a.Field("refresh_token")); err != nil {
		t.Error(err)
	}
	id := jtiOf(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == "" || s.ids[id] {
		t.Errorf("the id %q of an access token is empty or was used before", id)
	}
	s.ids[id] = true
}

// retry presents, after the restart, the newest token that the tabs of each family know.
func (s *storm) retry(t *testing.T) {
	t.Helper()
	current := generations(t, s.srv)
	for _, c := range s.families {
		switch known, _ := c.newest(); current[c.family()] {
		case known:
		case known + 1:
			s.unheard++
		default:
			t.Errorf("generation %d was acknowledged, the server has generation %d", known, current[c.family()])
		}
		if !s.tabs(t, c) {
			t.Error("a running server did not answer a refresh")
		}
	}
}

// replay presents a generation that was used long ago. That ends the family, and a new one takes its
// place.
func (s *storm) replay(t *testing.T, n int) {
	t.Helper()
	c := s.families[n]
	last, newest := c.newest()
	if last < 2 {
		return
	}
	for _, token := range []string{c.tokens[rand.IntN(int(last-1))], newest} {
		wantEnded(t, s.srv, token)
	}
	s.replayed++
	s.families = slices.Replace(s.families, n, n+1, login(t, s.srv))
}

// wantEnded presents a token and requires the answer of a family that has ended.
func wantEnded(t *testing.T, srv *server.Server, token string) {
	t.Helper()
	a, err := srv.Refresh(t.Context(), server.Web, token)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != http.StatusBadRequest || a.Field("error") != "invalid_grant" {
		t.Errorf("a token of an ended family was answered %s, want invalid_grant", a)
	}
}

// TestAReplayedFamilyStaysEndedAfterKill9 (I10): the server is killed immediately after its answer to
// a replay. After the restart it refuses every token of the family, also the newest one.
func TestAReplayedFamilyStaysEndedAfterKill9(t *testing.T) {
	srv := server.Start(t, server.Options{Config: server.WebConfig})
	srv.AddWeb(t)
	kills := counts.Of("replay-kills")
	for range kills {
		c := login(t, srv)
		rotate(t, srv, c, 3)
		wantEnded(t, srv, c.tokens[0])
		srv.Kill()
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		for _, token := range slices.Backward(c.tokens) {
			wantEnded(t, srv, token)
		}
	}
	if !t.Failed() {
		t.Logf("counted: %d replays followed by kill -9, 0 families live again", kills)
	}
}
