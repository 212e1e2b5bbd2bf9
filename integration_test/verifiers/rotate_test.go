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
	rotateEvery = 6 * time.Second
	maxAge      = time.Second
	tokenTTL    = 4 * time.Second
	fast        = "keys:\n  rotate_every: 6s\n  propagation: 3s\njwks:\n  max_age: 1s"
)

// TestRotationNeverFailsAVerifier: keys of both rings rotate under load, and no
// service ever refuses a live token: neither one just made nor one whose key has
// stopped signing since.
func TestRotationNeverFailsAVerifier(t *testing.T) {
	srv, clients := start(t, fast, tokenTTL.String())
	var services []service
	for _, m := range makers {
		services = append(services, m.service(t, srv, maxAge))
	}
	rotations, tokens := counts.Of("verifier-rotations"), counts.Of("verifier-tokens")
	limit := time.Duration(rotations+6) * rotateEvery
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()

	loads := make([]*load, len(services))
	var wg sync.WaitGroup
	for i, s := range services {
		loads[i] = &load{service: s, srv: srv, client: clients[s.alg], kids: map[string]bool{}}
		for range 2 {
			wg.Go(func() { loads[i].run(ctx) })
		}
	}
	for ctx.Err() == nil && !enough(loads, rotations, tokens) {
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	wg.Wait()

	for _, l := range loads {
		t.Logf("counted: %-14s %6d tokens verified, %d again after a while, %d failures, %d rotations",
			l.service.name, l.verified.Load(), l.again.Load(), l.failed.Load(), l.rotations())
		if l.failed.Load() > 0 {
			t.Errorf("%s refused a live token: %s", l.service.name, l.first())
		}
		if l.again.Load() == 0 {
			t.Errorf("%s was never asked about an older token", l.service.name)
		}
	}
	if !enough(loads, rotations, tokens) {
		t.Errorf("after %v: want %d rotations and %d tokens for each service", limit, rotations, tokens)
	}
}

func enough(loads []*load, rotations, tokens int) bool {
	for _, l := range loads {
		if l.rotations() < rotations || l.verified.Load() < int64(tokens) {
			return false
		}
	}
	return true
}

// A load fetches tokens and shows them to one service.
type load struct {
	service service
	srv     *server.Server
	client  server.Client

	verified, again, failed atomic.Int64

	mu      sync.Mutex // guards what follows
	kids    map[string]bool
	failure string // the first one
}

// run ends with ctx. Every tenth token is kept and shown again when it is half as old
// as it can get: some of those outlive the reign of their key.
func (l *load) run(ctx context.Context) {
	type kept struct {
		token string
		due   time.Time
	}
	var pocket []kept
	for n := 0; ctx.Err() == nil; n++ {
		token, err := l.srv.Token(ctx, l.client, l.service.audience)
		if err != nil {
			l.fail(ctx, fmt.Errorf("no token: %w", err))
			continue
		}
		l.meet(token)
		l.show(ctx, token, &l.verified)
		if n%10 == 0 {
			pocket = append(pocket, kept{token, time.Now().Add(tokenTTL / 2)})
		}
		for len(pocket) > 0 && time.Now().After(pocket[0].due) {
			// A pause of the whole machine may have used up the token's life.
			if time.Since(pocket[0].due) < tokenTTL/4 {
				l.show(ctx, pocket[0].token, &l.again)
			}
			pocket = pocket[1:]
		}
	}
}

func (l *load) show(ctx context.Context, token string, counter *atomic.Int64) {
	status, body, err := l.service.ask(ctx, token)
	if err != nil || status != 200 {
		l.fail(ctx, fmt.Errorf("status %d, %.200s (%v); header %s", status, body, err, header(token)))
		return
	}
	counter.Add(1)
}

// fail counts a failure, unless it is only the end of the test.
func (l *load) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == "" {
		l.failure = time.Now().Format(time.RFC3339Nano) + " " + err.Error()
	}
}

func (l *load) meet(token string) {
	kid := kidOf(token)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kids[kid] = true
}

func (l *load) first() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// rotations is how often the key that signed the tokens changed.
func (l *load) rotations() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.kids) - 1
}

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
