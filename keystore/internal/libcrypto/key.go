//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/ebitengine/purego"
)

// A Key is the private half of an RSA key in memory of libcrypto. It is a crypto.Signer for PKCS #1 v1.5 with SHA-256,
// and safe for concurrent use.
type Key struct {
	lib    *Library
	public *rsa.PublicKey
	pkey   uintptr // EVP_PKEY

	references atomic.Int64 // of signatures that are being made, and one until Erase; at 0 the key is freed
	erased     atomic.Bool

	mu   sync.Mutex
	idle []uintptr // EVP_PKEY_CTX, ready to sign; guarded by mu. There are as many as signatures are made at once
}

// Import copies a private half from its PKCS #8 form, which the caller clears, and tries it. public is what verifies its
// signatures. It must not come from libcrypto.
func (l *Library) Import(pkcs8 []byte, public *rsa.PublicKey) (*Key, error) {
	if len(pkcs8) == 0 {
		return nil, errors.New("the key is empty")
	}
	var pin runtime.Pinner // the library gets a pointer to a pointer
	defer pin.Unpin()
	pin.Pin(&pkcs8[0])
	at := uintptr(unsafe.Pointer(&pkcs8[0])) // no pointer: the library moves it past the end of the key, where the collector may find none
	k := &Key{lib: l, public: public}
	k.pkey, _, _ = purego.SyscallN(l.call.decode, 0, uintptr(unsafe.Pointer(&at)), uintptr(len(pkcs8)), l.context, 0)
	if k.pkey == 0 {
		return nil, errors.New("libcrypto cannot read the key")
	}
	k.references.Store(1)
	name := append([]byte("RSA"), 0)
	if ok, _, _ := purego.SyscallN(l.call.isA, k.pkey, uintptr(unsafe.Pointer(&name[0]))); int32(ok) != 1 {
		k.Erase()
		return nil, errors.New("libcrypto does not take the key for one of RSA")
	}
	sum := sha256.Sum256([]byte("keymill: self-test of a key"))
	signature, err := k.signRaw(sum[:])
	if err == nil && !k.verifies(sum[:], signature) {
		err = errors.New("a signature that libcrypto made with the key is wrong")
	}
	if err != nil {
		k.Erase()
		return nil, err
	}
	return k, nil
}

// Public returns the public half, an *rsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign returns the signature of a SHA-256 digest, after it was verified with crypto/rsa. It ignores the
// reader: PKCS #1 v1.5 is deterministic.
//
// After a wrong signature, or a failure that is not one of memory, the library is given up and the error matches ErrGivenUp.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss || opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, errors.New("libcrypto signs SHA-256 digests with PKCS #1 v1.5 only")
	}
	if fault := k.lib.Fault(); fault != nil {
		return nil, fmt.Errorf("%w: %w", ErrGivenUp, fault)
	}
	if !k.acquire() {
		return nil, ErrErased
	}
	defer k.release()
	signature, err := k.signRaw(digest)
	if err == nil && !k.verifies(digest, signature) {
		err = errWrong
	}
	if err == nil || errors.Is(err, ErrNoMemory) {
		return signature, err
	}
	k.lib.faults.Add(1)
	k.lib.giveUp(err)
	return nil, fmt.Errorf("%w: %w", ErrGivenUp, err)
}

var errWrong = errors.New("libcrypto made a wrong signature, which was not used")

func (k *Key) verifies(digest, signature []byte) bool {
	return rsa.VerifyPKCS1v15(k.public, crypto.SHA256, digest, signature) == nil
}

// signRaw returns a signature that no one has verified. The caller holds a reference.
//
// libcrypto has a queue of errors for each thread, and a goroutine can change threads between two calls. A signature is
// one call, so the queue is read only after a failure, for which the call is repeated on a locked thread.
func (k *Key) signRaw(digest []byte) ([]byte, error) {
	operation, err := k.operation()
	if err != nil {
		return nil, err
	}
	signature, ok := k.lib.signWith(operation, digest, k.public.Size())
	if ok {
		k.mu.Lock()
		k.idle = append(k.idle, operation)
		k.mu.Unlock()
		return signature, nil
	}
	defer purego.SyscallN(k.lib.call.freeOperation, operation)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	purego.SyscallN(k.lib.call.clearErrors)
	if _, ok := k.lib.signWith(operation, digest, k.public.Size()); ok {
		return nil, errors.New("a signature of libcrypto failed, and then it did not")
	}
	code, _, _ := purego.SyscallN(k.lib.call.lastError)
	if code&reasonMask == mallocFailure {
		return nil, ErrNoMemory
	}
	return nil, fmt.Errorf("a signature of libcrypto failed with the error %08X", code)
}

// Reasons of errors since OpenSSL 3.0 (openssl/err.h: ERR_REASON_MASK, ERR_R_MALLOC_FAILURE).
const (
	reasonMask    = 0x7fffff
	mallocFailure = 256 | 0x1<<18 | 0x2<<18
)

// signWith makes one call. The buffer is as long as the modulus: the library gets the length and never writes more.
func (l *Library) signWith(operation uintptr, digest []byte, size int) ([]byte, bool) {
	signature, length := make([]byte, size), uintptr(size)
	ok, _, _ := purego.SyscallN(l.call.sign, operation, uintptr(unsafe.Pointer(&signature[0])), uintptr(unsafe.Pointer(&length)),
		uintptr(unsafe.Pointer(&digest[0])), uintptr(len(digest)))
	// A length of another size is found when the signature is verified.
	return signature[:min(length, uintptr(size))], int32(ok) == 1
}

const pkcs1Padding = 1 // RSA_PKCS1_PADDING

// operation returns an EVP_PKEY_CTX that is ready to sign, an idle one if there is one.
func (k *Key) operation() (uintptr, error) {
	k.mu.Lock()
	if n := len(k.idle); n > 0 {
		last := k.idle[n-1]
		k.idle = k.idle[:n-1]
		k.mu.Unlock()
		return last, nil
	}
	k.mu.Unlock()
	c := &k.lib.call
	operation, _, _ := purego.SyscallN(c.newOperation, k.lib.context, k.pkey, 0)
	if operation == 0 {
		return 0, ErrNoMemory
	}
	for _, step := range []struct{ function, argument uintptr }{{c.signInit, 0}, {c.setPadding, pkcs1Padding}, {c.setDigest, k.lib.sha256}} {
		if ok, _, _ := purego.SyscallN(step.function, operation, step.argument); int32(ok) != 1 {
			purego.SyscallN(c.freeOperation, operation)
			return 0, errors.New("libcrypto refuses RSA signatures with PKCS #1 v1.5 and SHA-256")
		}
	}
	return operation, nil
}

// Erase makes Sign return ErrErased. The key is freed when the last signature that is being made has ended.
func (k *Key) Erase() {
	if k.erased.CompareAndSwap(false, true) {
		k.release()
	}
}

// acquire takes a reference, unless the key was freed or will be.
func (k *Key) acquire() bool {
	for {
		n := k.references.Load()
		if n == 0 || k.erased.Load() {
			return false
		}
		if k.references.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release drops a reference. The last one frees the key, which overwrites its numbers (BN_clear_free).
func (k *Key) release() {
	if k.references.Add(-1) > 0 || k.lib.broken.Load() {
		return
	}
	for _, operation := range k.idle { // no one else has a reference
		purego.SyscallN(k.lib.call.freeOperation, operation)
	}
	k.idle = nil
	purego.SyscallN(k.lib.call.free, k.pkey)
}
