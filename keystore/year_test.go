package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/integration_test/counts"
	"keymill/jwks"
	"keymill/keystore/internal/clock"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

// TestNoTokenOutlivesItsKey: with any sequence of rotations, crashes, clock steps and cache
// refreshes, a verifier that obeys max-age accepts every live token, except where the answer
// to a revocation, a forced rotation or a flush said that it may not. A flush says so of its own key,
// and for max-age. A verifier that fetches only for an unknown kid has no key that was revoked before a
// flush once it has met the flushed key.
//
// I1, I2.
func TestNoTokenOutlivesItsKey(t *testing.T) {
	days := counts.Of("simulated-days")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.start()
		plan := w.plan(days)
		for hour := range days * 24 {
			for _, act := range plan[hour] {
				w.minutes(8) // now the services hold sets of every age
				act()
				w.minutes(12)
			}
			w.hour()
		}
		w.stop(true)
		t.Logf("counted: %d days: %s", days, w.tally)
		c := w.tally
		for what, n := range map[string]int{
			"tokens": c.signed, "restarts": c.restarts, "clock steps": c.steps, "rotations": c.forced,
			"kids announced as unknown": c.unknownExcused, "keys that stopped": c.scheduled,
			"revocations": c.revoked, "revocations of retiring keys": c.retiring,
			"times down across a Sign": c.across, "erasures": c.erased, "flushes": c.flushes, "tokens refused in a cooldown": c.cooled,
			"revoked keys kept by verifiers that fetch for unknown kids only": c.kept,
		} {
			if n == 0 {
				t.Errorf("the simulation saw no %s", what)
			}
		}
	})
}

// A tally counts what happened in a simulated year.
type tally struct {
	signed, refused, checks, unknownExcused, restarts, steps, forced, revoked, scheduled, erased int

	retiring, across, flushes, kept, cooled int
}

func (c tally) String() string {
	return fmt.Sprintf("%d tokens signed, %d refused, %d checks, %d unknown kids that an answer had announced; "+
		"%d restarts, %d clock steps, %d forced rotations, %d scheduled, %d revocations, %d flushes, %d private halves erased",
		c.signed, c.refused, c.checks, c.unknownExcused, c.restarts, c.steps, c.forced, c.scheduled, c.revoked, c.flushes, c.erased)
}

// A world is one server, whose wall clock can be wrong, and services that verify its tokens.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	path    string
	master  MasterKey
	off     atomic.Int64 // wall clock of the server − correct time, in nanoseconds
	store   *bolt.Store
	rings   *Rings
	end     context.CancelFunc
	ended   chan struct{}
	handler *jwks.Handler

	published *jwks.Set                // by the server last
	document  []byte                   // that a service fetched last
	fetched   *jwks.Set                // what it read there
	lifetime  map[string]time.Duration // alg → token lifetime of its audience
	tokens    []liveToken
	services  []*service
	lazy      []*lazy
	revoked   map[string]bool      // kid
	flushed   map[string][]string  // kid of a flushed key → kids that were revoked before
	excused   map[string]time.Time // kid → until when an answer said that caches may not know it
	certified map[string][]byte    // kid → its certificate, which never changes
	stopped   map[string]time.Time // kid → correct time at which it was first seen retiring
	booted    time.Time
	upset     time.Time // until when erasures may be late: an hour after a restart or a wrong clock
	turn      int
	tally     tally
}

type liveToken struct {
	kid, text, alg string
	exp            time.Time
}

// A service keeps a set for exactly max-age. It fetches only when its set has expired and it
// is its turn, so that the sets of the services have different ages.
type service struct {
	set     *jwks.Set
	kids    map[string]bool
	expires time.Time
}

func newWorld(t *testing.T) *world {
	master, _ := NewMasterKey()
	w := &world{
		t: t, rnd: rand.New(rand.NewPCG(2030, 1)), master: master, path: quickDir(t) + "/keys.db",
		lifetime: map[string]time.Duration{RS256: 15 * time.Minute, EdDSA: time.Hour, ES256: 30 * time.Minute},
		revoked:  make(map[string]bool), flushed: make(map[string][]string), excused: make(map[string]time.Time), stopped: make(map[string]time.Time),
		certified: make(map[string][]byte),
	}
	for range 7 {
		w.services = append(w.services, &service{})
	}
	w.lazy = []*lazy{{}, {cooldown: 5 * time.Minute}}
	return w
}

