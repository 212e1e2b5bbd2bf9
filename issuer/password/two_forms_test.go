package password

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/refusal"
)

// TestTwoFormsOfAPasswordAreTwoHashes, whatever is stored: the memory that hashing takes counts the
// hashes. A form that matches is the last one that is hashed.
//
// R98.
func TestTwoFormsOfAPasswordAreTwoHashes(t *testing.T) {
	h := newHasher(1, 1<<40) // so much that the collector is not called, which counts from 0 again
	own, err := h.Hash(t.Context(), refusal.Secret(plainPassword))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddClass(t.Context(), policy.class()); err != nil {
		t.Fatal(err)
	}
	right, other, third := refusal.Secret(plainPassword), refusal.Secret(" wrong "), refusal.Secret("wrong")
	for _, tt := range []struct {
		kind, stored string
		forms        []refusal.Secret
		match        refusal.Secret
		hashes       int64
	}{
		{"a known user", own, []refusal.Secret{other, third}, "", 2},
		{"no user or no password", "", []refusal.Secret{other, third}, "", 2},
		{"no user, the password of another", "", []refusal.Secret{right, right}, "", 2},
		{"a damaged hash", "argon2", []refusal.Secret{other, third}, "", 2},
		{"the first form", own, []refusal.Secret{right, third}, right, 1},
		{"the second form", own, []refusal.Secret{other, right}, right, 2},
		{"an empty form", own, []refusal.Secret{"", right}, right, 2},
		{"one form", own, []refusal.Secret{other}, "", 1},
	} {
		before := h.taken
		match, weak, began, err := h.Verify(t.Context(), "", tt.stored, tt.forms...)
		if match != tt.match || weak || began.IsZero() || err != nil {
			t.Errorf("%s: the right form %v, weak %v, began %v, %v", tt.kind, match == tt.match, weak, began, err)
		}
		if n := (h.taken - before) / policy.bytes(); n != tt.hashes {
			t.Errorf("%s: %d hashes, want %d", tt.kind, n, tt.hashes)
		}
	}
}

// TestTheTimeOfTheFirstHashDoesNotShow: a failure with two forms is answered as if the second hash had
// begun when a failure of the first was due. The slowest class takes an hour here, so the hashes are
// over long before, on any machine.
//
// R98.
func TestTheTimeOfTheFirstHashDoesNotShow(t *testing.T) {
	h := newHasher(1, hashBudget)
	h.durations["pbkdf2_sha256-600000"] = time.Hour
	for kind, stored := range map[string]string{
		"unknown": "", "fast": "pbkdf2_sha256$1$seasalt$66D58GdSNziOCLUou6tWdn1bGVonTm+Mq1bk1UmsLPI=",
		"slower": "$argon2id$v=19$m=32768,t=2,p=1$cmq/xsYSIGyPxhgAnCvz6w$g2HU8W/oi8v6PY+EVjp8LnXiTQc6t3Pbn08POHSmaOM", "damaged": "x",
	} {
		for forms, due := range map[int]time.Duration{1: 72 * time.Minute, 2: 144 * time.Minute} {
			earliest := time.Now()
			_, _, began, err := h.Verify(t.Context(), "", stored, []refusal.Secret{" wrong", "wrong"}[:forms]...)
			latest := time.Now()
			if at := h.FailAt(began); err != nil || at.Before(earliest.Add(due)) || at.After(latest.Add(due)) {
				t.Errorf("%s, %d forms: answered after %v to %v, want %v; %v", kind, forms, at.Sub(latest), at.Sub(earliest), due, err)
			}
		}
	}
}

// TestTheTimeOfAFailureRunsFromTheSecondHash if the first took longer than a failure may take.
//
// R98.
func TestTheTimeOfAFailureRunsFromTheSecondHash(t *testing.T) {
	h := newHasher(1, hashBudget)
	h.durations[policy.class()] = time.Nanosecond // no machine is that fast
	earliest := time.Now()
	_, _, began, err := h.Verify(t.Context(), "", "", " wrong", "wrong")
	if first := began.Sub(earliest); err != nil || first < 100*time.Microsecond {
		t.Errorf("the second hash began %v after the request, before the first can have ended; %v", first, err)
	}
}

// TestTwoFormsTakeOnePlaceInTheQueue: both are hashed before the hash behind them, and the second is
// hashed also if the queue is full by then.
//
// R99.
func TestTwoFormsTakeOnePlaceInTheQueue(t *testing.T) {
	h := newHasher(1, hashBudget)
	h.durations[policy.class()] = time.Millisecond // so that it is not measured
	hashes := func() int64 {
		h.collecting.Lock()
		defer h.collecting.Unlock()
		return h.taken / policy.bytes()
	}
	untilDone(t, func(ctx context.Context) {
		release, err := h.acquire(ctx, policy)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if _, _, _, err := h.Verify(ctx, "", "", " wrong ", "wrong"); err != nil {
				t.Errorf("two forms: %v", err)
			}
		}()
		synctest.Wait()
		if n := h.turns.waiting(); n != 1 {
			t.Errorf("two forms take %d places", n)
		}
		var before int64
		go func() {
			done, err := h.acquire(ctx, policy)
			if err != nil {
				t.Errorf("the hash behind: %v", err)
				return
			}
			before = hashes()
			done()
		}()
		synctest.Wait()
		full, giveUp := context.WithCancel(ctx)
		for range maxHashWaiting - 2 {
			go h.Verify(full, "", "", "wrong")
		}
		synctest.Wait()
		var busy *BusyError
		if _, _, _, err := h.Verify(ctx, "", "", "wrong"); !errors.As(err, &busy) {
			t.Errorf("the queue is not full: %v", err)
		}
		h.turns.mu.Lock() // another waits since: a second place would be refused
		h.turns.others = append(h.turns.others, &turn{come: make(chan struct{})})
		h.turns.mu.Unlock()
		release()
		giveUp()
		synctest.Wait()
		if before != 4 { // the one that was released, two forms, and itself
			t.Errorf("the hash behind was number %d, want 4", before)
		}
	})
}
