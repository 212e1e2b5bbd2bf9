package keystore

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"keymill/jwks"
	"keymill/keystore/internal/keytype"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
)

// wideKID returns a kid that takes 1,200 bytes of JSON, because "<" is escaped there.
func wideKID(n int) string { return fmt.Sprintf("%s%03d", strings.Repeat("<", 197), n) }

// importWide imports keys that only verify until they are refused, and returns the error.
func (b *fixture) importWide(life time.Duration) error {
	b.t.Helper()
	for n := range 100 {
		req := ImportRequest{Key: pemOf(b.t, "PUBLIC KEY", edKey(b.t).Public()), KID: wideKID(n), Until: time.Now().Add(life)}
		if _, err := b.rings.Import(b.t.Context(), req, "test"); err != nil {
			return err
		}
	}
	b.t.Fatal("a hundred keys were imported")
	return nil
}

func (b *fixture) wantFull(what string, err error) {
	b.t.Helper()
	var bad *InvalidError
	if !errors.As(err, &bad) || bad.Code != "invalid_request" || !strings.Contains(bad.Description, "the key set would grow to") ||
		!strings.Contains(bad.Description, "the next key is dropped at 2000-01-01T") {
		b.t.Errorf("%s: %v", what, err)
	}
}

// TestNoOperatorMakesTheSetLargerThanVerifiersRead: neither with imports of any kind nor with forced
// rotations in a loop. In a full set the schedule goes on, and a revocation always works.
func TestNoOperatorMakesTheSetLargerThanVerifiersRead(t *testing.T) {
	inBubble(t, func(b *fixture) {
		largest := 0
		changed := b.cfg.Changed
		b.rings.cfg.Changed = func(keys []PublicKey) {
			changed(keys)
			largest = max(largest, len(b.set.Load().JSON()))
		}
		b.run(time.Second)
		b.wantFull("imports to verify", b.importWide(4*time.Minute))
		var err error
		forced := 0
		for ; err == nil && forced < 100; forced++ {
			_, err = b.rings.Rotate(b.t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test")
			if notReady := new(NotReadyError); errors.As(err, &notReady) {
				b.run(10 * time.Millisecond) // the next key is being made
				err = nil
			}
		}
		b.wantFull("forced rotations", err)
		_, err = b.rings.Import(b.t.Context(), ImportRequest{Key: pemOf(b.t, "PRIVATE KEY", edKey(b.t)), KID: wideKID(200)}, "test")
		b.wantFull("a spare", err)
		_, err = b.rings.Import(b.t.Context(), ImportRequest{Key: pemOf(b.t, "PRIVATE KEY", edKey(b.t)), KID: wideKID(201), SignNow: true}, "test")
		b.wantFull("a key that signs now", err)
		err = b.rings.store.Update(b.t.Context(), func(tx storage.Tx) error { return b.rings.RaiseMaxLifetime(tx, EdDSA, 30*time.Minute) })
		b.wantFull("tokens that live longer", err)

		b.run(100 * time.Millisecond) // makes a reserve
		_, err = b.rings.Rotate(b.t.Context(), RotateRequest{Alg: EdDSA, Flush: true}, "test")
		b.wantFull("a flush", err)
		_, err = b.rings.Revoke(b.t.Context(), RevokeRequest{KID: b.stage(Spare), Flush: true}, "test")
		b.wantFull("a revocation with a flush", err)

		active := b.stage(Active)
		b.run(time.Minute)
		if b.stage(Active) == active {
			b.t.Error("the schedule stopped")
		}
		for range 3 {
			active = b.stage(Active)
			if _, err := b.rings.Revoke(b.t.Context(), RevokeRequest{KID: active}, "test"); err != nil || b.stage(Active) == active {
				b.t.Errorf("a revocation: %v", err)
			}
			b.run(10 * time.Second)
		}
		if largest > maxSetBytes || largest < maxSetBytes*4/5 {
			b.t.Errorf("the largest set had %d bytes, at most %d are allowed", largest, maxSetBytes)
		}
		b.run(3 * time.Minute)
		b.rotate() // there is room again
	})
}

// TestSettingsCannotMakeTheSetLargerThanVerifiersRead: a token lifetime that is too long for the
// rotation is refused, and so is a start with a rotation that is too fast for the stored lifetimes.
func TestSettingsCannotMakeTheSetLargerThanVerifiersRead(t *testing.T) {
	for lifetime, good := range map[time.Duration]bool{
		time.Second: true, 15 * time.Minute: true, 55 * time.Minute: true, 70 * time.Minute: false, 24 * time.Hour: false,
	} {
		inBubble(t, func(b *fixture) {
			err := b.rings.store.Update(b.t.Context(), func(tx storage.Tx) error { return b.rings.RaiseMaxLifetime(tx, EdDSA, lifetime) })
			var bad *InvalidError
			if good != (err == nil) || !good && (!errors.As(err, &bad) || !strings.Contains(bad.Description, "keys.rotate_every 12s")) {
				b.t.Errorf("tokens of %v: %v", lifetime, err)
			}
		})
	}
	inBubble(t, func(b *fixture) {
		b.cfg.RotateEvery, b.cfg.Propagation = 720*time.Hour, time.Hour
		b.open()
		raise(b.t, b.rings, EdDSA, 24*time.Hour)
		for rotateEvery, good := range map[time.Duration]bool{720 * time.Hour: true, 6 * time.Minute: true, time.Minute: false, 12 * time.Second: false} {
			b.cfg.RotateEvery, b.cfg.Propagation = rotateEvery, 4*time.Second
			_, err := open(b.t.Context(), b.store, b.cfg, time.Now)
			if good != (err == nil) || !good && !strings.Contains(err.Error(), "raise keys.rotate_every") {
				b.t.Errorf("rotation every %v: %v", rotateEvery, err)
			}
		}
	})
}

// TestTheSizeOfASetIsEstimatedFromAbove, and not by much.
func TestTheSizeOfASetIsEstimatedFromAbove(t *testing.T) {
	var keys []Key
	var published []jwks.Key
	add := func(kid string, public any) {
		der, err := keytype.MarshalPublic(public)
		if err != nil {
			t.Fatal(err)
		}
		alg, err := keytype.Of(public)
		if err != nil {
			t.Fatal(err)
		}
		keys, published = append(keys, schedule.NewKey(kid, alg, der, 0)), append(published, jwks.Key{KID: kid, Alg: alg, Public: public})
	}
	product := new(big.Int).Mul(primeOf(t, 1024), primeOf(t, 1024))
	add("rsa", &rsa.PublicKey{N: product, E: 1<<31 - 1})
	for n := range 20 {
		add(wideKID(n), edKey(t).Public())
		add(fmt.Sprintf("thumbprint-of-P-256-and-43-characters-%05d", n), ecKey(t).Public())
		add(fmt.Sprintf("thumbprint-of-43-characters-0000000000000-%d", n), edKey(t).Public())
	}
	set, err := jwks.NewSet(published...)
	if err != nil {
		t.Fatal(err)
	}
	if got, real := schedule.SetBytes(keys...), len(set.JSON()); got < real || got > real*105/100 {
		t.Errorf("%d bytes are estimated, the set has %d", got, real)
	}
}

// TestAVerifierChecksEveryRSAKeyOfTheSet: jwks.Parse bounds its work, and no import goes beyond.
func TestAVerifierChecksEveryRSAKeyOfTheSet(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.cfg.Algorithms = []string{EdDSA, RS256}
		b.cfg.Changed = nil
		b.cfg.CheckRSA = func(*rsa.PublicKey, ...*rsa.PublicKey) error { return nil } // only sizes matter here
		b.open()
		for _, tt := range []struct{ bits, most int }{{8192, 3}, {4096, 7}} { // the ring has keys of its own
			n, err := 0, error(nil)
			for ; err == nil; n++ {
				modulus := rsaModulus(uint(tt.bits))
				req := ImportRequest{Key: pemOf(b.t, "PUBLIC KEY", &rsa.PublicKey{N: modulus.Add(modulus, big.NewInt(int64(2*n))), E: 65537}), Until: time.Now().Add(time.Hour)}
				_, err = b.rings.Import(b.t.Context(), req, "test")
			}
			if n-1 != tt.most {
				b.t.Errorf("%d keys of %d bits were imported, want %d; %v", n-1, tt.bits, tt.most, err)
			}
		}
	})
}

