package keystore

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/jwks"
	"keymill/keystore/internal/clock"
	"keymill/storage"
)

// A faultyStore fails or delays where a test asks for it, and is a real store otherwise.
type faultyStore struct {
	storage.Store
	afterUpdate func()       // called after a commit, before Update returns
	failUpdates atomic.Int64 // how many of the next Updates fail
	failViews   atomic.Int64 // how many of the next Views fail
}

var errInjected = errors.New("injected")

const year = 365 * 24 * time.Hour

func (f *faultyStore) Update(ctx context.Context, fn func(storage.Tx) error) error {
	if f.failUpdates.Add(-1) >= 0 {
		return errInjected
	}
	err := f.Store.Update(ctx, fn)
	if f.afterUpdate != nil {
		f.afterUpdate()
	}
	return err
}

func (f *faultyStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	if f.failViews.Add(-1) >= 0 {
		return errInjected
	}
	return f.Store.View(ctx, fn)
}

// A fixture is one ring in a synctest bubble, whose wall clock and store can fail.
type fixture struct {
	t     *testing.T
	store *faultyStore
	cfg   Config
	off   atomic.Int64 // wall clock − correct time, in nanoseconds
	rings *Rings
	log   bytes.Buffer
	set   atomic.Pointer[jwks.Set]
}

func newFixture(t *testing.T) *fixture {
	master, _ := NewMasterKey()
	b := &fixture{t: t, store: &faultyStore{Store: openStore(t, filepath.Join(t.TempDir(), "db"))}, cfg: trial(master)}
	b.cfg.Changed = func(keys []PublicKey) {
		var list []jwks.Key
		for _, k := range keys {
			list = append(list, jwks.Key{KID: k.KID, Alg: k.Alg, Public: k.Public})
		}
		set, err := jwks.NewSet(list...)
		if err != nil {
			t.Error(err)
		}
		b.set.Store(set)
	}
	b.cfg.Log = slog.New(slog.NewTextHandler(&b.log, nil))
	b.open()
	raise(t, b.rings, EdDSA, time.Minute)
	return b
}

func (b *fixture) open() {
	b.t.Helper()
	create(b.t, b.store, b.cfg)
	var err error
	b.rings, err = open(b.t.Context(), b.store, b.cfg, func() time.Time { return time.Now().Add(time.Duration(b.off.Load())) })
	if err != nil {
		b.t.Fatal(err)
	}
}

// run runs the background loops for d.
func (b *fixture) run(d time.Duration) {
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.rings.Run(ctx) }()
	time.Sleep(d)
	synctest.Wait()
	cancel()
	<-done
}

func (b *fixture) stage(s Stage) string { return stage(b.t, b.rings, s) }

func (b *fixture) hasPrivate(kid string) bool {
	err := b.store.View(b.t.Context(), func(r storage.Reader) error {
		_, err := r.Get(privateKey(kid))
		return err
	})
	return err == nil
}

func (b *fixture) rotate() Rotation {
	b.t.Helper()
	got, err := b.rings.Rotate(b.t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test")
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

func inBubble(t *testing.T, test func(b *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t)
		test(b)
		b.store.Store.Close()
	})
}

func TestNoTokenIsSignedBetweenARotationAndItsAnswer(t *testing.T) {
	f := &faultyStore{Store: openStore(t, filepath.Join(t.TempDir(), "db"))}
	r := ringsOf(t, f)
	old := stage(t, r, Active)
	signed := make(chan string, 1)
	sign := func() {
		token, err := r.Sign(t.Context(), EdDSA, "at+jwt", nil, r.Now())
		if err != nil {
			t.Error(err)
		}
		signed <- token
	}
	var once sync.Once
	f.afterUpdate = func() {
		once.Do(func() { // the rotation is durable and has not returned
			go sign()
			time.Sleep(100 * time.Millisecond) // enough time to sign, if no lock prevents it
		})
	}
	got, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if kid := kidOf(t, <-signed); kid != got.KID {
		t.Errorf("after the Stop time of %s the key %s signed", old, kid)
	}
}

