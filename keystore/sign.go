package keystore

import (
	"context"
	"fmt"
	"time"
)

// Sign returns payload as a compact JWS (RFC 7515, section 7.1) signed by the active key
// of alg; the protected header is alg, kid and typ. exp is the payload's own: an exp that
// the key need not outlive is refused. An *UnavailableError says when to try again.
func (r *Rings) Sign(ctx context.Context, alg, typ string, payload []byte, exp time.Time) (string, error) {
	q := r.queues[alg]
	if q == nil {
		return "", notConfigured(alg)
	}
	var token string
	var err error
	if full := q.do(ctx, func() { token, err = r.signNow(alg, typ, payload, exp) }); full != nil {
		return "", full
	}
	return token, err
}

// Ready is nil if a key of alg would sign now, else an *UnavailableError: for a decision that
// should not be made while its token could not be signed. It must not be asked within a
// transaction, as an operator may hold the gate while waiting for one.
func (r *Rings) Ready(alg string) error {
	q := r.queues[alg]
	if q == nil {
		return notConfigured(alg)
	}
	if q.full() {
		return queueFull()
	}
	_, _, err := r.activeSigner(alg, time.Time{})
	return err
}

// Known lists every algorithm that a ring can have, configured or not.
func Known() []string { return []string{EdDSA, RS256} }

func notConfigured(alg string) error {
	return &UnavailableError{Reason: fmt.Sprintf("%s is not among keys.algorithms", alg), RetryAfter: time.Minute}
}

func (r *Rings) signNow(alg, typ string, payload []byte, exp time.Time) (string, error) {
	s, kid, err := r.activeSigner(alg, exp)
	if err != nil {
		return "", err
	}
	header := s.header
	if typ != typeAccessToken {
		if header, err = encodeHeader(alg, kid, typ); err != nil {
			return "", err
		}
	}
	return s.token(header, payload)
}

// activeSigner chooses the key that signs now. An operator who moves a Stop to the
// present holds the gate until the move is durable and known here: no signature falls
// between, so that Drop counts from the last one.
func (r *Rings) activeSigner(alg string, exp time.Time) (*signer, string, error) {
	r.gate.RLock()
	defer r.gate.RUnlock()
	v, now := r.view.Load(), r.Now()
	ring := v.rings[alg]
	for i := range ring.Keys {
		k := &ring.Keys[i]
		if k.Stage(now) != Active {
			continue
		}
		if exp.After(now.Add(k.Cap)) {
			return nil, "", &UnavailableError{
				Reason:     fmt.Sprintf("the %s key need not outlive a token until %s", alg, exp.UTC().Format(time.RFC3339)),
				RetryAfter: time.Second,
			}
		}
		s := v.signers[k.KID]
		if s == nil {
			return nil, "", fmt.Errorf("the private half of %s is not loaded", k.KID)
		}
		return s, k.KID, nil
	}
	return nil, "", &UnavailableError{Reason: "no " + alg + " key signs yet", RetryAfter: ring.wait(now)}
}

// wait is for how long a ring without an active key will have none.
func (r ring) wait(now time.Time) time.Duration {
	if i := r.at(now, Spare); i >= 0 {
		return r.Keys[i].Sign.Sub(now)
	}
	return time.Second
}
