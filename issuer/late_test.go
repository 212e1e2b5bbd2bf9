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

// unavailable fails the test unless err says that the request can be tried again.
func (a *bubble) unavailable(what string, err error) {
	a.t.Helper()
	if u := (*keystore.UnavailableError)(nil); !errors.As(err, &u) || u.RetryAfter <= 0 {
		a.t.Errorf("%s: %v", what, err)
	}
}

// TestATokenThatWaitedForLongIsNotReplayed: a server that was paused or cut off decides about the token of a client that gave
// up and went on at another server.
func TestATokenThatWaitedForLongIsNotReplayed(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		p, slow := a.begin("7"), new(slowStore)
		for what, wait := range map[string]func(other *Issuer){
			"cut off from the store": func(*Issuer) { slow.takes.Store(int64(maxDecision + 5*time.Second)) },
			"paused before it reads": func(other *Issuer) { other.pauses.Look() },
			"paused for 15 s":        func(*Issuer) { time.Sleep(15 * time.Second) }, // the keys are not read
		} {
			for _, rotations := range []int{2, 3} {
				old := p.grant.Refresh
				time.Sleep(time.Minute)
				slow.takes.Store(0)
				other := a.shared(slow)
				wait(other)
				cutOff, done := slow.takes.Load() > 0, make(chan error, 1)
				if cutOff {
					go func() { _, err := a.refreshAt(other, old); done <- err }()
				}
				for range rotations {
					time.Sleep(2 * time.Second)
					p.rotate()
				}
				if !cutOff {
					_, err := a.refreshAt(other, old)
					done <- err
				}
				a.unavailable(what, <-done)
			}
		}
		p.rotate() // the session lives
	})
}

// TestAServerWhoseClocksStoodStillCallsNoTokenReplayed: those of a virtual machine that is paused do, and the session was rotated
// in a time that this server has not reached. As little as the decision times of servers differ is no pause.
//
// R38.
func TestAServerWhoseClocksStoodStillCallsNoTokenReplayed(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		other := a.shared(new(slowStore))
		now, poll := other.keys.Now(), other.keys.Poll()
		a.unavailable("10 s behind", other.tooLate(time.Now(), now.Add(poll+10*time.Second)))
		if err := other.tooLate(time.Now(), now.Add(poll)); err != nil {
			t.Errorf("as far behind as a poll takes: %v", err)
		}
	})
}

// TestASlowStoreHidesNoReplay, and neither does a pause that is over: a token that was replaced before the client can have sent it
// ends the session.
//
// R38.
func TestASlowStoreHidesNoReplay(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		for what, wait := range map[string]func(other *Issuer, slow *slowStore){
			"the store is slow": func(_ *Issuer, slow *slowStore) { slow.takes.Store(int64(maxDecision + 3*time.Second)) },
			"paused": func(other *Issuer, _ *slowStore) {
				other.pauses.Look()
				time.Sleep(5 * time.Second)
			},
			"nothing": func(*Issuer, *slowStore) {},
		} {
			p := a.begin("7")
			old := p.rotate()
			p.rotate()
			time.Sleep(time.Minute)
			slow := new(slowStore)
			other := a.shared(slow)
			wait(other, slow)
			_, err := a.refreshAt(other, old)
			refused(t, err, "invalid_grant")
			if _, err = a.refresh(p.grant.Refresh); err == nil {
				t.Errorf("%s: the session goes on", what)
			}
		}
	})
}

// TestAThiefWhoRotatesAllTheTimeHidesNoReplay: a rotation in the moment in which the old token is decided about is no reason to
// wait, as long as this server was not paused and the decision is fast.
//
// R38.
func TestAThiefWhoRotatesAllTheTimeHidesNoReplay(t *testing.T) {
	inBubble(t, time.Hour, func(t *testing.T, a *bubble) {
		a.web()
		a.user("alice", "7")
		thief, slow := a.begin("7"), new(slowStore)
		old := thief.grant.Refresh
		other := a.shared(slow)
		slow.takes.Store(int64(maxDecision - time.Second))
		done := make(chan error, 1)
		go func() { _, err := a.refreshAt(other, old); done <- err }()
		for range 5 {
			time.Sleep(100 * time.Millisecond)
			thief.rotate()
		}
		refused(t, <-done, "invalid_grant")
		_, err := a.refresh(thief.grant.Refresh)
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