func kidOf(t *testing.T, token string) string {
	t.Helper()
	var header struct{ KID string }
	first, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(first)
	if err := errors.Join(err, json.Unmarshal(b, &header)); err != nil {
		t.Fatal(err)
	}
	return header.KID
}

// I7.
func TestAFrozenClockStopsRotationAndErasure(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.run(time.Second)
		first, reserve := b.stage(Active), b.stage(Reserve)
		b.off.Store(int64(10 * year))
		b.run(20 * time.Second) // past the Sign time of the spare
		if b.stage(Active) == first || b.stage(Reserve) != reserve || !b.hasPrivate(first) {
			b.t.Error("while frozen, planned instants must hold and nothing may be published or erased")
		}
		if st := b.rings.Status(); !st.Frozen || st.Ready || strings.Count(b.log.String(), "wall clock jumped") != 1 {
			b.t.Errorf("status %+v, log %s", st, b.log.String())
		}
		b.off.Store(0)
		b.run(3 * time.Second)
		if st := b.rings.Status(); st.Frozen || !st.Ready || b.stage(Spare) != reserve || b.hasPrivate(first) {
			b.t.Errorf("after the clock returned: %+v", st)
		}
	})
}

func TestAStartWithAWrongClockIsLogged(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.off.Store(int64(10 * year))
		b.open()
		if st := b.rings.Status(); !st.Frozen || !strings.Contains(b.log.String(), "wall clock jumped") {
			b.t.Errorf("status %+v, log %q", st, b.log.String())
		}
	})
}

// I7.
func TestAJumpAheadReschedulesTheSpareFirst(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.run(time.Second)
		first := b.stage(Active)
		b.off.Store(int64(time.Minute)) // far past the Sign time of the spare
		b.run(time.Second)
		if b.stage(Active) != first {
			b.t.Error("a minute in which the set was not served counted as propagation")
		}
		if early := time.Until(b.rings.Now()); early < 59*time.Second {
			b.t.Errorf("the decision time did not follow the step: it is ahead by %v", early)
		}
		b.run(5 * time.Second) // two max-ages
		if b.stage(Active) == first {
			b.t.Error("the spare does not sign after two max-ages")
		}
	})
}

func TestTheWallTimeSurvivesARestart(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.off.Store(int64(10 * time.Minute))
		b.run(clock.TrustAfter + time.Minute) // trusted again
		b.off.Store(0)
		b.run(clock.TrustAfter + time.Minute) // and trusted again
		if err := b.rings.Close(); err != nil {
			b.t.Fatal(err)
		}
		b.open()
		if st := b.rings.Status(); st.Frozen || time.Until(b.rings.WallTime()).Abs() > time.Second {
			b.t.Errorf("frozen %v, the wall time is off by %v", st.Frozen, time.Until(b.rings.WallTime()))
		}
	})
}

func TestADowntimeCountsForEveryRingOrForNone(t *testing.T) {
	for fail := range int64(8) {
		inBubble(t, func(b *fixture) {
			b.cfg.Algorithms = []string{EdDSA, RS256}
			b.open()
			b.run(15 * time.Second)
			before := b.signers()
			b.rings.Close()
			time.Sleep(3 * time.Hour)
			b.store.failUpdates.Store(0)
			b.store.afterUpdate = func() { // the Update after this many fails
				if fail--; fail == 0 {
					b.store.failUpdates.Store(1)
				}
			}
			_, err := open(b.t.Context(), b.store, b.cfg, time.Now)
			b.store.afterUpdate = nil
			b.store.failUpdates.Store(0)
			b.open()
			if after := b.signers(); !slices.Equal(before, after) {
				b.t.Errorf("the start failed with %v; then the signing keys changed from %v to %v", err, before, after)
			}
		})
	}
}

