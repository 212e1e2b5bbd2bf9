package issuer

import (
	"sync/atomic"
	"testing"

	"keymill/issuer/refusal"
)

// BenchmarkRotation measures a durable refresh, from the request to the signed token, with 64 at once.
func BenchmarkRotation(b *testing.B) {
	w := newWorld(b)
	w.web()
	w.user("alice", "7")
	people := make(chan *person, 64)
	for range cap(people) {
		people <- w.begin("7")
	}
	var failed atomic.Int64
	b.SetParallelism(cap(people) / 2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		p := <-people
		for pb.Next() {
			g, err := w.refresh(p.grant.Refresh)
			if err != nil {
				failed.Add(1)
				return
			}
			p.grant = g
		}
		people <- p
	})
	if failed.Load() > 0 {
		b.Errorf("%d failed", failed.Load())
	}
}

// BenchmarkForged measures the refusal of a forged refresh token.
func BenchmarkForged(b *testing.B) {
	w := newWorld(b)
	w.web()
	w.user("alice", "7")
	token := []byte(w.begin("7").grant.Refresh)
	token[40] ^= 1
	req := TokenRequest{GrantType: "refresh_token", Client: Credentials{ClientID: "web", Method: "none"}, Refresh: refusal.Secret(token)}
	if err := w.store.Close(); err != nil { // so that a read of the store fails
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := w.Token(b.Context(), req); err == nil {
			b.Fatal("a forged token was answered")
		}
	}
}