// quickDir returns a directory in memory if the system has one. A year has some hundred
// thousand commits, and other tests check that commits survive a crash.
func quickDir(t *testing.T) string {
	if os.Getenv("TMPDIR") != "" {
		return t.TempDir() // chosen by the caller of the tests
	}
	dir, err := os.MkdirTemp("/dev/shm", "keymill-year-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// plan returns what happens in which hour.
func (w *world) plan(days int) map[int][]func() {
	plan := make(map[int][]func())
	hours := days * 24
	some := func(times int, act func()) {
		for range max(1, times*days/365) {
			hour := 3 + w.rnd.IntN(hours-3)
			plan[hour] = append(plan[hour], act)
		}
	}
	some(60, func() { w.restart(time.Duration(w.rnd.Int64N(int64(20*time.Minute))), true) })
	some(30, func() { w.restart(time.Duration(w.rnd.Int64N(int64(time.Minute))), false) }) // kill -9
	some(40, func() { w.stepClock(2 * time.Minute) })
	some(40, func() { w.stepClock(-2 * time.Minute) })
	some(12, func() { w.rotate(true) })
	some(12, func() { w.rotate(false) })
	some(6, w.revokeTwice)
	some(6, w.revokeRetiring)
	for _, stage := range []Stage{Active, Spare, Retiring, ""} {
		some(10, func() { w.flush(w.anyRing(), stage) })
	}
	some(10, w.flushTwice)
	some(10, w.flushAndDie)
	some(20, w.changeLifetime)
	plan[hours/3] = append(plan[hours/3], w.tenYearsAndBack)
	some(4, w.downAcrossASign)
	return plan
}

func (w *world) start() {
	w.t.Helper()
	var err error
	if w.store, err = bolt.Open(w.path, bolt.Options{}); err != nil {
		w.t.Fatal(err)
	}
	handler := jwks.NewHandler(5 * time.Minute)
	cfg := Config{
		Algorithms: SupportedAlgorithms(), RotateEvery: 720 * time.Hour, Propagation: time.Hour,
		MaxAge: 5 * time.Minute, Heartbeat: 20 * time.Minute, Master: w.master,
		Changed: func(keys []PublicKey) { w.publish(handler, keys) },
	}
	s := storagetest.RerunningIfAsked(w.store)
	create(w.t, s, cfg)
	w.rings, err = open(w.t.Context(), s, cfg, func() time.Time { return time.Now().Add(w.wrong()) })
	if err != nil {
		w.t.Fatal(err)
	}
	for alg := range w.lifetime {
		w.raise(alg)
	}
	var ctx context.Context
	ctx, w.end = context.WithCancel(w.t.Context())
	w.ended = make(chan struct{})
	go func() { defer close(w.ended); w.rings.Run(ctx) }()
	synctest.Wait()
	w.handler, w.booted = handler, time.Now()
	w.disturbed()
}

func (w *world) wrong() time.Duration { return time.Duration(w.off.Load()) }

func (w *world) publish(h *jwks.Handler, keys []PublicKey) {
	var out []jwks.Key
	for _, k := range keys {
		out = append(out, jwks.Key{KID: k.KID, Alg: k.Alg, Public: k.Public})
		if before, seen := w.certified[k.KID]; k.Certificate == nil || seen && !bytes.Equal(k.Certificate, before) {
			w.t.Fatalf("the certificate of %s is missing or another one", k.KID)
		}
		w.certified[k.KID] = k.Certificate
	}
	set, err := w.published.Replace(out...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.published = set
	h.Publish(set)
}

func (w *world) stop(clean bool) {
	w.end()
	<-w.ended
	if clean {
		if err := w.rings.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.store.Close()
	w.handler = nil
}

// disturbed allows erasures to be late by the hour that the erasure time needs to follow the
// wall clock again, and by some minutes to catch up.
func (w *world) disturbed() { w.upset = time.Now().Add(clock.TrustAfter + 10*time.Minute) }

func (w *world) restart(down time.Duration, clean bool) {
	w.tally.restarts++
	w.stop(clean)
	time.Sleep(down)
	w.start()
}

func (w *world) stepClock(by time.Duration) {
	if (w.wrong() + by).Abs() > 2*time.Minute {
		by = -w.wrong()
	}
	w.tally.steps++
	w.off.Add(int64(by))
	w.pass(time.Minute)
	w.disturbed()
}

func (w *world) tenYearsAndBack() {
	before, off := w.kids(), w.off.Load()
	w.off.Store(off + int64(10*year))
	for range 4 {
		w.pass(5 * time.Minute)
	}
	if st := w.rings.Status(); !st.Frozen || st.Ready {
		w.t.Error("a jump of ten years was not noticed")
	}
	w.off.Store(off)
	w.pass(5 * time.Minute)
	if st := w.rings.Status(); st.Frozen {
		w.t.Error("the clock is still frozen after it returned")
	}
	if fmt.Sprint(w.kids()) != fmt.Sprint(before) {
		w.t.Errorf("ten years and back changed the keys from %v to %v", before, w.kids())
	}
	w.disturbed()
}

// downAcrossASign stops the server for three hours, half of them before the next Sign time.
func (w *world) downAcrossASign() {
	next := w.nextSign()
	for time.Until(next.Add(-w.wrong())) > 90*time.Minute {
		w.pass(time.Hour)
		if w.nextSign() != next {
			return // the spare was revoked or rotated
		}
	}
	before := w.kids()
	w.restart(3*time.Hour, false)
	w.tally.across++
	if after := w.nextSign(); after.Sub(w.rings.Now()) < 10*time.Minute-time.Second {
		w.t.Errorf("after three hours down the next key signs at %s, now is %s", after, w.rings.Now())
	}
	if after := w.kids(); fmt.Sprint(after) != fmt.Sprint(before) {
		w.t.Errorf("three hours down changed the keys from %v to %v", before, after)
	}
}

func (w *world) nextSign() time.Time {
	next := schedule.Never
	for _, k := range w.list() {
		if k.Stage == Spare && k.Sign.Before(next) {
			next = k.Sign
		}
	}
	return next
}

func (w *world) anyRing() string {
	algorithms := SupportedAlgorithms()
	return algorithms[w.rnd.IntN(len(algorithms))]
}

func (w *world) rotate(force bool) {
	alg := w.anyRing()
	got, err := w.rings.Rotate(w.t.Context(), RotateRequest{Alg: alg, Force: force}, "test")
	var notReady *NotReadyError
	if errors.As(err, &notReady) {
		return
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.tally.forced++
	w.excuse(got.KID, got.UnknownUntil)
	synctest.Wait()
}

func (w *world) revokeTwice() {
	w.revoke(Active)
	time.Sleep(time.Second)
	w.revoke(Active)
}

// revokeRetiring rotates first, so that a retiring key exists.
func (w *world) revokeRetiring() {
	w.rotate(true)
	w.tally.retiring += w.revoke(Retiring)
}

func (w *world) revoke(stage Stage) int {
	for _, k := range w.list() {
		if k.Stage != stage {
			continue
		}
		got, err := w.rings.Revoke(w.t.Context(), RevokeRequest{KID: k.KID}, "test")
		if err != nil {
			w.t.Fatal(err)
		}
		w.tally.revoked++
		w.revoked[k.KID] = true
		w.excuse(got.Successor, got.UnknownUntil)
		synctest.Wait()
		return 1
	}
	return 0
}

// excuse records what an answer said, in correct time.
func (w *world) excuse(kid string, until time.Time) {
	if !until.IsZero() {
		w.excused[kid] = time.Now().Add(until.Sub(w.rings.Now()))
	}
}

func (w *world) changeLifetime() {
	alg := w.anyRing()
	w.lifetime[alg] = time.Duration(1+w.rnd.IntN(24*60)) * time.Minute
	w.raise(alg)
}

func (w *world) raise(alg string) {
	err := w.rings.Store().Update(w.t.Context(), func(tx storage.Tx) error {
		return w.rings.RaiseMaxLifetime(tx, alg, w.lifetime[alg])
	})
	if err := errors.Join(err, w.rings.Reload(w.t.Context())); err != nil {
		w.t.Fatal(err)
	}
}

// hour lets an hour pass, in small steps if a key begins to sign in it.
func (w *world) hour() {
	if until := w.nextSign().Sub(w.rings.Now()); until < time.Hour {
		w.minutes(70)
		return
	}
	for range 4 {
		w.pass(15 * time.Minute)
	}
}

func (w *world) minutes(n int) {
	for range n {
		w.pass(time.Minute)
	}
}

// pass lets time pass, signs tokens in it and checks everything.
func (w *world) pass(d time.Duration) {
	w.turn++
	first := time.Duration(w.rnd.Int64N(int64(d)))
	time.Sleep(first)
	synctest.Wait()
	w.sign(EdDSA, w.lifetime[EdDSA])
	for _, alg := range []string{RS256, ES256} { // their signatures cost more
		if w.rnd.IntN(8) == 0 {
			w.sign(alg, w.lifetime[alg])
		}
	}
	w.check()
	time.Sleep(d - first)
	synctest.Wait()
}

func (w *world) sign(alg string, lifetime time.Duration) {
	exp := w.rings.WallTime().Add(lifetime)
	payload := fmt.Appendf(nil, `{"iss":"https://a.example","aud":"api","sub":"s","client_id":"s","exp":%d}`, exp.Unix())
	text, err := w.rings.Sign(w.t.Context(), alg, "at+jwt", payload, exp)
	if err != nil {
		w.tally.refused++
		w.t.Errorf("%s: no token: %v", alg, err)
		return
	}
	w.tally.signed++
	set, _ := w.fetch()
	claims, err := jwks.Check(text, set, expectation(alg), w.rings.WallTime())
	if err != nil {
		w.t.Fatalf("a new token does not verify with the current set: %v", err)
	}
	w.meet(claims.KID)
	w.tokens = append(w.tokens, liveToken{kid: claims.KID, text: text, alg: alg, exp: exp})
}

func expectation(alg string) jwks.Expectation {
	return jwks.Expectation{Issuer: "https://a.example", Audience: "api", Algorithms: []string{alg}}
}