// TestTheLargestSetCountsScheduledRotations that come while other keys are published.
func TestTheLargestSetCountsScheduledRotations(t *testing.T) {
	now := time.Now()
	p := policy{RotateEvery: 12 * time.Second, Propagation: 4 * time.Second, MaxAge: 2 * time.Second}
	rings := map[string]ring{EdDSA: {Alg: EdDSA, MaxLifetime: time.Minute}} // 6 keys that have stopped, one that signs, one spare
	der, err := keytype.MarshalPublic(edKey(t).Public())
	if err != nil {
		t.Fatal(err)
	}
	until := func(d time.Duration) Key {
		k := schedule.NewKey(wideKID(1), EdDSA, der, 0)
		k.Publish, k.Stop, k.Drop = now, now, now.Add(d)
		return k
	}
	empty, own, wide := schedule.SetBytes(), keytype.OwnJWKBytes(EdDSA), schedule.SetBytes(until(0))-schedule.SetBytes()
	for _, tt := range []struct {
		name       string
		retired    []Key
		configured []string
		want       int
	}{
		{"only the schedule", nil, []string{EdDSA}, 8 * own},
		{"a key that lasts", []Key{until(time.Hour)}, []string{EdDSA}, 8*own + wide},
		{"a key that is dropped after two rotations", []Key{until(25 * time.Second)}, []string{EdDSA}, 4*own + wide},
		{"a ring that is not configured", []Key{until(time.Hour)}, nil, wide},
	} {
		if got := p.LargestSet(rings, tt.retired, tt.configured, now) - len(SupportedAlgorithms())*empty; got < tt.want-empty || got > tt.want+empty {
			t.Errorf("%s: %d bytes, want %d", tt.name, got, tt.want)
		}
	}
}
