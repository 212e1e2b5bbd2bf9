//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// oddKeys are what crypto/rsa takes, and what keys of other systems can be.
func oddKeys(t *testing.T) map[string]*rsa.PrivateKey {
	t.Helper()
	keys := map[string]*rsa.PrivateKey{
		"1024 bits":       makeKey(t, 65537, 512, 512),
		"e is 3":          makeKey(t, 3, 1024, 1024),
		"e has 31 bits":   makeKey(t, 1<<31-1, 1024, 1024),
		"unequal primes":  makeKey(t, 65537, 1100, 948),
		"three primes":    makeKey(t, 65537, 700, 700, 648),
		"2047 bits and e": makeKey(t, 17, 1023, 1024),
	}
	swapped := *keys["e is 3"]
	swapped.Primes = []*big.Int{swapped.Primes[1], swapped.Primes[0]}
	keys["p and q swapped"] = complete(t, swapped)
	// d + φ(n) is an exponent too, and so is d modulo λ(n).
	large := *keys["unequal primes"]
	phi := big.NewInt(1)
	for _, p := range large.Primes {
		phi.Mul(phi, new(big.Int).Sub(p, big.NewInt(1)))
	}
	large.D = new(big.Int).ModInverse(big.NewInt(int64(large.E)), phi)
	keys["d modulo φ(n)"] = complete(t, large)
	return keys
}

// makeKey makes a key of primes with these lengths.
func makeKey(t *testing.T, e int, bits ...int) *rsa.PrivateKey {
	t.Helper()
	for {
		k := rsa.PrivateKey{PublicKey: rsa.PublicKey{N: big.NewInt(1), E: e}}
		lambda := big.NewInt(1)
		for _, n := range bits {
			p, err := rand.Prime(rand.Reader, n)
			if err != nil {
				t.Fatal(err)
			}
			k.Primes = append(k.Primes, p)
			k.N.Mul(k.N, p)
			less := new(big.Int).Sub(p, big.NewInt(1))
			common := new(big.Int).GCD(nil, nil, lambda, less)
			lambda.Mul(lambda, less).Div(lambda, common)
		}
		if k.D = new(big.Int).ModInverse(big.NewInt(int64(e)), lambda); k.D != nil {
			return complete(t, k)
		}
	}
}

func complete(t *testing.T, k rsa.PrivateKey) *rsa.PrivateKey {
	t.Helper()
	out := &rsa.PrivateKey{PublicKey: k.PublicKey, D: k.D, Primes: k.Primes}
	out.Precompute()
	if err := out.Validate(); err != nil {
		t.Fatal(err)
	}
	return out
}

// otherKeys are not the private half of the first of the proofKeys.
func otherKeys(t *testing.T) map[string][]byte {
	t.Helper()
	keys, err := readProofKeys()
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte(nil), keys[0].pkcs8...)
	damaged[100] ^= 1 // in the modulus
	return map[string][]byte{
		"a longer key":   keys[1].pkcs8,
		"a key of P-256": p256,
		"half of a key":  keys[0].pkcs8[:600],
		"a damaged key":  damaged,
		"text":           []byte("text"),
	}
}

// inMemoryOfC reports whether b is in memory of this process that Go does not manage. b itself is in Go's heap, which begins
// at a multiple of 4 GiB and has no other memory in its 4 GiB.
func inMemoryOfC(t *testing.T, b []byte) bool {
	t.Helper()
	goHeap := uint64(uintptr(unsafe.Pointer(&b[0]))) >> 32
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatal(err)
		}
		if mode != "rw-p" || from>>32 == goHeap || to-from > 256<<20 {
			continue
		}
		memory := make([]byte, to-from)
		if n, _ := mem.ReadAt(memory, int64(from)); bytes.Contains(memory[:n], b) {
			return true
		}
	}
	return false
}
