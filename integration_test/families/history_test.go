package families

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

const (
	historyFamilies = 8 // at a time
	historyHolders  = 3 // of each
	lastWords       = 6 // requests to a family that is known to be dead
	patience        = 5 // times the restarts that are asked for, until something happened
)

// TestFamiliesAreLinearizable (I8 to I12): several holders of each family refresh with what
// they have, now and then with what they had, or revoke, while the server is killed
// (SIGKILL) and restarted (SIGTERM). Who has no answer tries again. For every family
// there is an order of all its requests in which one at a time would have been answered
// the same, whatever became of those without an answer.
func TestFamiliesAreLinearizable(t *testing.T) {
	for _, tt := range []struct {
		name, grace string
		graced      bool
	}{
		{"with a grace", "10m", true},
		{"without a grace", "0s", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := server.Start(t, server.Options{Config: server.WebConfig})
			srv.AddWeb(t)
			srv.Run(t, "client", "set", server.Web, "--grace", tt.grace)
			h := &historian{srv: srv, graced: tt.graced, began: time.Now()}
			h.run(t, counts.Of("history-restarts"))
			h.judge(t)
		})
	}
}

// judge looks for an order, and for none once a fault is seeded.
func (h *historian) judge(t *testing.T) {
	t.Helper()
	for _, family := range judge(t, h.history, h.graced) {
		t.Errorf("nobody can have seen this:\n%s", tell(h.history, family))
	}
	seeded, guilty := seedFault(h.history)
	if got := judge(t, seeded, h.graced); len(got) != guilty || guilty == 0 {
		t.Errorf("a token accepted twice in %d families was seen in %d", guilty, len(got))
	}
	if h.dull() {
		t.Errorf("the history is too dull to prove anything: %s", h)
	}
	if !t.Failed() {
		t.Logf("counted: %s; 0 violations; a seeded fault was seen in %d of %d families", h, guilty, guilty)
	}
}

// A historian notes who asked what, and what came back.
type historian struct {
	srv    *server.Server
	graced bool
	began  time.Time

	mu      sync.Mutex // guards what follows
	history []porcupine.Operation
	born    int // families
	tally   struct{ answered, refused, unknown, revoked, restarts, kills int }
}

func (h *historian) String() string {
	c := h.tally
	grace := "without a grace"
	if h.graced {
		grace = "with a grace"
	}
	return fmt.Sprintf("%s: %d requests of %d families over %d kills and %d restarts: %d answered, %d refused, %d without an answer, %d revocations",
		grace, len(h.history), h.born, c.kills, c.restarts, c.answered, c.refused, c.unknown, c.revoked)
}

// dull says whether some kind of outcome never came: a kill may find the server with
// nothing but logins in its hands, several times in a row.
func (h *historian) dull() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.tally
	return c.answered == 0 || c.refused == 0 || c.unknown == 0 || c.revoked == 0
}

// awaitAnswer waits for one more answer, however long a login takes here.
func (h *historian) awaitAnswer(t *testing.T) {
	t.Helper()
	answered := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.tally.answered
	}
	const failsafe = 5 * time.Minute
	before := answered()
	for end := time.Now().Add(failsafe); answered() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nobody was answered for %v", failsafe)
		}
	}
}

// run lets everybody loose and ends the server again and again, until there is something
// to judge.
func (h *historian) run(t *testing.T, restarts int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var everybody sync.WaitGroup
	defer everybody.Wait()
	defer stop()
	for range historyFamilies {
		everybody.Go(func() {
			for ctx.Err() == nil {
				h.live(ctx, t)
			}
		})
	}
	for n := 0; n < restarts || h.dull() && n < patience*restarts; n++ {
		time.Sleep(200*time.Millisecond + rand.N(400*time.Millisecond))
		h.awaitAnswer(t)
		if n%2 == 0 {
			h.srv.Kill()
			h.tally.kills++
		} else if err := h.srv.Stop(); err != nil {
			t.Errorf("SIGTERM: %v", err)
		} else {
			h.tally.restarts++
		}
		if err := h.srv.Start(); err != nil {
			t.Error(err)
			return
		}
	}
	time.Sleep(200 * time.Millisecond)
}

