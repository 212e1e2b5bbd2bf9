package verifiers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"keymill/integration_test/counts"
	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/keystore"
)

// TestARotationByHandNeverOutrunsAPinnedVerifier: in a year of rotations by hand and by schedule, restarts and
// crashes, no pinned verifier that obeys the rule sees a kid that it does not know because of a rotation by hand
// without force. The rule: it uses a set for its own interval, a fifth longer at most, and fetches before it goes on after
// a longer sleep. Others lie, vanish or use what a cache has; they and a client of a thousand names delay nothing.
// Each scheduled rotation comes on time. Without the check the same year shows lapses.
func TestARotationByHandNeverOutrunsAPinnedVerifier(t *testing.T) {
	days := counts.Of("verifier-days")
	synctest.Test(t, func(t *testing.T) {
		y := newYear(t, true)
		y.live(days)
		t.Logf("counted: %d days: %+v", days, y.tally)
		c := y.tally
		for what, n := range map[string]int{
			"rotations by hand": c.byHand, "scheduled rotations": c.scheduled, "refusals": c.refused, "rotations that came too early": c.early,
			"restarts": c.restarts, "crashes": c.crashes, "sleeps": c.sleeps, "hang-ups": c.hungUp, "answers of a cache": c.cached, "warnings": len(y.warnings()),
		} {
			if n == 0 {
				t.Errorf("the year saw no %s", what)
			}
		}
		if c.lapses > 0 {
			t.Errorf("%d lapses", c.lapses)
		}
		if n := len(y.Observed()); n == 0 || n > maxObserved {
			t.Errorf("%d are observed", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		y := newYear(t, false)
		y.live(max(4, days/20))
		t.Logf("without the check: %+v", y.tally)
		if y.tally.lapses == 0 {
			t.Error("without the check no verifier lapses, so the test shows nothing")
		}
	})
}

// A yearTally counts what happened.
type yearTally struct {
	byHand, scheduled, refused, early, restarts, crashes, sleeps, hungUp, cached, lapses int
}

// A year is a server and services that fetch its key set.
type year struct {
	*world
	rnd      *rand.Rand
	checked  bool // rotations by hand ask CheckServed
	end      func()
	services []*service
	cached   *held // of the cache in front of some services
	current  *jwks.Set
	kids     []string             // of current
	active   string               // kid
	byHand   bool                 // how active began to sign
	planned  map[string]time.Time // kid of a spare → its Sign
	lapsed   map[string]bool      // service and kid
	crashed  time.Time            // last
	stranger int
	tally    yearTally
}

// A held set, and when it was fetched.
type held struct {
	set *jwks.Set
	at  time.Time
}

// A service fetches the key set in its own way.
type service struct {
	name, credential string
	every            time.Duration
	promised         bool                            // it obeys the rule
	fetch            func(y *year, s *service) *held // nil if it gets nothing
	burst            int                             // more fetches at once
	sleeps           bool                            // for days, again and again
	vanishes         time.Duration                   // after its start; 0 for never

	has   *held
	known int // visits
	next  time.Time
}

func newYear(t *testing.T, checked bool) *year {
	keys := testKeys
	keys.RotateEvery, keys.MaxAge, keys.Heartbeat = 4*day, 15*time.Minute, time.Hour
	y := &year{
		world: newWorldOf(t, keys), rnd: rand.New(rand.NewPCG(12, 1)), checked: checked,
		planned: map[string]time.Time{}, lapsed: map[string]bool{},
	}
	for _, s := range []*service{
		{name: "minutes", every: 15 * time.Minute, promised: true, fetch: (*year).pinnedFetch},
		{name: "hours", every: time.Hour, promised: true, fetch: (*year).pinnedFetch},
		{name: "half-day", every: 12 * time.Hour, promised: true, fetch: (*year).pinnedFetch},
		{name: "daily", every: day, promised: true, fetch: (*year).pinnedFetch},
		{name: "burst", every: day, burst: 20, promised: true, fetch: (*year).pinnedFetch},
		{name: "sleeper", every: 3 * time.Hour, sleeps: true, promised: true, fetch: (*year).pinnedFetch},
		{name: "hangs-up", every: 8 * time.Hour, promised: true, fetch: (*year).hangUp},
		{name: "cache-1", every: 6 * time.Minute, promised: true, fetch: (*year).cachedFetch},
		{name: "cache-2", every: 8 * time.Minute, promised: true, fetch: (*year).cachedFetch},
		{name: "vanished", every: 30 * time.Minute, vanishes: 3 * day, fetch: (*year).pinnedFetch},
		{name: "once", every: day, vanishes: time.Minute, fetch: (*year).pinnedFetch},
		{name: "slow", every: 6 * day, vanishes: 6 * day, fetch: (*year).pinnedFetch},
		{name: "shared", every: day, fetch: (*year).pinnedFetch}, // the next one lies in its name
		{name: "liar", every: 7 * time.Hour, fetch: func(y *year, _ *service) *held { return y.pinnedFetch(y.named("shared")) }},
		{name: "forger", every: 7 * time.Hour, fetch: (*year).forge},
		{name: "only-head", every: 15 * time.Minute, fetch: func(*year, *service) *held { return nil }},
	} {
		s.credential = y.add(s.name).Credential
		s.next = time.Now()
		y.services = append(y.services, s)
	}
	y.start()
	return y
}

func (y *year) named(name string) *service {
	return y.services[slices.IndexFunc(y.services, func(s *service) bool { return s.name == name })]
}

func (y *year) start() {
	ctx, cancel := context.WithCancel(context.Background())
	keysEnded := make(chan error, 1)
	go func() { keysEnded <- y.keys.Run(ctx) }()
	registryEnd := y.run()
	y.end = func() {
		if err := registryEnd(); err != nil {
			y.t.Error(err)
		}
		cancel()
		<-keysEnded
	}
	y.look(true)
}

func (y *year) live(days int) {
	for range days {
		restart, attempts := y.rnd.IntN(24), y.rnd.Perm(24)[:5]
		if y.checked && y.quiet() {
			attempts = nil
		}
		for hour := range 24 {
			for range 30 {
				time.Sleep(2 * time.Minute)
				y.step()
			}
			if slices.Contains(attempts, hour) {
				y.rotate()
			}
			if hour == restart && y.rnd.IntN(2) == 0 {
				y.restart(y.rnd.IntN(2) == 0)
			}
		}
	}
	y.end()
}

// quiet reports whether no operator rotates for some days, so that the schedule does.
func (y *year) quiet() bool {
	return time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))%(20*day) < 9*day
}

