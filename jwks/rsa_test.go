package jwks

import (
	"crypto/rand"
	"crypto/rsa"
	_ "embed"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

//go:embed testdata/openssl_moduli.txt
var opensslModuli string // of openssl genrsa: 2048, 2048, 3072, 4096 and 8192 bits

// modp2048 is the prime of RFC 3526, section 3.
const modp2048 = "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd" +
	"ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed" +
	"ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f" +
	"83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b" +
	"e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510" +
	"15728e5a8aacaa68ffffffffffffffff"

func hexNumber(t testing.TB, s string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		t.Fatalf("not a number: %s", s)
	}
	return n
}

func goodModuli(t testing.TB) []*big.Int {
	var all []*big.Int
	for _, line := range strings.Fields(opensslModuli) {
		all = append(all, hexNumber(t, line))
	}
	return append(all, testKeys().rsa.N)
}

// nextPrime returns the first prime from n on.
func nextPrime(n *big.Int) *big.Int {
	p := new(big.Int).SetBit(n, 0, 1)
	for !p.ProbablyPrime(0) {
		p.Add(p, big.NewInt(2))
	}
	return p
}

func randomPrime(t testing.TB, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rocaPrime returns a prime of the form k·M + 65537^a mod M, where M is the product of the first 126
// primes, as the library of Infineon makes them for keys of 1984 to 3936 bits.
func rocaPrime(t testing.TB, bits uint) *big.Int {
	t.Helper()
	m := big.NewInt(2)
	for _, p := range oddPrimes(702) {
		m.Mul(m, new(big.Int).SetUint64(p))
	}
	low := new(big.Int).Lsh(big.NewInt(3), bits-2) // the two highest bits, so that pq has all bits
	for {
		a, _ := rand.Int(rand.Reader, m)
		k, _ := rand.Int(rand.Reader, new(big.Int).Div(new(big.Int).Rsh(low, 2), m))
		p := new(big.Int).Exp(big.NewInt(65537), a, m)
		p.Add(p, k.Add(k, new(big.Int).Div(low, m)).Add(k, big.NewInt(1)).Mul(k, m))
		if p.ProbablyPrime(0) {
			return p
		}
	}
}

// weakModuli are moduli that can be factored, each with a part of the reason.
func weakModuli(t testing.TB) map[string]weakModulus {
	p, q := testKeys().rsa.Primes[0], testKeys().rsa.Primes[1]
	product := func(factors ...*big.Int) *big.Int {
		n := big.NewInt(1)
		for _, f := range factors {
			n.Mul(n, f)
		}
		return n
	}
	number := func(n int64) *big.Int { return big.NewInt(n) }
	power := func(n uint, plus int64) *big.Int {
		x := new(big.Int).Lsh(number(1), n)
		return x.Add(x, number(plus))
	}
	near := func(n *big.Int, distance uint) *big.Int { return nextPrime(new(big.Int).Add(n, power(distance, 0))) }
	third, small := randomPrime(t, 700), randomPrime(t, 420)
	return map[string]weakModulus{
		"divisible by 3":               {product(p, q, number(3)), "small factor 3"},
		"divisible by 752 and more":    {product(p, q, number(757)), "small factor 757"},
		"a factor of 17 bits":          {product(p, q, number(65537)), "small factor 65537"},
		"the largest small factor":     {product(p, q, number(262139)), "small factor 262139"},
		"the largest, twice":           {product(p, q, number(262139), number(262139)), "small factor 262139"},
		"only small factors":           {multiply(oddPrimes(2000)), "small factor 3"},
		"small, to the third":          {product(p, q, number(251), number(251), number(251)), "small factor 251"},
		"many small factors":           {product(p, number(3), number(5), randomPrime(t, 1030)), "small factor 3"},
		"repeated bytes":               {hexNumber(t, strings.Repeat("ab", 256)), "small factor"},
		"2^2048-1":                     {power(2048, -1), "small factor 3"},
		"2^2203-1, a prime":            {power(2203, -1), "powers of two"},
		"2^2069-1, composite":          {power(2069, -1), "powers of two"},
		"2^2047 and a few low bits":    {sparseNumber(power(2047, 0), 1), "powers of two"},
		"2^4095 less a few bits":       {sparseNumber(power(4095, 0), -1), "powers of two"},
		"a square":                     {product(p, p), "equal or too close"},
		"a square of a composite":      {product(testKeys().rsa.N, testKeys().rsa.N), "equal or too close"},
		"neighbours":                   {product(p, near(p, 1)), "equal or too close"},
		"primes with equal upper half": {product(p, near(p, 510)), "equal or too close"},
		"one near the double":          {product(p, near(product(p, number(2)), 500)), "equal or too close"},
		"one near three halves":        {product(p, near(new(big.Int).Rsh(product(p, number(3)), 1), 500)), "equal or too close"},
		"ROCA, 2048 bits":              {product(rocaPrime(t, 1024), rocaPrime(t, 1024)), "CVE-2017-15361"},
		"ROCA, 3072 bits":              {product(rocaPrime(t, 1536), rocaPrime(t, 1536)), "CVE-2017-15361"},
		"a prime":                      {hexNumber(t, modp2048), "a prime or a power"},
		"a cube":                       {product(third, third, third), "a prime or a power"},
		"a fifth power":                {product(small, small, small, small, small), "a prime or a power"},
	}
}

// nearRatio returns the product of two odd numbers, one of which is about u/v of the other. They are in that
// ratio but for the lower bits.
func nearRatio(t testing.TB, u, v int64, lower uint) *big.Int {
	t.Helper()
	p, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 1100))
	if err != nil {
		t.Fatal(err)
	}
	p.SetBit(p.SetBit(p, 1099, 1), 0, 1)
	q := new(big.Int).Mul(p, big.NewInt(u))
	q.Div(q, big.NewInt(v)).Add(q, new(big.Int).Lsh(big.NewInt(1), lower))
	return q.Mul(q.SetBit(q, 0, 1), p)
}

