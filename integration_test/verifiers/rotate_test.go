package verifiers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// Keys that rotate every few seconds. The caches of the services live as long as
// max-age allows and no longer.
const (
	rotateEvery = 12 * time.Second
	maxAge      = time.Second
	tokenTTL    = 6 * time.Second
	fast        = "keys:\n  rotate_every: 12s\n  propagation: 6s\njwks:\n  max_age: 1s"
)

// TestRotationNeverFailsAVerifier: keys of both rings rotate under load, and no
// service ever refuses a live token: neither one just made nor one whose key has
// stopped signing since.
func TestRotationNeverFailsAVerifier(t *testing.T) {
	srv, clients := issuer(t, fast, tokenTTL.String())
	crowds := map[string]*crowd{} // algorithm → the services that take it
	for _, alg := range both {
		crowds[alg] = &crowd{srv: srv, client: clients[alg], audience: audienceOf(alg)}
	}
	for _, s := range services(t, srv, maxAge) {
		crowds[s.alg].tallies = append(crowds[s.alg].tallies, &tally{service: s, kids: map[string]bool{}})
	}
	rotations, tokens := counts.Of("verifier-rotations"), counts.Of("verifier-tokens")
	limit := time.Duration(10*rotations+60) * rotateEvery // bounds a hang
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()

	var wg sync.WaitGroup
	for _, c := range crowds {
		for range 2 {
			wg.Go(func() { c.run(ctx) })
		}
	}
	for ctx.Err() == nil && !enough(crowds, rotations, tokens) {
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	wg.Wait()

	for _, c := range crowds {
		if c.failed.Load() > 0 {
			t.Errorf("the issuer failed: %s", c.first())
		}
		for _, l := range c.tallies {
			l.report(t)
		}
	}
	if !enough(crowds, rotations, tokens) {
		t.Errorf("after %v: want %d rotations and %d tokens for each service", limit, rotations, tokens)
	}
}

func enough(crowds map[string]*crowd, rotations, tokens int) bool {
	for _, c := range crowds {
		for _, l := range c.tallies {
			if l.rotations() < rotations || l.verified.Load() < int64(tokens) {
				return false
			}
		}
	}
	return true
}

// A crowd is all services of one algorithm. They are shown the same tokens: the issuer
// then signs as often as one of them verifies, and the time of two cores goes to those
// that are to be tested.
type crowd struct {
	srv      *server.Server
	client   server.Client
	audience string
	tallies  []*tally
	trouble  // with the issuer
}

// run goes on until ctx ends; what it has begun by then it ends, and counts. Every tenth
// token is kept and shown again when it is half as old as it can get: some of those
// outlive the reign of their key.
func (c *crowd) run(ctx context.Context) {
	var pocket []live
	whole := context.WithoutCancel(ctx)
	for n := 0; ctx.Err() == nil; n++ {
		asked := time.Now()
		token, err := c.srv.Token(whole, c.client, c.audience)
		if err != nil {
			c.fail(fmt.Errorf("no token: %w", err))
			continue
		}
		fresh := live{token, asked}
		c.show(whole, fresh, func(l *tally) *atomic.Int64 { return &l.verified })
		if n%10 == 0 {
			pocket = append(pocket, fresh)
		}
		for len(pocket) > 0 && time.Since(pocket[0].asked) > tokenTTL/2 {
			c.show(whole, pocket[0], func(l *tally) *atomic.Int64 { return &l.again })
			pocket = pocket[1:]
		}
	}
}

// A live token is good for tokenTTL since it was asked for, but for the second that exp
// is rounded by.
type live struct {
	token string
	asked time.Time
}

func (v live) over() bool { return time.Since(v.asked) > tokenTTL-time.Second }

// show asks all services at once, so that the slowest decides how long it takes and
// none of them ever sees a token late because of another.
func (c *crowd) show(ctx context.Context, token live, counter func(*tally) *atomic.Int64) {
	var wg sync.WaitGroup
	for _, l := range c.tallies {
		wg.Go(func() { l.show(ctx, token, counter(l)) })
	}
	wg.Wait()
}

// A tally is what one service has done.
type tally struct {
	service               service
	verified, again, late atomic.Int64
	trouble

	mu   sync.Mutex // guards kids
	kids map[string]bool
}

// show judges no refusal of a token that may have expired by then: a pause of the whole
// machine can use up its life.
func (l *tally) show(ctx context.Context, v live, counter *atomic.Int64) {
	status, body, err := l.service.ask(ctx, v.token)
	if err == nil && status == 401 && v.over() {
		l.late.Add(1)
		return
	}
	if err != nil || status != 200 {
		l.fail(fmt.Errorf("status %d, %.200s (%v); header %s", status, body, err, header(v.token)))
		return
	}
	counter.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kids[kidOf(v.token)] = true
}

// rotations is how often the key of the tokens that it accepted has changed.
func (l *tally) rotations() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.kids) - 1
}

func (l *tally) report(t *testing.T) {
	t.Logf("counted: %-20s %6d tokens verified, %d again after a while, %d failures, %d rotations, %d too late to judge",
		l.service.name, l.verified.Load(), l.again.Load(), l.failed.Load(), l.rotations(), l.late.Load())
	if l.failed.Load() > 0 {
		t.Errorf("%s refused a live token: %s", l.service.name, l.first())
	}
	if l.again.Load() == 0 {
		t.Errorf("%s was never asked about an older token", l.service.name)
	}
}

// Trouble counts failures and remembers the first one.
type trouble struct {
	failed  atomic.Int64
	failure atomic.Pointer[string]
}

func (f *trouble) fail(err error) {
	f.failed.Add(1)
	text := time.Now().Format(time.RFC3339Nano) + " " + err.Error()
	f.failure.CompareAndSwap(nil, &text)
}

func (f *trouble) first() string { return *f.failure.Load() }

func header(token string) string {
	h, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(h)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func kidOf(token string) string {
	var h struct{ Kid string }
	json.Unmarshal([]byte(header(token)), &h)
	return h.Kid
}
