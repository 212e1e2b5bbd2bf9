package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keymill/keystore/internal/libcrypto"
	"keymill/keystore/internal/signing"
)

// Sign returns payload as a compact JWS (RFC 7515, section 7.1), signed by the active key of
// alg. Its protected header holds alg, kid and typ. exp is the expiry in the payload. It is
// refused if it exceeds the key's maximum token lifetime, because the key would be dropped
// before the token expires. An *UnavailableError says when to try again.
func (r *Rings) Sign(ctx context.Context, alg, typ string, payload []byte, exp time.Time) (string, error) {
	q := r.queues[alg]
	if q == nil {
		return "", notConfigured(alg)
	}
	token, err := r.signInTurn(ctx, q, job{alg, typ, payload, exp})
	if _, short := errors.AsType[*lifetimeError](err); short && r.cfg.Nodes != nil {
		// Another node may have raised the maximum, and this one has not read it yet.
		if err := r.Reload(ctx); err != nil {
			return "", err
		}
		token, err = r.signInTurn(ctx, q, job{alg, typ, payload, exp})
	}
	if errors.Is(err, libcrypto.ErrGivenUp) {
		if err := r.leaveLibcrypto(ctx); err != nil {
			return "", err
		}
		token, err = r.signInTurn(ctx, q, job{alg, typ, payload, exp})
	}
	return token, err
}

// A job is what Sign was asked for.
type job struct {
	alg, typ string
	payload  []byte
	exp      time.Time
}

func (r *Rings) signInTurn(ctx context.Context, q *signing.Queue, j job) (string, error) {
	if q.Begin() {
		defer q.End()
		return r.signNow(j)
	}
	return r.signLater(ctx, q, j)
}

// signLater signs when a slot of the queue is free.
func (r *Rings) signLater(ctx context.Context, q *signing.Queue, j job) (token string, err error) {
	if notRun := q.Do(ctx, func() { token, err = r.signNow(j) }); notRun != nil {
		return "", unavailableIfFull(notRun)
	}
	return token, err
}

// Ready returns nil if a key of alg can sign now, else an *UnavailableError. A decision that
// leads to a token calls Ready before it writes. Ready must not be called in a transaction:
// an operator's change waits for the store while it holds the lock that Ready waits for.
func (r *Rings) Ready(alg string) error {
	q := r.queues[alg]
	if q == nil {
		return notConfigured(alg)
	}
	if q.Full() {
		return unavailableIfFull(signing.ErrFull)
	}
	_, _, err := r.activeSigner(alg, time.Time{})
	return err
}

// unavailableIfFull returns an *UnavailableError for a full queue.
func unavailableIfFull(err error) error {
	if errors.Is(err, signing.ErrFull) {
		return &UnavailableError{Reason: "too many tokens are waiting for a signature", RetryAfter: time.Second}
	}
	return err
}

func notConfigured(alg string) error {
	return &UnavailableError{Reason: fmt.Sprintf("%s is not in keys.algorithms", alg), RetryAfter: time.Minute}
}

func (r *Rings) signNow(j job) (string, error) {
	s, kid, err := r.activeSigner(j.alg, j.exp)
	if err != nil {
		return "", err
	}
	token, err := s.Token(j.alg, kid, j.typ, j.payload)
	switch {
	case err == nil:
		err = r.current() // the process may have been paused since it chose the key
	case errors.Is(err, libcrypto.ErrErased) && r.snapshot.Load().signers[kid] != s:
		return r.signNow(j) // the key stopped since it was chosen
	case errors.Is(err, libcrypto.ErrNoMemory):
		err = &UnavailableError{Reason: err.Error(), RetryAfter: time.Second}
	}
	if err != nil {
		return "", err
	}
	return token, nil
}

// activeSigner chooses the key that signs now. An operator's change that sets a Stop time to
// now holds signing until the change is durable and in the snapshot. So no key is chosen
// after its Stop time, and a key is not dropped before its last token has expired.
func (r *Rings) activeSigner(alg string, exp time.Time) (*signing.Signer, string, error) {
	r.signing.RLock()
	defer r.signing.RUnlock()
	if err := r.current(); err != nil {
		return nil, "", err
	}
	snap, now := r.snapshot.Load(), r.Now()
	ring := snap.rings[alg]
	for i := range ring.Keys {
		k := &ring.Keys[i]
		if k.Stage(now) != Active {
			continue
		}
		if exp.After(now.Add(k.MaxLifetime)) {
			return nil, "", &UnavailableError{
				Reason:     fmt.Sprintf("token expiry %s exceeds the maximum token lifetime of the %s key", exp.UTC().Format(time.RFC3339), alg),
				RetryAfter: time.Second, cause: new(lifetimeError),
			}
		}
		s := snap.signers[k.KID]
		if s == nil {
			return nil, "", fmt.Errorf("the private half of %s is not loaded", k.KID)
		}
		return s, k.KID, nil
	}
	return nil, "", &UnavailableError{Reason: "no " + alg + " key can sign yet", RetryAfter: ring.UntilSign(now)}
}
