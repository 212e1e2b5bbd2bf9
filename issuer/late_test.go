package issuer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/keystore"
	"keymill/storage"
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

// TestATokenThatWaitedForLongIsNotReplayed: a server that was paused in the middle of a request decides about the token
// of a client that gave up and went on elsewhere. The same token without delay ends the session.
func TestATokenThatWaitedForLongIsNotReplayed(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web(func(c *api.NewClient) {})
		a.user("alice", "7")
		p := a.begin("7")
		old := p.rotate()
		p.rotate()

		slow := &slowStore{Store: a.store}
		other := a.another(func(c *Config) { c.Store = slow })
		fast := a.Issuer
		a.Issuer = other
		slow.takes.Store(int64(maxDecision + time.Millisecond))
		_, err := a.refresh(old)
		if unavailable := (*keystore.UnavailableError)(nil); !errors.As(err, &unavailable) || unavailable.RetryAfter <= 0 {
			t.Fatalf("a token that waited: %v", err)
		}
		a.Issuer = fast
		p.rotate() // the session lives

		a.Issuer = other
		slow.takes.Store(int64(maxDecision / 2))
		_, err = a.refresh(old)
		refused(t, err, "invalid_grant")
		a.Issuer = fast
		_, err = a.refresh(p.grant.Refresh)
		refused(t, err, "invalid_grant")
	})
}
