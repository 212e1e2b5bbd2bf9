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

// With fast settings keys rotate every few seconds. The services cache the key set for exactly
// max-age.
const (
	rotateEvery = 12 * time.Second
	maxAge      = time.Second
	tokenTTL    = 6 * time.Second
	fast        = "keys:\n  rotate_every: 12s\n  propagation: 6s\njwks:\n  max_age: 1s"
)

// TestRotationNeverFailsAVerifier: keys of both rings rotate under load, and no service ever refuses
// a live token, neither a new one nor one whose key has stopped signing since.
func TestRotationNeverFailsAVerifier(t *testing.T) {
	srv, clients := issuer(t, fast, tokenTTL.String())
	groups := map[string]*group{} // algorithm → the services that accept it
	for _, alg := range both {
		groups[alg] = &group{srv: srv, client: clients[alg], audience: audienceOf(alg)}
	}
	for _, s := range services(t, srv, maxAge) {
		groups[s.alg].counters = append(groups[s.alg].counters, &counter{service: s, kids: map[string]bool{}})
	}
	rotations, tokens := counts.Of("verifier-rotations"), counts.Of("verifier-tokens")
	limit := time.Duration(10*rotations+60) * rotateEvery // ends a test that hangs
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()

	var wg sync.WaitGroup
	for _, c := range groups {
		for range 2 {
			wg.Go(func() { c.run(ctx) })
		}
	}
	for ctx.Err() == nil && !enough(groups, rotations, tokens) {
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	wg.Wait()

	for _, c := range groups {
		if c.failed.Load() > 0 {
			t.Errorf("the issuer failed: %s", c.first())
		}
		for _, l := range c.counters {
			l.report(t)
		}
	}
	if !enough(groups, rotations, tokens) {
		t.Errorf("after %v: want %d rotations and %d tokens for each service", limit, rotations, tokens)
	}
}

func enough(groups map[string]*group, rotations, tokens int) bool {
	for _, c := range groups {
		for _, l := range c.counters {
			if l.rotations() < rotations || l.verified.Load() < int64(tokens) {
				return false
			}
		}
	}
	return true
}

// A group has all services of one algorithm. They get the same tokens, so that the issuer signs only
// as often as one of them verifies, and most CPU time is left for the services.
type group struct {
	srv      *server.Server
	client   server.Client
	audience string
	counters []*counter
	failures // of the issuer
}

// run sends tokens until ctx ends, and finishes and counts what it has begun. It keeps every tenth
// token and sends it again at half of its lifetime, when some of their keys no longer sign.
func (c *group) run(ctx context.Context) {
	var kept []liveToken
	whole := context.WithoutCancel(ctx)
	for n := 0; ctx.Err() == nil; n++ {
		asked := time.Now()
		token, err := c.srv.Token(whole, c.client, c.audience)
		if err != nil {
			c.fail(fmt.Errorf("request a token: %w", err))
			continue
		}
		fresh := liveToken{token, asked}
		c.show(whole, fresh, func(l *counter) *atomic.Int64 { return &l.verified })
		if n%10 == 0 {
			kept = append(kept, fresh)
		}
		for len(kept) > 0 && time.Since(kept[0].asked) > tokenTTL/2 {
			c.show(whole, kept[0], func(l *counter) *atomic.Int64 { return &l.again })
			kept = kept[1:]
		}
	}
}

// A liveToken is valid for tokenTTL after it was requested, minus up to a second, since
// exp is rounded.
type liveToken struct {
	token string
	asked time.Time
}

func (v liveToken) over() bool { return time.Since(v.asked) > tokenTTL-time.Second }

// show sends a token to all services at once, so that no service gets it late because another one
// is slow.
func (c *group) show(ctx context.Context, token liveToken, count func(*counter) *atomic.Int64) {
	var wg sync.WaitGroup
	for _, l := range c.counters {
		wg.Go(func() { l.show(ctx, token, count(l)) })
	}
	wg.Wait()
}

// A counter counts what one service has done.
type counter struct {
	service               service
	verified, again, late atomic.Int64
	failures

	mu   sync.Mutex // guards kids
	kids map[string]bool
}

// show sends one token. It does not count the refusal of a token that may have expired, because a
// pause of the whole machine can outlast a token.
func (l *counter) show(ctx context.Context, v liveToken, successes *atomic.Int64) {
	status, body, err := l.service.ask(ctx, v.token)
	if err == nil && status == 401 && v.over() {
		l.late.Add(1)
		return
	}
	if err != nil || status != 200 {
		l.fail(fmt.Errorf("status %d, %.200s (%v); header %s", status, body, err, header(v.token)))
		return
	}
	successes.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kids[kidOf(v.token)] = true
}

// rotations returns how often the key of the accepted tokens has changed.
func (l *counter) rotations() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.kids) - 1
}

func (l *counter) report(t *testing.T) {
	t.Logf("counted: %-20s %6d tokens verified, %d again at half of their life, %d failures, %d rotations, %d that may have expired",
		l.service.name, l.verified.Load(), l.again.Load(), l.failed.Load(), l.rotations(), l.late.Load())
	if l.failed.Load() > 0 {
		t.Errorf("%s refused a live token: %s", l.service.name, l.first())
	}
	if l.again.Load() == 0 {
		t.Errorf("%s never got an older token", l.service.name)
	}
}

// failures counts failures and keeps the first one.
type failures struct {
	failed  atomic.Int64
	failure atomic.Pointer[string]
}

func (f *failures) fail(err error) {
	f.failed.Add(1)
	text := time.Now().Format(time.RFC3339Nano) + " " + err.Error()
	f.failure.CompareAndSwap(nil, &text)
}

func (f *failures) first() string { return *f.failure.Load() }

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