// TestPrimesNearASmallRatioAreRefused, up to the bound that docs/security.md states.
//
// R87.
func TestPrimesNearASmallRatioAreRefused(t *testing.T) {
	for _, tt := range []struct {
		u, v  int64
		close bool
	}{{1, 1, true}, {2, 3, true}, {3, 2, true}, {5, 12, true}, {7, 9, true}, {1, 64, true}, {8, 8, true}, {63, 1, true}, {16, 31, false}} {
		for _, lower := range []uint{1, 300, 500} {
			if n := nearRatio(t, tt.u, tt.v, lower); closePrimes(n) != tt.close {
				t.Errorf("a prime near %d/%d of the other, but for %d bits: close is %v", tt.u, tt.v, lower, !tt.close)
			}
		}
	}
}

type weakModulus struct {
	n      *big.Int
	reason string
}

// sparseNumber adds bits to n, or takes them away, until no small prime divides it.
func sparseNumber(n *big.Int, sign int64) *big.Int {
	for i := uint(40); ; i++ {
		x := new(big.Int).Lsh(big.NewInt(sign), i)
		if x.Add(x, n).Add(x, big.NewInt(9)); smallFactor(x) == 0 {
			return x
		}
	}
}

// TestModuliThatCanBeFactoredAreRefused by CheckRSA, NewSet and Parse, and do not affect other keys.
//
// R87.
func TestModuliThatCanBeFactoredAreRefused(t *testing.T) {
	for name, weak := range weakModuli(t) {
		public := &rsa.PublicKey{N: weak.n, E: 65537}
		if err := CheckRSA(public); err == nil || !strings.Contains(err.Error(), weak.reason) {
			t.Errorf("%s: CheckRSA: %v", name, err)
		}
		if _, err := NewSet(edKey("ed"), Key{KID: "k", Alg: RS256, Public: public}); err == nil || !strings.Contains(err.Error(), weak.reason) {
			t.Errorf("%s: NewSet: %v", name, err)
		}
		set := mustParse(t, []byte(`{"keys":[`+rsaMember("AQAB", number(weak.n))+`,`+rfc7515Key+`,`+rfc8037Key+`]}`))
		if s := set.Skipped(); len(set.Keys()) != 2 || s.Count != 1 || !strings.Contains(s.Keys[0].Reason, weak.reason) {
			t.Errorf("%s: Parse: %d keys, %v", name, len(set.Keys()), s)
		}
	}
	for n := uint(2048); n < 8192; n += 331 {
		mersenne := new(big.Int).Lsh(big.NewInt(1), n)
		if err := CheckRSA(&rsa.PublicKey{N: mersenne.Sub(mersenne, big.NewInt(1)), E: 65537}); err == nil {
			t.Errorf("2^%d-1 was accepted", n)
		}
	}
}

