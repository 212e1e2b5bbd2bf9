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

// maxForged is what the decision about a forged refresh token may take, in MACs of its size
// on the same machine at the same time.
const maxForged = 8

// TestAForgedTokenIsCheap: whoever sends made-up refresh tokens makes the server compute
// one MAC each, and neither read nor write.
func TestAForgedTokenIsCheap(t *testing.T) {
	watched := &watchedStore{}
	r := openRooms(t, newPlace(t), func(s storage.Store) storage.Store {
		watched.Store = s
		return watched
	})
	r.enrol(t)
	good := r.begin(t, 1, 1)[0]
	req := issuer.TokenRequest{GrantType: "refresh_token", Client: r.client, Refresh: forged(good), From: here()}
	r.stop() // else clean-up asks the store
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
		// The least is what the decision takes; the others tell what else the machine did.
		least = min(least, time.Since(begun)/batch)
		leastMAC = min(leastMAC, timeOfMACs(batch))
	}
	asked := watched.calls.Load() - before
	t.Logf("counted: %d forged refresh tokens refused in %v each, a MAC takes %v; the store was asked %d times", batches*batch, least, leastMAC, asked)
	if least > maxForged*leastMAC {
		t.Errorf("a forged token takes %v, allowed are %d MACs of %v", least, maxForged, leastMAC)
	}
	if asked > 0 {
		t.Errorf("the store was asked %d times about forged tokens", asked)
	}
	r.rotate(t, []refusal.Secret{good}, 1)
	if watched.calls.Load() == before {
		t.Error("nobody asked the store about a good token either: it is not watched")
	}
}

// timeOfMACs returns what one HMAC-SHA256 takes, key schedule included, on average over n.
func timeOfMACs(n int) time.Duration {
	begun := time.Now()
	for range n {
		mac := hmac.New(sha256.New, make([]byte, 32))
		mac.Write(make([]byte, 29)) // what stands before the seal of a refresh token
		mac.Sum(nil)
	}
	return time.Since(begun) / time.Duration(n)
}

// forged changes the last character, the end of the seal, for another.
func forged(token refusal.Secret) refusal.Secret {
	last := "A"
	if strings.HasSuffix(string(token), last) {
		last = "B"
	}
	return token[:len(token)-1] + refusal.Secret(last)
}

// A watchedStore counts who comes.
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
