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
	stormFamilies = 24 // well under what one user may have at a client
	stormAnswers  = 10 // at least, before a kill
	stormTabs     = 2  // holders of one family, who present the same token at the same time
)

// TestARefreshStormSurvivesKill9: many families rotate as fast as the server lets them,
// each held by two tabs that present the same token at once, and the server is killed in
// the middle of it, again and again on one store. What the tabs know is the judge:
//
//   - a generation that was answered is accepted after the restart: no acknowledged
//     rotation is lost (I8);
//   - every generation has one successor, whoever asked and however often, and one that
//     was used long ago is refused and ends its family (I9);
//   - a tab without an answer retries with what it had and is let in (I12);
//   - no access token has the id of another one (I13).
//
// I8.
func TestARefreshStormSurvivesKill9(t *testing.T) {
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
	// A kill may find no commit whose answer is still on its way, so there can be more of them.
	for ; round < kills || s.unheard == 0 && round < 10*kills; round++ {
		s.rage(t, 50*time.Millisecond+time.Duration(random.IntN(250))*time.Millisecond)
		if err := srv.Start(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		s.retry(t)
		s.replay(t, random.IntN(len(s.families)))
		if t.Failed() {
			t.Fatalf("round %d failed", round)
		}
	}
	t.Logf("counted: %d kills, %d acknowledged rotations, %d requests without an answer, %d rotations that nobody heard of, %d replays refused; "+
		"0 rotations lost, 0 forked families, 0 honest clients logged out",
		round, s.answered.Load(), s.unanswered.Load(), s.unheard, s.replayed)
	if s.answered.Load() < int64(stormAnswers*kills) || s.unheard == 0 || s.replayed == 0 {
		t.Error("the storm was a calm")
	}
}

type storm struct {
	srv                  *server.Server
	families             []*chain
	answered, unanswered atomic.Int64
	unheard              int // rotations that took place although nobody had the answer
	replayed             int

	mu  sync.Mutex
	ids map[string]bool // jti of every access token; owned by mu
}

// rage lets all families rotate and kills the server after a while.
func (s *storm) rage(t *testing.T, after time.Duration) {
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
	await(t, "a storm", func() bool { return s.answered.Load() >= before+stormAnswers })
	s.srv.Kill()
	cancel()
	wg.Wait()
}

// tabs presents the newest token of a family in every tab. It is false when a tab had no
// answer. The tabs do not end with the storm's context: an answer on its way is read.
func (s *storm) tabs(t *testing.T, c *chain) bool {
	from, token := c.newest()
	var wg sync.WaitGroup
	var silent atomic.Bool
	for range stormTabs {
		wg.Go(func() {
			a, err := s.srv.Refresh(context.WithoutCancel(t.Context()), server.Web, token)
			if err != nil || a.Status == http.StatusServiceUnavailable {
				s.unanswered.Add(1)
				silent.Store(true)
				return
			}
			s.judge(t, c, from, a)
		})
	}
	wg.Wait()
	return !silent.Load()
}

func (s *storm) judge(t *testing.T, c *chain, from uint32, a server.Answer) {
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
		t.Errorf("the id %q of an access token is empty or not its first", id)
	}
	s.ids[id] = true
}

// retry presents, after the restart, what each family's tabs had last.
func (s *storm) retry(t *testing.T) {
	t.Helper()
	stands := standing(t, s.srv)
	for _, c := range s.families {
		switch heard, _ := c.newest(); stands[c.family()] {
		case heard:
		case heard + 1:
			s.unheard++
		default:
			t.Errorf("generation %d was acknowledged, the server stands at %d", heard, stands[c.family()])
		}
		if !s.tabs(t, c) {
			t.Error("no answer from a server that nobody has killed")
		}
	}
}

// replay presents a generation that was used long ago. The family ends, and so another
// one takes its place.
func (s *storm) replay(t *testing.T, n int) {
	t.Helper()
	c := s.families[n]
	last, newest := c.newest()
	if last < 2 {
		return
	}
	for _, token := range []string{c.tokens[rand.IntN(int(last-1))], newest} {
		wantGone(t, s.srv, token)
	}
	s.replayed++
	s.families = slices.Replace(s.families, n, n+1, login(t, s.srv))
}

// wantGone presents a token of a family that has ended, or that is to end by it.
func wantGone(t *testing.T, srv *server.Server, token string) {
	t.Helper()
	a, err := srv.Refresh(t.Context(), server.Web, token)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != http.StatusBadRequest || a.Field("error") != "invalid_grant" {
		t.Errorf("a token of an ended family: %s", a)
	}
}

// TestAReplayOutlivesKill9 (I10): the answer to a replay is the last thing that a server
// says. After the restart the family is dead, for its newest token as well.
func TestAReplayOutlivesKill9(t *testing.T) {
	srv := server.Start(t, server.Options{Config: server.WebConfig})
	srv.AddWeb(t)
	kills := counts.Of("replay-kills")
	for range kills {
		c := login(t, srv)
		rotate(t, srv, c, 3)
		wantGone(t, srv, c.tokens[0])
		srv.Kill()
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		for _, token := range slices.Backward(c.tokens) {
			wantGone(t, srv, token)
		}
	}
	if !t.Failed() {
		t.Logf("counted: %d replays followed by kill -9, 0 families came back", kills)
	}
}