func (b *fixture) signers() []string {
	var out []string
	keys, _ := b.rings.List(b.t.Context())
	for _, k := range keys {
		if k.Stage == Active {
			out = append(out, k.KID)
		}
	}
	return out
}

// I4.
func TestErasureWaitsForObservedTimeAndForASuccessor(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.run(time.Second)
		old := b.rotate().Previous
		b.rings.Close()
		time.Sleep(30 * time.Minute)
		b.open()
		b.run(100 * time.Millisecond)
		if !b.hasPrivate(old) {
			b.t.Error("a downtime counted towards an erasure")
		}
		for b.stage(Active) != "" { // no reserve is made, because Run is not running
			if _, err := b.rings.Revoke(b.t.Context(), RevokeRequest{KID: b.stage(Active)}, "test"); err != nil {
				b.t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if err := b.rings.tick(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
		if !b.hasPrivate(old) {
			b.t.Error("a private half was erased although no key signs")
		}
		b.run(5 * time.Second)
		if b.hasPrivate(old) {
			b.t.Error("the private half was not erased although a successor signs")
		}
	})
}

// I4.
func TestPrivateHalvesLeaveMemoryWithTheirKeys(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.run(time.Second)
		old := b.rotate().Previous
		for kid := range b.rings.snapshot.Load().signers {
			if kid == old {
				b.t.Error("the private half of a stopped key is still in memory")
			}
		}
	})
}

// I5.
func TestRevokingTheLastKeyEmptiesTheSet(t *testing.T) {
	for _, off := range []time.Duration{0, 10 * year} {
		inBubble(t, func(b *fixture) {
			b.off.Store(int64(off))
			if err := b.rings.tick(b.t.Context()); err != nil {
				b.t.Fatal(err)
			}
			for _, stage := range []Stage{Spare, Active} {
				if _, err := b.rings.Revoke(b.t.Context(), RevokeRequest{KID: b.stage(stage)}, "test"); err != nil {
					b.t.Fatal(err)
				}
			}
			if n := len(b.set.Load().Keys()); n != 0 {
				b.t.Errorf("%d keys are published after the last one was revoked", n)
			}
			b.run(5 * time.Second)
			if b.stage(Active) == "" || len(b.set.Load().Keys()) == 0 {
				b.t.Errorf("no key signs again (wall clock off by %v)", off)
			}
		})
	}
}

func TestAChangeThatCouldNotBeReadBackIsReadLater(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.run(time.Second)
		kid := b.stage(Active)
		b.store.failViews.Store(1)
		if _, err := b.rings.Revoke(b.t.Context(), RevokeRequest{KID: kid}, "test"); !errors.Is(err, errInjected) {
			b.t.Fatalf("revoke: %v", err)
		}
		b.run(2 * time.Second)
		if b.stage(Active) == kid || b.set.Load().Keys()[0].KID == kid {
			b.t.Error("the revoked key still signs")
		}
	})
}

func TestANewKeyIsKeptUntilItCanBeStored(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.store.failUpdates.Store(1000)
		b.run(8 * time.Second)
		if n := strings.Count(b.log.String(), "could not be made"); n != 1 {
			b.t.Errorf("%d log lines in eight seconds, want 1:\n%s", n, b.log.String())
		}
		b.store.failUpdates.Store(0)
		b.run(2 * time.Second)
		if b.stage(Reserve) == "" {
			b.t.Error("no reserve after the store works again")
		}
	})
}

// I1.
func TestALowerMaxAgeWaitsForOldCaches(t *testing.T) {
	inBubble(t, func(b *fixture) {
		high := b.cfg
		high.RotateEvery, high.Propagation, high.MaxAge = 24*time.Hour, 2*time.Hour, time.Hour
		low := b.cfg
		b.cfg = high
		b.open()
		served := time.Now().Add(4 * time.Second) // then killed, without a last clock record
		b.cfg = low
		time.Sleep(4 * time.Second)
		b.open()
		got, err := b.rings.Revoke(b.t.Context(), RevokeRequest{KID: b.stage(Active)}, "test")
		if err != nil || got.CachedUntil.Before(served.Add(time.Hour)) {
			b.t.Errorf("caches may keep the key until %s, but the answer says %s (%v)", served.Add(time.Hour), got.CachedUntil, err)
		}
		b.run(10 * time.Minute)
		if b.stage(Active) != got.Successor {
			b.t.Error("a key signs that caches of the old max-age may not know")
		}
	})
}

