package jwks

import (
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math"
	"math/big"
)

// maxModuliWork bounds the checks of moduli in one document: their work is that of 256 keys of 2048
// bits or 4 keys of 8192 bits, one to two seconds. Documents with more RSA keys are not used in
// practice.
const maxModuliWork = 256 * work2048

const work2048 = 32 * 32 * 32

// moduli checks RSA moduli, each of them once. A Set keeps the results, so that the set after it
// only costs the time of the moduli that are new.
type moduli struct {
	before  map[modulusHash]error // results of an earlier set; may be nil
	results map[modulusHash]error // results of this set
	left    int                   // work that may still be done
}

type modulusHash [sha256.Size]byte

func newModuli(before map[modulusHash]error, most int) *moduli {
	return &moduli{before: before, results: map[modulusHash]error{}, left: most}
}

// check checks the modulus of an RSA key, and accepts every other key. Whether there is work left
// does not depend on what was checked before, so that a document always has the same result.
func (m *moduli) check(k Key) error {
	public, ok := k.Public.(*rsa.PublicKey)
	if !ok {
		return nil
	}
	hash := modulusHash(sha256.Sum256(public.N.Bytes()))
	if err, done := m.results[hash]; done {
		return err
	}
	words := (public.N.BitLen() + 63) / 64
	if m.left -= words * words * words; m.left < 0 {
		return errors.New("the set has more RSA keys than are checked: the work of 256 keys with 2048 bits")
	}
	err, done := m.before[hash]
	if !done {
		err = checkModulus(public.N)
	}
	m.results[hash] = err
	return err
}

// sharedPrimes returns the moduli among keys that have a prime in common with another one. It
// multiplies each modulus with all others, modulo itself: that costs a tenth of a second for 256
// keys, and the divisors of all pairs would cost seconds.
func sharedPrimes(keys []Key) map[string]bool {
	var distinct []*big.Int
	seen := map[string]bool{}
	for _, k := range keys {
		if public, ok := k.Public.(*rsa.PublicKey); ok && !seen[string(public.N.Bytes())] {
			seen[string(public.N.Bytes())] = true
			distinct = append(distinct, public.N)
		}
	}
	shared := map[string]bool{}
	one := big.NewInt(1)
	for i, n := range distinct {
		product := big.NewInt(1)
		for j, other := range distinct {
			if j != i {
				product.Mod(product.Mul(product, other), n)
			}
		}
		if product.GCD(nil, nil, product, n).Cmp(one) != 0 {
			shared[string(n.Bytes())] = true
		}
	}
	return shared
}

// sharesPrime reports whether shared has the modulus of k.
func (k Key) sharesPrime(shared map[string]bool) bool {
	public, ok := k.Public.(*rsa.PublicKey)
	return ok && shared[string(public.N.Bytes())]
}

// noLimit is for keys that the program itself chose.
const noLimit = math.MaxInt
