//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSignaturesAreThoseOfGo for keys of many forms: with unequal primes, swapped ones, a small exponent, a small and a large
// modulus.
func TestSignaturesAreThoseOfGo(t *testing.T) {
	l, err := load(systemLibrary(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range oddKeys(t) {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		k, err := l.Import(der, &key.PublicKey)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		digest := sha256.Sum256([]byte(name))
		want, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
		k.Erase()
	}
	if _, err := l.Import(nil, nil); err == nil {
		t.Error("an empty key is accepted")
	}
}

// TestAKeyThatIsNotTheOneOfThePublicHalfIsRefused, also one that is not of RSA.
func TestAKeyThatIsNotTheOneOfThePublicHalfIsRefused(t *testing.T) {
	l, err := load(systemLibrary(t))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := readProofKeys()
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range otherKeys(t) {
		if k, err := l.Import(der, &keys[0].private.PublicKey); err == nil {
			k.Erase()
			t.Errorf("%s is accepted", name)
		}
	}
	if l.Fault() != nil {
		t.Errorf("the library is given up: %v", l.Fault())
	}
}

// TestKeysAreImportedSignedWithAndErasedAtOnce: a key that is erased signs or says so, and never crashes.
func TestKeysAreImportedSignedWithAndErasedAtOnce(t *testing.T) {
	l, err := load(systemLibrary(t))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := readProofKeys()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	current := imported(t, l)
	end := time.Now().Add(time.Second)
	var all sync.WaitGroup
	var signed [4]int
	for n := range signed {
		all.Go(func() {
			digest := sha256.Sum256([]byte{byte(n)})
			for time.Now().Before(end) {
				mu.Lock()
				k := current
				mu.Unlock()
				if _, err := k.Sign(nil, digest[:], crypto.SHA256); err == nil {
					signed[n]++
				} else if !errors.Is(err, ErrErased) {
					t.Error(err)
					return
				}
			}
		})
	}
	imports := 0
	for ; time.Now().Before(end); imports++ {
		k, err := l.Import(keys[0].pkcs8, &keys[0].private.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		old := current
		current = k
		mu.Unlock()
		old.Erase()
		old.Erase() // again
	}
	all.Wait()
	current.Erase()
	if imports < 20 || signed[0] < 20 {
		t.Errorf("%d imports, %v signatures", imports, signed)
	}
}

// TestAKeyIsFreedByTheLastSignatureAfterItsErasure, and not before.
func TestAKeyIsFreedByTheLastSignatureAfterItsErasure(t *testing.T) {
	f := newFake(t)
	k := imported(t, f.open(t))
	exists := func(suffix string) bool { _, err := os.Stat(f.Fault + suffix); return err == nil }
	if err := os.Remove(f.Fault + ".freed"); err != nil { // of the proof
		t.Fatal(err)
	}
	f.Set(t, "s")
	var digest [32]byte
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if _, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil {
				t.Error(err)
			}
		})
	}
	for began := time.Now(); k.references.Load() < 3; time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the signatures hold no references")
		}
	}
	time.Sleep(50 * time.Millisecond) // into the call
	k.Erase()
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrErased) {
		t.Errorf("after the erasure: %v", err)
	}
	if exists(".freed") {
		t.Error("the key is freed although it signs")
	}
	all.Wait()
	if exists(".early") || !exists(".freed") || len(k.idle) != 0 {
		t.Errorf("freed while it signed: %v; freed: %v; idle: %d", exists(".early"), exists(".freed"), len(k.idle))
	}
}

// TestAnErasedKeyIsOverwritten: none of its factors is left in memory of C, as a number or in DER.
func TestAnErasedKeyIsOverwritten(t *testing.T) {
	l, err := load(systemLibrary(t))
	if err != nil {
		t.Fatal(err)
	}
	key := makeKey(t, 65537, 1024, 1024)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := l.Import(der, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
			t.Fatal(n, err)
		}
	}
	var factors [2]bool
	for n, p := range key.Primes {
		number := p.Bytes()
		slices.Reverse(number) // as a BIGNUM has it
		factors[n] = inMemoryOfC(t, number)
	}
	if !factors[0] || !factors[1] {
		t.Errorf("the factors are not where the test looks: %v", factors)
	}
	k.Erase()
	for n, p := range key.Primes {
		number := p.Bytes()
		inDER := inMemoryOfC(t, number)
		slices.Reverse(number)
		if asNumber := inMemoryOfC(t, number); inDER || asNumber {
			t.Errorf("factor %d is left as a number: %v; in DER: %v", n, asNumber, inDER)
		}
	}
}

// TestAWrongSignatureNeverLeaves: it gives the library up for good, for all keys.
func TestAWrongSignatureNeverLeaves(t *testing.T) {
	f := newFake(t)
	f.open(t)
	var digest [32]byte
	for _, fault := range []string{"w", "g", "z", "l", "e", "f"} {
		l, err := load(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		one, other := imported(t, l), imported(t, l)
		f.Set(t, fault)
		if signature, err := one.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrGivenUp) || signature != nil {
			t.Errorf("fault %s: %x, %v", fault, signature, err)
		}
		f.Set(t, "")
		for _, k := range []*Key{one, other} {
			if signature, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrGivenUp) || signature != nil {
				t.Errorf("after the fault %s: %x, %v", fault, signature, err)
			}
			k.Erase()
		}
		if l.Faults() != 1 {
			t.Errorf("fault %s: %d faults are counted", fault, l.Faults())
		}
	}
}

// TestWithoutMemoryOneSignatureIsRefused: it is no fault of the library.
func TestWithoutMemoryOneSignatureIsRefused(t *testing.T) {
	f := newFake(t)
	l := f.open(t)
	k := imported(t, l)
	k.mu.Lock()
	busy := k.idle
	k.idle = nil
	k.mu.Unlock()
	f.Set(t, "m")
	var digest [32]byte
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrNoMemory) || l.Fault() != nil {
		t.Errorf("%v; fault: %v", err, l.Fault())
	}
	f.Set(t, "M") // in the signature itself
	k.idle = append(k.idle, busy...)
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrNoMemory) || l.Fault() != nil || l.Faults() != 0 {
		t.Errorf("%v; fault: %v", err, l.Fault())
	}
	f.Set(t, "")
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Error(err)
	}
	k.Erase()
}

// TestOtherSignaturesAreRefused: a caller of crypto.Signer can ask for some.
func TestOtherSignaturesAreRefused(t *testing.T) {
	l, err := load(systemLibrary(t))
	if err != nil {
		t.Fatal(err)
	}
	k := imported(t, l)
	defer k.Erase()
	for _, opts := range []crypto.SignerOpts{crypto.SHA384, crypto.Hash(0), &rsa.PSSOptions{Hash: crypto.SHA256}} {
		if _, err := k.Sign(rand.Reader, make([]byte, 32), opts); err == nil || !strings.Contains(err.Error(), "PKCS #1 v1.5 only") {
			t.Errorf("%v: %v", opts, err)
		}
	}
	if _, err := k.Sign(rand.Reader, make([]byte, 31), crypto.SHA256); err == nil {
		t.Error("a digest of 31 bytes is accepted")
	}
}

func BenchmarkSign(b *testing.B) {
	l, err := load(systemLibrary(b))
	if err != nil {
		b.Fatal(err)
	}
	k := imported(b, l)
	defer k.Erase()
	digest := make([]byte, 32)
	for b.Loop() {
		if _, err := k.Sign(nil, digest, crypto.SHA256); err != nil {
			b.Fatal(err)
		}
	}
}
