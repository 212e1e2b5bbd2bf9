package schedule

import (
	"slices"
	"time"

	"keymill/keystore/internal/keytype"
)

// SetBytes returns the size of a set of keys as JSON, or a little more.
func SetBytes(keys ...Key) int {
	total := len(`{"keys":[]}`)
	for _, k := range keys {
		public, _ := keytype.ParsePublic(k.Public)
		total += keytype.JWKBytes(k.KID, public)
	}
	return total
}

// RotationsUntilDrop returns how often a ring rotates while a key that has stopped is published.
func (p Policy) RotationsUntilDrop(lifetime time.Duration) int {
	return int((lifetime + p.Linger() + p.RotateEvery - 1) / p.RotateEvery)
}

// LargestSet returns the size that the published set will have at most, if nothing but scheduled
// rotation changes it. Each rotation adds a key and drops those whose time is over by then.
// Unconfigured rings do not rotate.
func (p Policy) LargestSet(rings map[string]Ring, retired []Key, configured []string, now time.Time) int {
	total := 0
	for _, alg := range keytype.Algorithms() {
		r, rotations := rings[alg], 0
		published := slices.DeleteFunc(slices.Clone(r.Keys), func(k Key) bool { return k.Stage(now) == Reserve })
		base := SetBytes(published...)
		if slices.Contains(configured, alg) {
			rotations = p.RotationsUntilDrop(r.MaxLifetime)
			base += max(0, 2-len(published)) * keytype.OwnJWKBytes(alg)
		}
		sizes := make([]int, rotations+1) // after so many rotations
		for n := range sizes {
			sizes[n] = base + n*keytype.OwnJWKBytes(alg)
		}
		for _, k := range retired {
			if k.Alg != alg {
				continue
			}
			size := SetBytes(k)
			for n := range sizes {
				if n == 0 || now.Add(time.Duration(n)*p.RotateEvery).Before(k.Drop) {
					sizes[n] += size
				}
			}
		}
		total += slices.Max(sizes)
	}
	return total
}
