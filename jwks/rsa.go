package jwks

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"slices"
	"sync"
)

// Limits of an RSA key. Above 8192 bits one verification takes milliseconds, and an attacker can
// cause many.
const (
	minRSABits = 2048
	maxRSABits = 8192

	minRSAExponent = 65537
	maxRSAExponent = 1<<31 - 1
)

// CheckRSA returns an error if key is not one that a service can trust: anyone could sign in its
// name, because its modulus can be factored with little work. It refuses
//
//   - a size outside 2048 to 8192 bits (RFC 7518, section 3.3), an even modulus, and an exponent
//     that is even or outside 65537 to 2^31-1 (FIPS 186-5, section A.1.1, allows up to 2^256);
//   - a modulus with a prime factor below 2^18;
//   - 2^n-1 and other sums or differences of few powers of two, for which the special number field
//     sieve is made;
//   - a square, and primes p and q near a ratio u/v with uv up to 64, which Fermat's method with Lehman's
//     multipliers factors in a few steps. FIPS 186-5, section A.1.3, requires distant primes;
//   - the primes of ROCA (CVE-2017-15361), by the structure that they leave in the modulus;
//   - a prime or a power of a prime;
//   - a modulus that has a prime in common with one of others. The same modulus in others is the
//     same key, and no reason to refuse it.
//
// A key whose primes were drawn at random is refused with a probability below 2^-150. A key that is
// accepted can still be weak: no check of a modulus finds random numbers that were predictable, as
// those of Debian in 2008 were.
//
// The first check of a process also computes products of the small primes, in about 2 ms. The work grows
// with the cube of the size. On a core of 2020 it takes about 6 ms for 2048 bits
// and 0.25 s for 8192 bits, most of it in the last check of the modulus itself.
func CheckRSA(key *rsa.PublicKey, others ...*rsa.PublicKey) error {
	if err := checkRSAForm(key); err != nil {
		return err
	}
	if err := checkModulus(key.N); err != nil {
		return err
	}
	one := big.NewInt(1)
	for _, other := range others {
		if other.N.Cmp(key.N) != 0 && new(big.Int).GCD(nil, nil, key.N, other.N).Cmp(one) != 0 {
			return errSharedPrime
		}
	}
	return nil
}

var errSharedPrime = errors.New("the RSA modulus has a prime in common with another key, so anyone can compute both private keys")

// checkRSAForm makes the checks that take no time.
func checkRSAForm(key *rsa.PublicKey) error {
	if key == nil || key.N == nil || key.N.Sign() <= 0 {
		return errors.New("the RSA key is empty")
	}
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return fmt.Errorf("an RSA key must have %d to %d bits, not %d", minRSABits, maxRSABits, bits)
	}
	if key.N.Bit(0) == 0 {
		return errors.New("the RSA key has an even modulus")
	}
	// With e = 1 every message is its own signature. Known forgeries of PKCS #1 v1.5
	// signatures need a small exponent such as 3. An exponent over 31 bits only costs time.
	if key.E < minRSAExponent || key.E > maxRSAExponent || key.E%2 == 0 {
		return fmt.Errorf("an RSA key must have an odd exponent of %d to 2^31-1, not %d", minRSAExponent, key.E)
	}
	return nil
}

// checkModulus looks for moduli that can be factored with little work. The cheap checks come first.
func checkModulus(n *big.Int) error {
	if p := smallFactor(n); p != 0 {
		return fmt.Errorf("the RSA modulus has the small factor %d", p)
	}
	switch {
	case sparse(n):
		return errors.New("the RSA modulus is a sum of few powers of two, such as 2^n-1")
	case closePrimes(n):
		return errors.New("the primes of the RSA modulus are equal or too close to each other")
	case roca(n):
		return errors.New("the RSA key was made by a library with the fault ROCA (CVE-2017-15361)")
	case primePower(n):
		return errors.New("the RSA modulus is a prime or a power of a prime")
	}
	return nil
}

// smallPrimes bounds the factors that are found. The products of the primes below it have 47 kB. A larger
// one would find hardly more: who plants a factor chooses its size.
const smallPrimes = 1 << 18

// smallProducts are products of 256 primes each, which together are all odd primes below smallPrimes. One
// product of all of them would take longer to compute than to divide.
var smallProducts = sync.OnceValue(func() (products []*big.Int) {
	for some := range slices.Chunk(oddPrimes(smallPrimes), 256) {
		products = append(products, multiply(some))
	}
	return products
})

func multiply(factors []uint64) *big.Int {
	product, factor := big.NewInt(1), new(big.Int)
	for _, f := range factors {
		product.Mul(product, factor.SetUint64(f))
	}
	return product
}

