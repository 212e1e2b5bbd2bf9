package keystore

import (
	"context"
	"fmt"
	"time"
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
	var token string
	var err error
	if full := q.do(ctx, func() { token, err = r.signNow(alg, typ, payload, exp) }); full != nil {
		return "", full
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
	if q.full() {
		return queueFull()
	}
	_, _, err := r.activeSigner(alg, time.Time{})
	return err
}

func notConfigured(alg string) error {
	return &UnavailableError{Reason: fmt.Sprintf("%s is not in keys.algorithms", alg), RetryAfter: time.Minute}
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

// activeSigner chooses the key that signs now. An operator's change that sets a Stop time to
// now holds signing until the change is durable and in the snapshot. So no key is chosen
// after its Stop time, and a key is not dropped before its last token has expired.
func (r *Rings) activeSigner(alg string, exp time.Time) (*signer, string, error) {
	r.signing.RLock()
	defer r.signing.RUnlock()
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
				RetryAfter: time.Second,
			}
		}
		s := snap.signers[k.KID]
		if s == nil {
			return nil, "", fmt.Errorf("the private half of %s is not loaded", k.KID)
		}
		return s, k.KID, nil
	}
	return nil, "", &UnavailableError{Reason: "no " + alg + " key can sign yet", RetryAfter: ring.untilSign(now)}
}

// untilSign returns how long a ring without an active key waits for one.
func (r ring) untilSign(now time.Time) time.Duration {
	if i := r.indexAt(now, Spare); i >= 0 {
		return r.Keys[i].Sign.Sub(now)
	}
	return time.Second
}
