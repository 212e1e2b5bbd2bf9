package keystore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
)

// TestAFlushIsOneChangeThatAnyFailureLeavesOut: of a key in each stage, with a store that fails.
//
// I6.
func TestAFlushIsOneChangeThatAnyFailureLeavesOut(t *testing.T) {
	for _, was := range []Stage{Active, Spare, Retiring, ""} { // "": a rotation
		inBubble(t, func(b *fixture) {
			b.run(time.Second)
			b.rotate() // so that there is a retiring key
			b.run(time.Second)
			kid, next := b.stage(was), b.stage(Reserve)
			flush := func() error {
				if was == "" {
					_, err := b.rings.Rotate(b.t.Context(), RotateRequest{Alg: EdDSA, Flush: true}, "test")
					return err
				}
				_, err := b.rings.Revoke(b.t.Context(), RevokeRequest{KID: kid, Flush: true}, "test")
				return err
			}
			before := b.stages()
			b.store.failUpdates.Store(1)
			if err := flush(); !errors.Is(err, errInjected) || fmt.Sprint(b.stages()) != fmt.Sprint(before) {
				b.t.Errorf("%s: the store failed with %v, and %v became %v", was, err, before, b.stages())
			}
			if err := flush(); err != nil || b.stage(Active) != next || b.stage(was) == kid && was != "" {
				b.t.Errorf("%s: %v, %v became %v; want that %s signs", was, err, before, b.stages(), next)
			}
			b.store.afterUpdate = nil
			after := b.stages()
			b.open() // what a kill leaves behind
			if b.stage(Active) != next || was != Spare && fmt.Sprint(b.stages()) != fmt.Sprint(after) {
				b.t.Errorf("%s: after a crash %v are %v", was, after, b.stages())
			}
			b.run(time.Second)
			if st := b.rings.Status(); !st.Ready || b.stage(Reserve) == "" {
				b.t.Errorf("%s: a second later %v, %+v", was, b.stages(), st)
			}
		})
	}
}

// stages maps each kid to the stage of its key.
func (b *fixture) stages() map[string]Stage {
	out := map[string]Stage{}
	keys, _ := b.rings.List(b.t.Context())
	for _, k := range keys {
		out[k.KID] = k.Stage
	}
	return out
}

// TestAFlushThatIsNotPossibleRevokesNothing: without a reserve, of the reserve itself, of a ring that is not configured,
// with a reserve that does not open, and while the keys cannot be read.
func TestAFlushThatIsNotPossibleRevokesNothing(t *testing.T) {
	refused := func(b *fixture, kid, code, about string) {
		b.t.Helper()
		before := b.stages()
		_, err := b.rings.Revoke(b.t.Context(), RevokeRequest{KID: kid, Flush: true}, "test")
		var bad *InvalidError
		if !errors.As(err, &bad) || bad.Code != code || !strings.Contains(bad.Description, about) {
			b.t.Errorf("revoke: %v, want %s about %q", err, code, about)
		}
		if after := b.stages(); !maps.Equal(before, after) {
			b.t.Errorf("%v became %v", before, after)
		}
	}
	inBubble(t, func(b *fixture) { // right after the start
		refused(b, b.stage(Active), "no_reserve", "EdDSA has no reserve")
		if _, err := b.rings.Rotate(b.t.Context(), RotateRequest{Alg: EdDSA, Flush: true}, "test"); !isInvalid(err, "no_reserve") {
			b.t.Errorf("rotate: %v", err)
		}
		b.run(time.Second)
		refused(b, b.stage(Reserve), "invalid_request", "no verifier has")
		refused(b, "unknown", "not_found", "list the keys")

		for range 2 { // twice in a row, and once there is another reserve again
			if _, err := b.rings.Rotate(b.t.Context(), RotateRequest{Alg: EdDSA, Flush: true}, "test"); err != nil {
				b.t.Errorf("rotate: %v", err)
			}
			refused(b, b.stage(Active), "no_reserve", "try again")
			b.run(time.Second)
		}
	})
	inBubble(t, func(b *fixture) {
		b.cfg.Algorithms = []string{EdDSA, RS256}
		b.open()
		raise(b.t, b.rings, RS256, time.Minute)
		b.run(b.cfg.Propagation + time.Second)
		old := ""
		for _, k := range b.rings.snapshot.Load().rings[RS256].Keys {
			if k.Stage(b.rings.Now()) == Active {
				old = k.KID
			}
		}
		b.cfg.Algorithms = []string{EdDSA}
		b.open()
		b.run(time.Second)
		refused(b, old, "invalid_request", "RS256 is not in keys.algorithms")
		if _, err := b.rings.Revoke(b.t.Context(), RevokeRequest{KID: old}, "test"); err != nil {
			b.t.Errorf("without flush: %v", err)
		}
	})
	r, s := newRings(t)
	run(t, r)
	until(t, "a reserve", func() bool { return stage(t, r, Reserve) != "" })
	active := stage(t, r, Active)
	damageBelow(t, s, privateKey(stage(t, r, Reserve)))
	for _, kid := range []string{active, stage(t, r, Spare)} {
		if _, err := r.Revoke(t.Context(), RevokeRequest{KID: kid, Flush: true}, "test"); !errors.Is(err, storage.ErrDamaged) || stage(t, r, Active) != active {
			t.Errorf("with a damaged reserve: %v, %s signs", err, stage(t, r, Active))
		}
	}
}