// oddPrimes returns the odd primes below a bound.
func oddPrimes(below int) []uint64 {
	composite := make([]bool, below)
	var primes []uint64
	for p := 3; p < below; p += 2 {
		if composite[p] {
			continue
		}
		primes = append(primes, uint64(p))
		for multiple := p * p; multiple < below; multiple += 2 * p {
			composite[multiple] = true
		}
	}
	return primes
}

// smallFactor returns the least prime factor of n below 2^18, or 0. It divides their products by n, which
// costs less than dividing n by each of them.
func smallFactor(n *big.Int) uint64 {
	rest, product := big.NewInt(1), new(big.Int)
	for _, p := range smallProducts() {
		rest.Mod(product.Mul(rest, p), n)
	}
	common := rest.GCD(nil, nil, rest, n)
	if common.IsUint64() && common.Uint64() == 1 {
		return 0
	}
	var r, divisor big.Int
	for _, p := range oddPrimes(smallPrimes) {
		if r.Mod(common, divisor.SetUint64(p)).Sign() == 0 {
			return p
		}
	}
	return 0
}

// sparse reports whether n is a sum or difference of few powers of two: fewer than one for eight
// bits. The digits of 3n xor n are those of the non-adjacent form of n, which has the fewest
// terms of all such sums. For a random number a third of them are not zero, with a deviation of
// 12 for 2048 bits, so the bound is 34 deviations away.
func sparse(n *big.Int) bool {
	form := new(big.Int).Mul(n, big.NewInt(3))
	terms := 0
	for _, word := range form.Xor(form, n).Bits() {
		terms += bits.OnesCount(uint(word))
	}
	return terms < n.BitLen()/8
}

// closePrimes finds p and q if up is close to vq for a product uv up to 64, by Fermat's method with the
// multipliers of Lehman: (up+vq)² - 4uvn is the square of up-vq, and up+vq is little more than the root of
// 4uvn. So it finds a square (p = q) as well. For primes of 1024 bits, close means that up and vq differ
// in the lower 512 bits only. For random primes the chance is below 2^-490.
func closePrimes(n *big.Int) bool {
	const products, steps = 64, 32
	var sum, square, difference, increment big.Int
	for uv := int64(1); uv <= products; uv++ {
		multiple := new(big.Int).Mul(n, big.NewInt(4*uv))
		sum.Sqrt(multiple)
		difference.Sub(square.Mul(&sum, &sum), multiple)
		for range steps {
			if isSquare(&difference) {
				return true
			}
			increment.Lsh(&sum, 1) // (sum+1)² = sum² + 2·sum + 1
			increment.SetBit(&increment, 0, 1)
			difference.Add(&difference, &increment)
			sum.Add(&sum, big.NewInt(1))
		}
	}
	return false
}

// isSquare reports whether x is a square. It looks at remainders before it computes a root: of 1,000
// numbers that are not squares only five or six get that far.
func isSquare(x *big.Int) bool {
	const squaresBelow64 = 0x0202021202030213 // bit i is set if i is a square modulo 64
	words := x.Bits()
	if x.Sign() <= 0 {
		return x.Sign() == 0
	}
	if squaresBelow64>>(words[0]&63)&1 == 0 {
		return false
	}
	rest := new(big.Int).Mod(x, big.NewInt(3*5*7*11*13*17)).Int64()
	for _, p := range []int64{3, 5, 7, 11, 13, 17} {
		if !isResidue(rest%p, p) {
			return false
		}
	}
	root := new(big.Int).Sqrt(x)
	return root.Mul(root, root).Cmp(x) == 0
}

// isResidue reports whether r is a square modulo p.
func isResidue(r, p int64) bool {
	for i := range (p + 1) / 2 {
		if i*i%p == r {
			return true
		}
	}
	return false
}

// roca reports whether n is a power of 65537 modulo each small prime. That is true if both primes
// are, as those of the library of Infineon are (Nemec and others, "The Return of Coppersmith's
// Attack", section 2): for keys of 1984 bits and more, modulo all primes up to 701. For a random
// number the chance is 2^-167.
func roca(n *big.Int) bool {
	var rest, divisor big.Int
	for _, p := range oddPrimes(702) {
		r := rest.Mod(n, divisor.SetUint64(p)).Uint64()
		power := 65537 % p
		for power != r && power != 1 {
			power = power * 65537 % p
		}
		if power != r {
			return false
		}
	}
	return true
}

// primePower reports whether n is a power of a prime p, p itself included. Then p divides 2^n-2
// (Fermat's little theorem). For n = pq that is true only if the order of 2 modulo p divides q-1. This
// has no chance for random primes, and the divisor that is found here would be p.
func primePower(n *big.Int) bool {
	two := big.NewInt(2)
	power := new(big.Int).Exp(two, n, n)
	common := new(big.Int).GCD(nil, nil, power.Abs(power.Sub(power, two)), n)
	return common.Cmp(big.NewInt(1)) != 0
}