func (y *year) restart(crash bool) {
	if crash {
		y.tally.crashes++
		y.crashed = time.Now()
		y.store.fail(errInjected) // so that the end writes nothing
		y.end()
		y.file.Close()
	} else {
		y.tally.restarts++
		y.end()
		if err := y.keys.Close(); err != nil {
			y.t.Fatal(err)
		}
		y.file.Close()
	}
	time.Sleep(time.Duration(y.rnd.IntN(10)) * time.Minute)
	y.reopen()
	y.start()
}

// step lets the services fetch what they need, and verify a token.
func (y *year) step() {
	y.look(false)
	now := time.Now()
	for _, s := range y.services {
		if now.Before(s.next) || s.vanishes > 0 && s.known > int(s.vanishes/s.every) {
			continue
		}
		y.visit(s, now)
	}
	y.strangers()
	y.verify()
}

func (y *year) visit(s *service, now time.Time) {
	s.next = now.Add(time.Duration(float64(s.every) * (0.8 + 0.4*y.rnd.Float64())))
	for range s.burst {
		s.fetch(y, s)
	}
	got := s.fetch(y, s)
	if got == nil {
		s.next = now.Add(s.every / 10)
		return
	}
	s.has = got
	s.known++
	if s.sleeps && y.rnd.IntN(10) == 0 {
		y.tally.sleeps++
		s.next = now.Add(time.Duration(1+y.rnd.IntN(5)) * day)
	}
}

// verify lets all that have a set which they use verify a token that was signed now.
func (y *year) verify() {
	for _, s := range y.services {
		// While the interval is not known yet, a rotation waits for twice max-age only.
		if !s.promised || s.known < 3 || time.Since(s.has.at) > s.every*6/5 {
			continue
		}
		if _, found := s.has.set.Key(y.active); found || !y.byHand || y.lapsed[s.name+y.active] {
			continue
		}
		y.lapsed[s.name+y.active] = true
		y.tally.lapses++
		if y.checked {
			y.t.Errorf("%s: %s has the set of %s without the key that signs", time.Now(), s.name, s.has.at)
		}
	}
}

func (y *year) pinnedFetch(s *service) *held {
	if name := y.identify(s.credential); name != s.name || !y.ServedPinned(s.credential, y.current) {
		y.t.Fatalf("%s is taken for %q", s.name, name)
	}
	return &held{y.current, time.Now()}
}

