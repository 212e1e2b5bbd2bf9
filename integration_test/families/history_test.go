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
	historyHolders  = 3 // goroutines that use the tokens of one family
	maxRefusals     = 6 // refusals of a family until its holders stop
	moreRestarts    = 5 // at most so many times the restarts, until each kind of outcome occurred
)

// TestFamiliesAreLinearizable (I8 to I12): several holders of each family refresh with the newest
// token, sometimes with an older one, or revoke, while the server is killed (SIGKILL) and restarted
// (SIGTERM). A holder without an answer tries again. For every family there must be an order of all
// its requests in which the server, one request at a time, gives the same answers. A request without
// an answer may have been executed or not.
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
			h := &recorder{srv: srv, graced: tt.graced, began: time.Now()}
			h.run(t, counts.Of("history-restarts"))
			h.check(t)
		})
	}
}

// check requires that there is such an order, and that there is none after a fault was seeded.
func (h *recorder) check(t *testing.T) {
	t.Helper()
	for _, family := range impossible(t, h.history, h.graced) {
		t.Errorf("no order of these requests has these answers:\n%s", describe(h.history, family))
	}
	seeded, faults := seedFault(h.history)
	if got := impossible(t, seeded, h.graced); len(got) != faults || faults == 0 {
		t.Errorf("a token was accepted twice in %d families, and the checker found %d", faults, len(got))
	}
	if h.incomplete() {
		t.Errorf("the history proves nothing, because one kind of outcome never occurred: %s", h)
	}
	if !t.Failed() {
		t.Logf("counted: %s; 0 violations; a seeded fault was found in %d of %d families", h, faults, faults)
	}
}

// A recorder records every request with its answer.
type recorder struct {
	srv    *server.Server
	graced bool
	began  time.Time

	mu      sync.Mutex // guards the fields below
	history []porcupine.Operation
	begun   int // number of families so far
	tally   struct{ answered, refused, unknown, revoked, restarts, kills int }
}

func (h *recorder) String() string {
	c := h.tally
	grace := "without a grace"
	if h.graced {
		grace = "with a grace"
	}
	return fmt.Sprintf("%s: %d requests of %d families over %d kills and %d restarts: %d answered, %d refused, %d without an answer, %d revocations",
		grace, len(h.history), h.begun, c.kills, c.restarts, c.answered, c.refused, c.unknown, c.revoked)
}

// incomplete reports whether one kind of outcome never occurred. Several kills in a row may hit the
// server while it handles logins only.
func (h *recorder) incomplete() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.tally
	return c.answered == 0 || c.refused == 0 || c.unknown == 0 || c.revoked == 0
}

// awaitAnswer waits for one more answer. Logins take long on a slow machine.
func (h *recorder) awaitAnswer(t *testing.T) {
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
			t.Fatalf("the server answered no refresh for %v", failsafe)
		}
	}
}

// run starts the clients and ends the server again and again, until each kind of outcome occurred.
func (h *recorder) run(t *testing.T, restarts int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	for range historyFamilies {
		clients.Go(func() {
			for ctx.Err() == nil {
				h.live(ctx, t)
			}
		})
	}
	for n := 0; n < restarts || h.incomplete() && n < moreRestarts*restarts; n++ {
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

// live runs one family: a login, the requests of its holders, and a few more requests after it has
// ended.
func (h *recorder) live(ctx context.Context, t *testing.T) {
	token, err := h.srv.Login(ctx)
	if err != nil {
		time.Sleep(5 * time.Millisecond) // the server does not run
		return
	}
	h.mu.Lock()
	f := &shared{number: h.begun, tokens: []string{token}}
	h.begun++
	h.mu.Unlock()
	var all sync.WaitGroup
	for range historyHolders {
		all.Go(func() {
			for ctx.Err() == nil && !f.done() {
				h.turn(ctx, t, f)
			}
		})
	}
	all.Wait()
}

// shared is what the holders of a family have in common.
type shared struct {
	number int
	alone  sync.Mutex // held during a request that must not overlap with another one that holds it

	mu       sync.Mutex // guards the fields below
	tokens   []string   // generation → token
	refusals int
}

// done reports whether the holders should stop, because the family was refused often enough.
func (f *shared) done() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refusals >= maxRefusals
}

// choose returns the token to present, nearly always the newest one. Without a grace the previous one
// ends the family, so there it is chosen as rarely as an older one.
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

// turn sends one request of one holder.
func (h *recorder) turn(ctx context.Context, t *testing.T, f *shared) {
	// Without a grace two refreshes at once end a family, so most of them hold the lock.
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
		time.Sleep(5 * time.Millisecond) // no server listened, so nothing was executed
		return
	}
	out := h.read(t, f, in, a, err)
	op := porcupine.Operation{Input: in, Output: out, Call: call.Nanoseconds(), Return: end.Nanoseconds()}
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		op.Return = math.MaxInt64 / 2 // the server runs and may still execute it
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.history = append(h.history, op)
	h.count(in, out)
}

func (h *recorder) count(in request, out answer) {
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

// read turns an HTTP answer into an answer of the history. When a kill breaks a connection, the last
// thread of the server has ended before, so the request is over by then.
func (h *recorder) read(t *testing.T, f *shared, in request, a server.Answer, err error) answer {
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

// learn adds a token for all holders and returns its generation.
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
		t.Errorf("family %d: generation %d was returned before generation %d", f.number, n, len(f.tokens))
	case f.tokens[n] != token:
		t.Errorf("family %d: two different tokens of generation %d", f.number, n)
	}
	return generation
}

// describe returns the history of one family as text.
func describe(history []porcupine.Operation, family int) string {
	var list []porcupine.Operation
	for _, op := range history {
		if op.Input.(request).family == family {
			list = append(list, op)
		}
	}
	slices.SortFunc(list, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, op := range list {
		fmt.Fprintf(&b, "%12v to %12v  %v: %v\n", time.Duration(op.Call), time.Duration(op.Return), op.Input, op.Output)
	}
	return b.String()
}
