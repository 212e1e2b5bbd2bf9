package keystore

import (
	"crypto/rsa"
	"maps"
	"slices"
	"time"

	"keymill/keystore/internal/keytype"
)

// maxSetBytes bounds the JSON of the published set, now and after every scheduled rotation. It is a
// little less than the least that a widespread verifier reads: 51,200 bytes, which is
// JWKSourceBuilder.DEFAULT_HTTP_SIZE_LIMIT of Nimbus JOSE+JWT. Package jwks reads 256 KiB.
const maxSetBytes = 51_000

// maxRSAWork bounds the time in which a verifier checks the RSA keys of the set: 256 keys of 2048
// bits, four of 8192 bits. Package jwks uses no more, see jwks.Parse.
const maxRSAWork = 256

// checkRoom refuses a decision of an operator after which the set would become too large. changed is
// the ring as it would be, and stopped the keys that the decision adds to the retired ones. Only
// decisions that add a key or make keys stay for longer ask it: a scheduled rotation is in the
// calculation, and a revocation never makes the set larger.
func (r *Rings) checkRoom(now time.Time, changed ring, stopped ...Key) error {
	snap := r.snapshot.Load()
	rings := maps.Clone(snap.rings)
	rings[changed.Alg] = changed
	retired := slices.Concat(snap.retired, stopped)
	work := 0
	for _, k := range slices.Concat(retired, rings[RS256].Keys) {
		if public, err := keytype.ParsePublic(k.Public); err == nil && k.Alg == RS256 {
			words := (public.(*rsa.PublicKey).N.BitLen() + keytype.RSABits - 1) / keytype.RSABits
			work += words * words * words
		}
	}
	size := r.policy().LargestSet(rings, retired, r.cfg.Algorithms, now)
	if size <= maxSetBytes && work <= maxRSAWork {
		return nil
	}
	until := ""
	if len(snap.retired) > 0 {
		next := slices.MinFunc(snap.retired, func(a, b Key) int { return a.Drop.Compare(b.Drop) })
		until = "; the next key is dropped at " + next.Drop.UTC().Format(time.RFC3339)
	}
	return invalid("invalid_request", "the key set would grow to %d bytes and RSA work %d; some verifiers read at most %d bytes and check RSA work %d; "+
		"revoke keys whose tokens have expired, or wait%s", size, work, maxSetBytes, maxRSAWork, until)
}

// checkLifetimes refuses settings and token lifetimes with which scheduled rotation alone would make
// the set too large: each key stays published until its last token has expired.
func (r *Rings) checkLifetimes(lifetime func(alg string) time.Duration) error {
	size := 0
	for _, alg := range r.cfg.Algorithms {
		size += (3 + r.policy().RotationsUntilDrop(lifetime(alg))) * keytype.OwnJWKBytes(alg)
	}
	if size <= maxSetBytes {
		return nil
	}
	return invalid("invalid_request", "with keys.rotate_every %s and tokens that live so long, the key set would grow to %d bytes, and verifiers read at least %d; "+
		"raise keys.rotate_every, or choose a shorter lifetime", r.policy().RotateEvery, size, maxSetBytes)
}