// hangUp gets nothing in one of two tries.
func (y *year) hangUp(s *service) *held {
	if y.rnd.IntN(2) == 0 {
		y.tally.hungUp++
		return nil
	}
	return y.pinnedFetch(s)
}

// cachedFetch is answered by a cache, which fetches with the credential of the first of them. It says how old the answer
// is, so the service has it for the rest of max-age.
func (y *year) cachedFetch(*service) *held {
	if y.cached == nil || time.Since(y.cached.at) >= y.keysOf.MaxAge {
		y.cached = y.pinnedFetch(y.named("cache-1"))
	} else {
		y.tally.cached++
	}
	return y.cached
}

// forge sends a name of another with a tag of its own.
func (y *year) forge(s *service) *held {
	forged := "daily" + s.credential[len(s.name):]
	if y.ServedPinned(forged, y.current) {
		y.t.Fatalf("%s is taken for a credential", forged)
	}
	y.Served(Fetch{Address: netip.MustParseAddr("192.0.2.66"), Agent: "forger", Set: y.current})
	return &held{y.current, time.Now()}
}

// strangers fetch with a thousand names of verifiers and from a thousand addresses.
func (y *year) strangers() {
	for range 5 {
		y.stranger = (y.stranger + 1) % 1500
		address := netip.AddrFrom4([4]byte{198, 51, byte(y.stranger >> 8), byte(y.stranger)})
		if forged := fmt.Sprintf("v%03d.aaaaaaaaaaaaaaaa", y.stranger%1000); y.ServedPinned(forged, y.current) {
			y.t.Fatalf("%s is taken for a credential", forged)
		}
		y.Served(Fetch{Address: address, Agent: "stranger", Set: y.current})
	}
}

// look reads the keys, and finds a rotation that was not on time.
func (y *year) look(restarted bool) {
	now := y.keys.Now()
	var kids []string
	for _, k := range y.keys.Published() {
		kids = append(kids, k.KID)
	}
	if !slices.Equal(kids, y.kids) {
		y.kids, y.current = kids, y.set()
	}
	for _, k := range must(y.keys.List(context.Background())) {
		at, known := y.planned[k.KID]
		switch {
		case k.Stage == keystore.Spare:
			if known && k.Sign.After(at) && !restarted {
				y.t.Errorf("%s: the rotation of %s was put off to %s", now, at, k.Sign)
			}
			if now.After(k.Sign.Add(time.Second)) {
				y.t.Errorf("%s: a spare does not sign since %s", now, k.Sign)
			}
			y.planned[k.KID] = k.Sign
		case k.Stage == keystore.Active && k.KID != y.active:
			if y.active != "" {
				y.tally.scheduled++
			}
			if late := now.Sub(k.Sign); !restarted && late > 3*time.Minute {
				y.t.Errorf("%s: a rotation came %s late", now, late)
			}
			y.active, y.byHand = k.KID, false
		}
	}
}

// rotate is a rotation by hand, without force.
func (y *year) rotate() {
	req := keystore.RotateRequest{Alg: "EdDSA"}
	if y.checked {
		req.Check = y.CheckServed
	}
	done, err := y.keys.Rotate(context.Background(), req, "uid:0")
	var early *keystore.NotReadyError
	var no *refusal.Refusal
	switch {
	case errors.As(err, &early):
		y.tally.early++
	case errors.As(err, &no) && no.Code == "not_served":
		y.tally.refused++
		y.checkRefusal()
	case err != nil:
		y.t.Fatal(err)
	default:
		y.tally.byHand++
		y.active, y.byHand = done.KID, true
		y.verify()
		if y.rnd.IntN(2) == 0 {
			y.rotate() // the next spare was published at that moment
		}
	}
}

// checkRefusal compares those that a refusal names with the services: each of them lacks the spare, unless a crash has
// lost its last visit.
func (y *year) checkRefusal() {
	spare := y.spare()
	for _, b := range y.Reach(spare).Behind {
		s := y.named(b.Name)
		if !b.Waited || s.has == nil {
			continue
		}
		if _, found := s.has.set.Key(spare); found && s.has.at.After(y.crashed) && s.name != "cache-2" {
			y.t.Errorf("%s: a rotation waits for %s, which was served the spare at %s", time.Now(), s.name, s.has.at)
		}
	}
}