func isInvalid(err error, code string) bool {
	var bad *InvalidError
	return errors.As(err, &bad) && bad.Code == code
}

// TestAFlushChangesOneRing: the ring of the key, and says so in the audit log and in its answer.
func TestAFlushChangesOneRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, quickDir(t)+"/db")
		defer s.Close()
		master, _ := NewMasterKey()
		cfg := trial(master)
		cfg.Algorithms = []string{EdDSA, RS256}
		create(t, s, cfg)
		r, err := Open(t.Context(), s, cfg)
		if err != nil {
			t.Fatal(err)
		}
		raise(t, r, EdDSA, time.Minute)
		raise(t, r, RS256, time.Minute)
		go r.Run(t.Context())
		time.Sleep(time.Second)
		synctest.Wait()
		kid := func(alg string, stage Stage) string {
			ring := r.snapshot.Load().rings[alg]
			if i := ring.IndexAt(r.Now(), stage); i >= 0 {
				return ring.Keys[i].KID
			}
			return ""
		}
		other := r.snapshot.Load().rings[EdDSA]
		active, spare, reserve := kid(RS256, Active), kid(RS256, Spare), kid(RS256, Reserve)
		got, err := r.Revoke(t.Context(), RevokeRequest{KID: active, Flush: true}, "uid:7")
		if err != nil || got.Was != Active || got.Successor != reserve || !got.UnknownUntil.Equal(r.Now().Add(cfg.MaxAge)) {
			t.Errorf("revoke: %+v, %v", got, err)
		}
		if kid(RS256, Active) != reserve || kid(RS256, Spare) != spare || !r.snapshot.Load().rings[EdDSA].Equal(other) {
			t.Errorf("the rings are %+v", r.snapshot.Load().rings)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		reserve = kid(RS256, Reserve)
		rotated, err := r.Rotate(t.Context(), RotateRequest{Alg: RS256, Flush: true, Check: func(string) error { return errInjected }}, "uid:7")
		if err != nil || rotated.KID != reserve || rotated.Previous != got.Successor || rotated.Spare != spare || !rotated.UnknownUntil.Equal(r.Now().Add(cfg.MaxAge)) {
			t.Errorf("rotate: %+v, %v", rotated, err)
		}
		want := []string{
			"key.revoke " + active + " true", "key.publish " + got.Successor + " ", "key.sign " + got.Successor + " ",
			"key.rotate " + reserve + " true", "key.stop " + got.Successor + " ", "key.publish " + reserve + " ", "key.sign " + reserve + " ",
		}
		var told []string
		if _, err := audit.Chain(t.Context(), r.Store()); err != nil {
			t.Fatal(err)
		}
		page, err := audit.Read(t.Context(), r.Store(), audit.Query{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Records {
			if line := e.Action + " " + e.Target + " " + strings.TrimSuffix(e.Detail["flush"], "false"); slices.Contains(want, line) {
				told = append(told, line)
			}
		}
		if !slices.Equal(told, want) {
			t.Errorf("the audit log has %q, want %q", told, want)
		}
	})
}

