package issuer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/nodes"
)

// A slowStore takes a while for each transaction that writes.
type slowStore struct {
	storage.Store
	takes atomic.Int64
}

func (s *slowStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	time.Sleep(time.Duration(s.takes.Load()))
	return s.Store.Update(ctx, fn)
}

// shared returns another server over the store of the bubble, which several servers share.
func (a *bubble) shared(slow *slowStore) *Issuer {
	a.t.Helper()
	cfg := testKeys
	cfg.Algorithms, cfg.Nodes = []string{"EdDSA"}, nodes.New(nodes.Config{ID: "b"})
	keys := must[*keystore.Rings](a.t)(keystore.Open(a.t.Context(), a.file, cfg))
	slow.Store = keys.Store()
	return a.another(func(c *Config) { c.Store, c.Keys = slow, keys })
}

// TestATokenThatWaitedForLongIsNotReplayed: a server that was paused in the middle of a request, or before it, decides
// about the token of a client that gave up and went on elsewhere. The same token without delay ends the session.
func TestATokenThatWaitedForLongIsNotReplayed(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		p := a.begin("7")
		old := p.rotate()
		p.rotate()
		slow := new(slowStore)
		other := a.shared(slow)
		late := func(why string) {
			t.Helper()
			_, err := a.refreshAt(other, old)
			if unavailable := (*keystore.UnavailableError)(nil); !errors.As(err, &unavailable) || unavailable.RetryAfter <= 0 {
				t.Fatalf("%s: %v", why, err)
			}
			p.rotate() // the session lives
		}
		slow.takes.Store(int64(maxDecision + time.Millisecond))
		late("a token that waited")
		slow.takes.Store(0)
		time.Sleep(15 * time.Second) // as if the process was paused: the keys are not read
		late("a token that waited before the decision")

		slow.takes.Store(int64(maxDecision / 2))
		other = a.shared(slow)
		_, err := a.refreshAt(other, old)
		refused(t, err, "invalid_grant")
		_, err = a.refresh(p.grant.Refresh)
		refused(t, err, "invalid_grant")
	})
}

// TestNoSlownessHidesAReplay: a server that has its store alone ends the session of a replayed token, however long it
// takes. No other server can have made the next token.
//
// R38.
func TestNoSlownessHidesAReplay(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		p := a.begin("7")
		old := p.rotate()
		p.rotate()
		slow := &slowStore{Store: a.store}
		slow.takes.Store(int64(10 * maxDecision))
		other := a.another(func(c *Config) { c.Store = slow })
		_, err := a.refreshAt(other, old)
		refused(t, err, "invalid_grant")
		_, err = a.refresh(p.grant.Refresh)
		refused(t, err, "invalid_grant")
	})
}