// I5.
func TestAnImportedKidNeverStandsForTwoKeys(t *testing.T) {
	inBubble(t, func(b *fixture) {
		until := time.Now().Add(time.Hour)
		first := ImportRequest{Key: pemOf(b.t, "PUBLIC KEY", edKey(b.t).Public()), KID: "theirs", Until: until}
		if _, err := b.rings.Import(b.t.Context(), first, "test"); err != nil {
			b.t.Fatal(err)
		}
		b.run(3 * time.Hour)
		for _, k := range b.rings.Published() {
			if k.KID == "theirs" {
				b.t.Fatal("the imported key was not dropped")
			}
		}
		second := ImportRequest{Key: jwkOf(edKey(b.t), "theirs")}
		var bad *InvalidError
		if _, err := b.rings.Import(b.t.Context(), second, "test"); !errors.As(err, &bad) || bad.Code != "already_exists" {
			b.t.Errorf("importing another key with the same kid: %v", err)
		}
	})
}

func TestSparesAreBounded(t *testing.T) {
	inBubble(t, func(b *fixture) {
		var bad *InvalidError
		for n := range maxSpares + 1 {
			_, err := b.rings.Import(b.t.Context(), ImportRequest{Key: pemOf(b.t, "PRIVATE KEY", edKey(b.t))}, "test")
			if full := n >= maxSpares-1; full != errors.As(err, &bad) { // the ring had one spare before
				b.t.Errorf("import %d: %v", n, err)
			}
		}
	})
}

func TestThePublishedSetIsBounded(t *testing.T) {
	inBubble(t, func(b *fixture) {
		var err error
		for range maxPublished {
			req := ImportRequest{Key: pemOf(b.t, "PUBLIC KEY", edKey(b.t).Public()), Until: time.Now().Add(time.Hour)}
			if _, err = b.rings.Import(b.t.Context(), req, "test"); err != nil {
				break
			}
		}
		var bad *InvalidError
		if n := len(b.rings.Published()); n != maxPublished || !errors.As(err, &bad) {
			b.t.Errorf("%d keys are published, %v", n, err)
		}
	})
}

// R56.
func TestAKeySignsOnceItIsDurableAndKnown(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.run(time.Second)
		old := b.stage(Active)
		b.store.failUpdates.Store(1)
		if _, err := b.rings.Rotate(b.t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test"); !errors.Is(err, errInjected) {
			b.t.Fatalf("rotate: %v", err)
		}
		published := make(map[string]time.Time) // kid → first seen in the set
		signed := make(map[string]time.Time)    // kid → first signature
		for range 60 {
			for _, k := range b.set.Load().Keys() {
				if published[k.KID].IsZero() {
					published[k.KID] = time.Now()
				}
			}
			token, err := b.rings.Sign(b.t.Context(), EdDSA, "at+jwt", nil, b.rings.Now())
			if err != nil {
				b.t.Fatal(err)
			}
			kid := kidOf(b.t, token)
			if len(signed) == 0 && kid != old {
				b.t.Error("a key signed although its rotation was not durable")
			}
			if signed[kid].IsZero() {
				signed[kid] = time.Now()
			}
			b.run(time.Second)
		}
		for kid, first := range signed {
			if known := first.Sub(published[kid]); kid != old && known < b.cfg.MaxAge {
				b.t.Errorf("%s signed %v after it was published", kid, known)
			}
		}
		if len(signed) < 4 {
			b.t.Errorf("%d keys signed in a minute, want at least 4", len(signed))
		}
	})
}