// A lazy service of the simulated year fetches the set only for an unknown kid, as go-oidc does, and not again before
// its cooldown is over, as jose does.
type lazy struct {
	service
	cooldown time.Duration
	fetched  time.Time
}

// meet shows a new token to the services that fetch for an unknown kid. The rules of a flush: such a service has no
// key that was revoked before it, as soon as it has met the flushed key. Without a flush it may have one. It may
// refuse tokens of the flushed key, and of others that an answer announced, for its cooldown, and no other token ever.
func (w *world) meet(kid string) {
	now := time.Now()
	for _, l := range w.lazy {
		if !l.kids[kid] && now.Before(l.fetched.Add(l.cooldown)) {
			if _, announced := w.excused[kid]; !announced {
				w.t.Fatalf("%s after its fetch a verifier with a cooldown does not know %s, which no answer announced", now.Sub(l.fetched), kid)
			}
			w.tally.cooled++
			continue
		}
		if !l.kids[kid] {
			l.fetch(w, now)
			l.fetched = now
		}
		for revoked := range w.revoked {
			switch {
			case !l.kids[revoked]:
			case slices.Contains(w.flushed[kid], revoked):
				w.t.Fatalf("a verifier met the flushed key %s and still has the key %s, which was revoked before", kid, revoked)
			default:
				w.tally.kept++
			}
		}
	}
}

// flush revokes a key in that stage, or rotates, with a flush. The rule: its answer announces tokens of unknown kid for
// max-age, of the flushed key only. The spare stays what it is.
func (w *world) flush(alg string, stage Stage) {
	of := func(stage Stage) (out KeyInfo) {
		for _, k := range w.list() {
			if k.Alg == alg && k.Stage == stage {
				out = k
			}
		}
		return out
	}
	spare, reserve, signer, unknown := of(Spare), of(Reserve), "", time.Time{}
	if reserve.KID == "" {
		return // some minutes after the last flush
	}
	if k := of(stage); k.KID == "" {
		got, err := w.rings.Rotate(w.t.Context(), RotateRequest{Alg: alg, Flush: true}, "test")
		if err != nil {
			w.t.Fatal(err)
		}
		signer, unknown = got.KID, got.UnknownUntil
	} else {
		got, err := w.rings.Revoke(w.t.Context(), RevokeRequest{KID: k.KID, Flush: true}, "test")
		if err != nil {
			w.t.Fatal(err)
		}
		w.tally.revoked++
		w.revoked[k.KID] = true
		signer, unknown = got.Successor, got.UnknownUntil
	}
	if signer != reserve.KID || signer != of(Active).KID || unknown.Sub(w.rings.Now()) != 5*time.Minute {
		w.t.Errorf("a flush: %s signs, announced until %s; want the reserve %s, for max-age", signer, unknown, reserve.KID)
	}
	if now := of(Spare); stage != Spare && (now.KID != spare.KID || !now.Publish.Equal(spare.Publish)) {
		w.t.Errorf("a flush changed the spare from %+v to %+v", spare, now)
	}
	w.tally.flushes++
	w.excuse(signer, unknown)
	w.flushed[signer] = slices.Collect(maps.Keys(w.revoked))
	synctest.Wait()
}

// flushAndDie flushes, and the server is killed after its answer.
func (w *world) flushAndDie() {
	w.flush(w.anyRing(), Active)
	w.restart(0, false)
}

// flushTwice flushes again while a verifier that has fetched for the first key may not fetch.
func (w *world) flushTwice() {
	for range 2 {
		w.flush(EdDSA, "")
		w.minutes(1)
	}
}