// live is the life of one family: a login, what its holders do, and a few requests more
// when it is dead.
func (h *historian) live(ctx context.Context, t *testing.T) {
	token, err := h.srv.Login(ctx)
	if err != nil {
		time.Sleep(5 * time.Millisecond) // the server is away
		return
	}
	h.mu.Lock()
	f := &shared{number: h.born, tokens: []string{token}}
	h.born++
	h.mu.Unlock()
	var all sync.WaitGroup
	for range historyHolders {
		all.Go(func() {
			for ctx.Err() == nil && f.alive() {
				h.turn(ctx, t, f)
			}
		})
	}
	all.Wait()
}

// shared is what the holders of a family tell each other.
type shared struct {
	number int
	alone  sync.Mutex // held by who wants nobody beside him

	mu       sync.Mutex
	tokens   []string // generation → token
	refusals int
}

func (f *shared) alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refusals < lastWords
}

// choose picks what to present: nearly always the newest token. The one before it is the
// end of a family without a grace, so there it comes up as seldom as an old one.
func (f *shared) choose(graced bool) (generation uint32, token string) {
	behind := 2
	if graced {
		behind = 20
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.tokens) - 1
	switch dice := rand.IntN(200); {
	case dice < 1:
		n = rand.IntN(n + 1)
	case dice < behind:
		n = max(0, n-1)
	}
	return uint32(n), f.tokens[n]
}

// turn is one request of one holder.
func (h *historian) turn(ctx context.Context, t *testing.T, f *shared) {
	// Without a grace two at once are the end of a family, so most go alone.
	if rand.IntN(10) < 4 || !h.graced && rand.IntN(40) > 0 {
		f.alone.Lock()
		defer f.alone.Unlock()
	}
	generation, token := f.choose(h.graced)
	in := request{family: f.number, generation: generation, revoke: rand.IntN(100) == 0}
	call := time.Since(h.began)
	ask := h.srv.Refresh
	if in.revoke {
		ask = h.srv.Revoke
	}
	a, err := ask(context.WithoutCancel(ctx), server.Web, token)
	end := time.Since(h.began)
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		time.Sleep(5 * time.Millisecond) // nobody was there, so nothing happened
		return
	}
	out := h.read(t, f, in, a, err)
	op := porcupine.Operation{Input: in, Output: out, Call: call.Nanoseconds(), Return: end.Nanoseconds()}
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		op.Return = math.MaxInt64 / 2 // the server lives and may still do it
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.history = append(h.history, op)
	h.count(in, out)
}

func (h *historian) count(in request, out answer) {
	switch {
	case out.kind == unknown:
		h.tally.unknown++
	case in.revoke:
		h.tally.revoked++
	case out.kind == answered:
		h.tally.answered++
	default:
		h.tally.refused++
	}
}

// read makes an answer of what came back. A connection that breaks because the server was
// killed breaks after its last thread is gone, so the request is over by then.
func (h *historian) read(t *testing.T, f *shared, in request, a server.Answer, err error) answer {
	switch {
	case err != nil || a.Status == http.StatusServiceUnavailable:
		return answer{kind: unknown}
	case a.Status == http.StatusOK && in.revoke:
		return answer{kind: answered}
	case a.Status == http.StatusOK:
		return answer{answered, f.learn(t, a.Field("refresh_token"))}
	case a.Status == http.StatusBadRequest && a.Field("error") == "invalid_grant" && !in.revoke:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.refusals++
		return answer{kind: refused}
	}
	t.Errorf("%v was answered %s", in, a)
	return answer{kind: unknown}
}

// learn tells everybody about a token and returns its generation.
func (f *shared) learn(t *testing.T, token string) uint32 {
	_, generation, err := server.ReadToken(token)
	if err != nil {
		t.Error(err)
		return math.MaxUint32
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch n := int(generation); {
	case n == len(f.tokens):
		f.tokens = append(f.tokens, token)
	case n > len(f.tokens):
		t.Errorf("family %d: generation %d came before generation %d", f.number, n, len(f.tokens))
	case f.tokens[n] != token:
		t.Errorf("family %d: two different tokens of generation %d", f.number, n)
	}
	return generation
}

// tell writes down the history of one family.
func tell(history []porcupine.Operation, family int) string {
	var mine []porcupine.Operation
	for _, op := range history {
		if op.Input.(request).family == family {
			mine = append(mine, op)
		}
	}
	slices.SortFunc(mine, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, op := range mine {
		fmt.Fprintf(&b, "%12v to %12v  %v: %v\n", time.Duration(op.Call), time.Duration(op.Return), op.Input, op.Output)
	}
	return b.String()
}
