package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// A libcrypto is an RSA key in OpenSSL's libcrypto, in a library context of its own. The second floor of the group rs256
// signs with it. It is the least that is correct: each signature is verified before it leaves, but no other process tries
// the library first, and the key is never freed.
type libcrypto struct {
	public   *rsa.PublicKey
	template uintptr // an EVP_MD_CTX that is ready to sign; each signature uses a copy of it

	newContext, copyContext, sign, freeContext uintptr // functions
}

func newLibcrypto(key *rsa.PrivateKey) (*libcrypto, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	library, err := purego.Dlopen("libcrypto.so.3", purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load OpenSSL's library: %w; on Debian: apt-get install libssl3", err)
	}
	l := &libcrypto{public: &key.PublicKey}
	for name, to := range map[string]*uintptr{
		"EVP_MD_CTX_new": &l.newContext, "EVP_MD_CTX_copy_ex": &l.copyContext, "EVP_DigestSign": &l.sign, "EVP_MD_CTX_free": &l.freeContext,
	} {
		if *to, err = purego.Dlsym(library, name); err != nil {
			return nil, err
		}
	}
	var initialize func(options uint64, settings uintptr) int32
	var newLibrary func() uintptr
	var readKey func(to uintptr, der **byte, length int, library, query uintptr) uintptr
	var begin func(context, keyContext uintptr, digest string, library, query, key, parameters uintptr) int32
	purego.RegisterLibFunc(&initialize, library, "OPENSSL_init_crypto")
	purego.RegisterLibFunc(&newLibrary, library, "OSSL_LIB_CTX_new")
	purego.RegisterLibFunc(&readKey, library, "d2i_AutoPrivateKey_ex")
	purego.RegisterLibFunc(&begin, library, "EVP_DigestSignInit_ex")

	const noLoadConfig = 0x80 // OPENSSL_INIT_NO_LOAD_CONFIG: files of the machine change nothing
	initialize(noLoadConfig, 0)
	own, next := newLibrary(), &der[0]
	l.template, _, _ = purego.SyscallN(l.newContext)
	private := readKey(0, &next, len(der), own, 0)
	if own == 0 || l.template == 0 || private == 0 || begin(l.template, 0, "SHA256", own, 0, private, 0) != 1 {
		return nil, errLibcrypto
	}
	return l, nil
}

var errLibcrypto = errors.New("libcrypto refused the key or a signature")

func (l *libcrypto) signRS256(input []byte) ([]byte, error) {
	context, _, _ := purego.SyscallN(l.newContext)
	defer purego.SyscallN(l.freeContext, context)
	signature, length := make([]byte, l.public.Size()), uintptr(l.public.Size())
	copied, _, _ := purego.SyscallN(l.copyContext, context, l.template)
	if int32(copied) != 1 {
		return nil, errLibcrypto
	}
	made, _, _ := purego.SyscallN(l.sign, context, uintptr(unsafe.Pointer(&signature[0])), uintptr(unsafe.Pointer(&length)),
		uintptr(unsafe.Pointer(&input[0])), uintptr(len(input)))
	if int32(made) != 1 {
		return nil, errLibcrypto
	}
	sum := sha256.Sum256(input)
	return signature, rsa.VerifyPKCS1v15(l.public, crypto.SHA256, sum[:], signature)
}