// TestKeysThatWereDrawnAtRandomAreAccepted, those of OpenSSL and those of Go.
func TestKeysThatWereDrawnAtRandomAreAccepted(t *testing.T) {
	all := goodModuli(t)
	for range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, key.N)
	}
	var keys []*rsa.PublicKey
	for _, n := range all {
		keys = append(keys, &rsa.PublicKey{N: n, E: 65537})
	}
	for _, key := range keys {
		if err := CheckRSA(key, keys...); err != nil {
			t.Errorf("%d bits: %v: %x", key.N.BitLen(), err, key.N)
		}
	}
}

// TestTheCheapChecksAcceptRandomNumbers of which few are divisible by no small prime. Each chance of an
// error is far below one in a million, so none may occur.
func TestTheCheapChecksAcceptRandomNumbers(t *testing.T) {
	for range 300 {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 2048))
		if err != nil {
			t.Fatal(err)
		}
		n.SetBit(n, 2047, 1)
		if n.SetBit(n, 0, 1); sparse(n) || roca(n) || closePrimes(n) {
			t.Fatalf("refused: %x", n)
		}
	}
}

// TestKeysThatShareAPrimeAreLeftOut, all of them and no other. The same modulus under two kids is one
// key, and is used.
func TestKeysThatShareAPrimeAreLeftOut(t *testing.T) {
	p, q := testKeys().rsa.Primes[0], testKeys().rsa.Primes[1]
	left, right := new(big.Int).Mul(p, randomPrime(t, 1025)), new(big.Int).Mul(q, randomPrime(t, 1025))
	other := goodModuli(t)[0]
	for name, tt := range map[string]struct {
		moduli []*big.Int
		used   string
	}{
		"two of three":      {[]*big.Int{testKeys().rsa.N, other, left}, "1"},
		"a chain":           {[]*big.Int{left, testKeys().rsa.N, right, other}, "3"},
		"two pairs, apart":  {[]*big.Int{left, right, other}, "0 1 2"},
		"one key, two kids": {[]*big.Int{other, other}, "0 1"},
		"a key with itself": {[]*big.Int{other, left, left, testKeys().rsa.N}, "0"},
	} {
		var members []string
		var keys []Key
		for i, n := range tt.moduli {
			kid := fmt.Sprint(i)
			members = append(members, strings.Replace(rsaMember("AQAB", number(n)), `"k"`, `"`+kid+`"`, 1))
			keys = append(keys, Key{KID: kid, Alg: RS256, Public: &rsa.PublicKey{N: n, E: 65537}})
		}
		set := mustParse(t, []byte(`{"keys":[`+strings.Join(members, ",")+`]}`))
		var used []string
		for _, k := range set.Keys() {
			used = append(used, k.KID)
		}
		if strings.Join(used, " ") != tt.used || set.Skipped().Count != len(keys)-len(used) {
			t.Errorf("%s: %q are used; %v", name, used, set.Skipped())
		}
		_, err := NewSet(keys...)
		if bad := len(used) < len(keys); bad != errors.Is(err, errSharedPrime) || bad != (err != nil) {
			t.Errorf("%s: NewSet: %v", name, err)
		}
	}
	public := func(n *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: 65537} }
	if err := CheckRSA(public(left), public(other), public(testKeys().rsa.N)); !errors.Is(err, errSharedPrime) {
		t.Errorf("CheckRSA with the other key: %v", err)
	}
}

