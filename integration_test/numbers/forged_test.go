package numbers

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keymill/issuer"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// maxForged bounds the time to refuse a forged refresh token, in MACs of the same size on the same
// machine at the same time.
const maxForged = 8

// TestAForgedTokenCostsOneMACAndNoRead: for a forged refresh token the server computes one MAC. It
// neither reads nor writes the store.
func TestAForgedTokenCostsOneMACAndNoRead(t *testing.T) {
	watched := &watchedStore{}
	r := openIssuer(t, newPlace(t), func(s storage.Store) storage.Store {
		watched.Store = s
		return watched
	})
	r.register(t)
	good := r.begin(t, 1, 1)[0]
	req := issuer.TokenRequest{GrantType: "refresh_token", Client: r.client, Refresh: forged(good), From: here()}
	r.stop() // the clean-up would read the store
	const batches, batch = 200, 1000
	before, least, leastMAC := watched.calls.Load(), time.Hour, time.Hour
	for range batches {
		begun := time.Now()
		for range batch {
			_, err := r.Token(t.Context(), req)
			if refused := (*refusal.Refusal)(nil); !errors.As(err, &refused) || refused.Code != "invalid_grant" {
				t.Fatalf("a forged token: %v", err)
			}
		}
		// The least time is that of the decision. Longer ones include other work of the machine.
		least = min(least, time.Since(begun)/batch)
		leastMAC = min(leastMAC, timeOfMACs(batch))
	}
	asked := watched.calls.Load() - before
	t.Logf("counted: %d forged refresh tokens refused in %v each, a MAC takes %v; the store was used %d times", batches*batch, least, leastMAC, asked)
	if least > maxForged*leastMAC {
		t.Errorf("refusing a forged token takes %v, at most %d MACs of %v are allowed", least, maxForged, leastMAC)
	}
	if asked > 0 {
		t.Errorf("the store was used %d times for forged tokens", asked)
	}
	r.rotate(t, []refusal.Secret{good}, 1)
	if watched.calls.Load() == before {
		t.Error("a valid token did not use the store either: the test does not count calls")
	}
}

// timeOfMACs returns the average time of one HMAC-SHA256 over n, with its key schedule.
func timeOfMACs(n int) time.Duration {
	begun := time.Now()
	for range n {
		mac := hmac.New(sha256.New, make([]byte, 32))
		mac.Write(make([]byte, 29)) // the part of a refresh token before its MAC
		mac.Sum(nil)
	}
	return time.Since(begun) / time.Duration(n)
}

// forged replaces the last character of a token, which is part of its MAC.
func forged(token refusal.Secret) refusal.Secret {
	last := "A"
	if strings.HasSuffix(string(token), last) {
		last = "B"
	}
	return token[:len(token)-1] + refusal.Secret(last)
}

// A watchedStore counts calls.
type watchedStore struct {
	storage.Store
	calls atomic.Int64
}

func (s *watchedStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	s.calls.Add(1)
	return s.Store.View(ctx, fn)
}

func (s *watchedStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	s.calls.Add(1)
	return s.Store.Update(ctx, fn)
}
