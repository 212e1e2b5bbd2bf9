package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sessions is how many clients refresh all the time.
const sessions = 8

// A load is clients that refresh until it ends.
type load struct {
	*world
	clients int
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu       sync.Mutex
	seen     sight             // since the last call of since; owned by mu, as are the others
	problems []string          // what must never happen
	signed   map[string]signed // kid → the last access token that it signed
	revoked  string            // the kid whose tokens a service may refuse, or ""
}

// A signed is one access token.
type signed struct {
	asked  time.Time // when its request was sent
	issued time.Time // by the clock of the node that signed it
}

// A way to refresh sends a token. try counts from 0.
type refresher func(ctx context.Context, try int, token string) (grant, error)

// A sight is what the clients saw of a fault.
type sight struct {
	refreshes int
	repeated  int           // refreshes that were sent more than once
	most      int           // times that one of them was sent
	longest   time.Duration // that one of them took
}

func (s sight) String() string {
	return fmt.Sprintf("%d refreshes, %d sent again, at most %d times, the longest took %s", s.refreshes, s.repeated, s.most, s.longest.Round(time.Millisecond))
}

// begin lets clients refresh through nginx until the test ends. Then the last token of each one must refresh.
func (w *world) begin(t *testing.T) *load {
	t.Helper()
	through := func(ctx context.Context, _ int, token string) (grant, error) { return w.refresh(ctx, nginx, token) }
	return w.beginWith(t, slices.Repeat([]refresher{through}, sessions))
}

// beginWith is begin with a client for each way to refresh.
func (w *world) beginWith(t *testing.T, all []refresher) *load {
	t.Helper()
	l := &load{world: w, clients: len(all), signed: map[string]signed{}}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for _, r := range all {
		token := w.tokenOf(t)
		l.done.Go(func() { l.session(ctx, r, token) })
	}
	t.Cleanup(func() {
		cancel()
		l.done.Wait()
		l.check(t)
	})
	return l
}

// session refreshes one session. Only requests that are not under way yet end with ctx.
func (l *load) session(ctx context.Context, send refresher, token string) {
	end := context.WithoutCancel(ctx)
	for last := false; !last; time.Sleep(10 * time.Millisecond) {
		last = ctx.Err() != nil
		var g grant
		var sent time.Time
		tries, took, err := retry(end, func(try int) (err error) {
			sent = time.Now()
			g, err = send(end, try, token)
			return err
		})
		if err != nil {
			l.problem("a token that was acknowledged does not refresh: %v", err)
			return
		}
		l.verified(end, g.Access, sent)
		token = g.Refresh
		l.mu.Lock()
		l.seen.refreshes++
		if tries > 1 {
			l.seen.repeated++
		}
		l.seen.most, l.seen.longest = max(l.seen.most, tries), max(l.seen.longest, took)
		l.mu.Unlock()
	}
}

// verified verifies an access token as a service does.
func (l *load) verified(ctx context.Context, token string, sent time.Time) {
	_, err := l.verify.Verify(ctx, token)
	kid, issued, broken := parts(token)
	l.mu.Lock()
	expected := l.revoked == kid
	at := l.signed[kid]
	at.asked = later(at.asked, sent)
	at.issued = later(at.issued, issued)
	l.signed[kid] = at
	l.mu.Unlock()
	if err != nil && !expected || broken != nil {
		l.problem("a new access token does not verify: %v %v", err, broken)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lastOf returns what the load saw of a key.
func (l *load) lastOf(kid string) signed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signed[kid]
}

// revoke says that services may refuse tokens of a key from now on.
func (l *load) revoke(kid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revoked = kid
}

func (l *load) problem(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// check fails the test with what must never happen.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.problems) > 0 {
		t.Errorf("%d problems:\n%s", len(l.problems), strings.Join(l.problems[:min(len(l.problems), 10)], "\n"))
	}
	l.problems = nil
}

// since returns what the clients saw since the last call.
func (l *load) since() sight {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seen
	l.seen = sight{}
	return seen
}

// during runs a fault, waits until the clients refresh again, and returns what they saw.
func (l *load) during(t *testing.T, fault func()) sight {
	t.Helper()
	l.since()
	fault()
	l.settle(t)
	seen := l.since()
	t.Logf("counted: %s", seen)
	l.check(t)
	return seen
}

// settle waits until each client can have refreshed twice again.
func (l *load) settle(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	want := l.seen.refreshes + 2*l.clients
	l.mu.Unlock()
	for end := time.Now().Add(failsafe); ; time.Sleep(20 * time.Millisecond) {
		l.mu.Lock()
		now := l.seen.refreshes
		l.mu.Unlock()
		if now >= want {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the clients do not refresh again")
		}
	}
}