// TestADocumentCannotCauseMuchWork: the moduli that are checked take the work of 256 keys of 2048
// bits, and whether a key is used does not depend on what was checked before.
func TestADocumentCannotCauseMuchWork(t *testing.T) {
	for bits, most := range map[int]int{2048: 256, 3072: 75, 4096: 32, 8192: 4} {
		n := new(big.Int).Lsh(big.NewInt(3), uint(bits-2)) // its factor 3 is found first, which saves time
		document := []byte(`{"keys":[` + repeated(maxDocumentBytes-100, func(i int) string {
			next := new(big.Int).Add(n, big.NewInt(int64(6*i+3)))
			return strings.Replace(rsaMember("AQAB", number(next)), `"k"`, fmt.Sprintf(`"r%x"`, i), 1)
		}) + `,` + rfc8037Key + `]}`)
		var before map[modulusHash]error
		for range 2 {
			set, err := parseSet(document, before)
			if err != nil {
				t.Fatal(err)
			}
			if len(set.moduli) != most || len(set.keys) != 1 {
				t.Errorf("%d bits: %d moduli were checked, want %d; %d keys are used", bits, len(set.moduli), most, len(set.keys))
			}
			before = set.moduli
		}
	}
}

// TestAModulusIsCheckedOnce, also by a Remote that fetches the set again after a change, and by
// Replace.
func TestAModulusIsCheckedOnce(t *testing.T) {
	first := mustParse(t, []byte(`{"keys":[`+rsaMember("AQAB", number(hexNumber(t, modp2048)))+`,`+rfc7515Key+`]}`))
	remembered := map[modulusHash]error{}
	for hash, err := range first.moduli {
		if err != nil {
			err = errors.New("remembered")
		}
		remembered[hash] = err
	}
	set, err := parseSet([]byte(`{"keys":[`+rsaMember("AQAB", number(hexNumber(t, modp2048)))+`]}`), remembered)
	if err != nil || set.Skipped().Count != 1 || set.Skipped().Keys[0].Reason != "remembered" || len(set.moduli) != 1 {
		t.Errorf("parsed again: %v, %v", set.Skipped(), err)
	}
	known := &Set{moduli: remembered}
	if _, err := known.Replace(Key{KID: "k", Alg: RS256, Public: &rsa.PublicKey{N: hexNumber(t, modp2048), E: 65537}}); err == nil || !strings.Contains(err.Error(), "remembered") {
		t.Errorf("Replace: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		var o origin
		document := func(more string) string {
			return `{"keys":[` + rsaMember("AQAB", number(hexNumber(t, modp2048))) + more + `]}`
		}
		o.become(serving(document(","+rfc8037Key)), false)
		r := follows(t, &o, RemoteConfig{})
		wantSet(t, r, "a")
		var found []error
		results := func() {
			for _, err := range r.fetcher.moduli {
				found = append(found, err)
			}
		}
		results()
		o.become(serving(document("")), false) // a set without a usable key is remembered too
		pass(5 * time.Minute)
		results()
		o.become(serving(document(","+rfc8037Key+", {}")), false)
		pass(5 * time.Minute)
		results()
		if len(found) != 3 || found[0] == nil || found[0] != found[1] || found[1] != found[2] {
			t.Errorf("the results of three fetches: %v", found)
		}
	})
}
