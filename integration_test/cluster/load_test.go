package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// sessions is how many clients refresh all the time.
const sessions = 8

// A load is clients that refresh through nginx until it ends.
type load struct {
	*world
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	seen     sight    // since the last call of since; owned by mu, as are the others
	problems []string // what must never happen
}

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

// begin logs the clients in and lets them refresh until the test ends. Then the last token of each one must refresh.
func (w *world) begin(t *testing.T) *load {
	t.Helper()
	l := &load{world: w}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for range sessions {
		token, err := w.login(ctx)
		if err != nil {
			t.Fatal(err)
		}
		l.done.Go(func() { l.session(ctx, token) })
	}
	t.Cleanup(func() {
		cancel()
		l.done.Wait()
		l.check(t)
	})
	return l
}

// session refreshes one session. Only requests that are not under way yet end with ctx.
func (l *load) session(ctx context.Context, token string) {
	end := context.WithoutCancel(ctx)
	for last := false; !last; time.Sleep(10 * time.Millisecond) {
		last = ctx.Err() != nil
		var g grant
		tries, took, err := retry(end, func() (err error) {
			g, err = l.refresh(end, nginx, token)
			return err
		})
		if err != nil {
			l.problem("a token that was acknowledged does not refresh: %v", err)
			return
		}
		if _, err := l.verify.Verify(end, g.Access); err != nil {
			l.problem("a new access token does not verify: %v", err)
		}
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
	want := l.seen.refreshes + 2*sessions
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
