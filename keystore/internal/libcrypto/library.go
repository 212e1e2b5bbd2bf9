//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Supported reports whether this build can load libcrypto.
func Supported() bool { return true }

// A Library is libcrypto, proven and loaded. It is never unloaded.
type Library struct {
	path    string
	file    identity
	version string
	call    functions
	context uintptr // OSSL_LIB_CTX
	sha256  uintptr // EVP_MD of that context

	fault  atomic.Pointer[error] // why it is given up
	faults atomic.Uint64         // wrong signatures
	broken atomic.Bool           // its code in memory is not what was loaded: it is not called again, not even to free a key
}

// functions are the addresses of what is called. Their names are those of OpenSSL, in the order in which they are used.
type functions struct {
	init, newContext, loadProvider, fetchDigest   uintptr
	decode, free, isA                             uintptr
	newOperation, signInit, setPadding, setDigest uintptr
	sign, freeOperation                           uintptr
	clearErrors, lastError                        uintptr
}

// Open has a child process prove the library in the file at path, and loads it. The error says what failed: the
// library is then not loaded here, unless the file was replaced in between.
func Open(ctx context.Context, path string) (*Library, error) {
	return opening{path: path, messages: randomMessages, patience: patience}.open(ctx)
}

func (o opening) open(ctx context.Context) (*Library, error) {
	before, err := identify(o.path)
	if err != nil {
		return nil, err
	}
	proven, err := o.prove(ctx)
	if err != nil {
		return nil, err
	}
	if proven.File != before {
		return nil, errReplaced
	}
	if o.proven != nil {
		o.proven()
	}
	if now, err := identify(o.path); err != nil || now != before {
		return nil, errors.Join(errReplaced, err)
	}
	l, err := load(o.path)
	if err != nil {
		return nil, err
	}
	if l.file != before || l.version != proven.Version {
		return nil, errReplaced
	}
	return l, nil
}

var errReplaced = errors.New("the library was replaced while it was being proven; restart the server")

// Options of OPENSSL_init_crypto. It reads no openssl.cnf, which can name other code to load. Nothing is freed
// when the process ends, because other threads may be signing.
const (
	initNoLoadConfig = 0x00000080
	initNoAtexit     = 0x00080000
)

// load loads the library into this process.
func load(path string) (*Library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	l := &Library{path: path}
	if l.version, err = versionOf(handle); err != nil {
		return nil, err
	}
	if err := l.bind(handle); err != nil {
		return nil, err
	}
	if ok, _, _ := purego.SyscallN(l.call.init, initNoLoadConfig|initNoAtexit, 0); int32(ok) != 1 {
		return nil, errors.New("OPENSSL_init_crypto failed")
	}
	if l.context, _, _ = purego.SyscallN(l.call.newContext); l.context == 0 {
		return nil, errors.New("OSSL_LIB_CTX_new failed")
	}
	name := append([]byte("default"), 0)
	if provider, _, _ := purego.SyscallN(l.call.loadProvider, l.context, uintptr(unsafe.Pointer(&name[0]))); provider == 0 {
		return nil, errors.New("the default provider cannot be loaded")
	}
	name = append([]byte("SHA256"), 0)
	if l.sha256, _, _ = purego.SyscallN(l.call.fetchDigest, l.context, uintptr(unsafe.Pointer(&name[0])), 0); l.sha256 == 0 {
		return nil, errors.New("the default provider has no SHA256")
	}
	l.file, err = identify(path)
	return l, err
}

// versionOf refuses versions whose functions may be others.
func versionOf(handle uintptr) (string, error) {
	address, err := purego.Dlsym(handle, "OpenSSL_version_num")
	if err != nil {
		return "", errors.New("the library is not libcrypto: it has no OpenSSL_version_num")
	}
	n, _, _ := purego.SyscallN(address)
	version := fmt.Sprintf("%d.%d.%d", n>>28, n>>20&0xff, n>>4&0xff)
	if n>>28 != 3 { // before 3.0 the last number was elsewhere
		version = fmt.Sprintf("%d.%d", n>>28, n>>20&0xff)
		return "", fmt.Errorf("the library is OpenSSL %s; at least 3.0 is needed, and less than 4", version)
	}
	return version, nil
}

func (l *Library) bind(handle uintptr) error {
	c := &l.call
	for _, f := range []struct {
		name    string
		address *uintptr
	}{
		{"OPENSSL_init_crypto", &c.init},
		{"OSSL_LIB_CTX_new", &c.newContext},
		{"OSSL_PROVIDER_load", &c.loadProvider},
		{"EVP_MD_fetch", &c.fetchDigest},
		{"d2i_AutoPrivateKey_ex", &c.decode},
		{"EVP_PKEY_free", &c.free},
		{"EVP_PKEY_is_a", &c.isA},
		{"EVP_PKEY_CTX_new_from_pkey", &c.newOperation},
		{"EVP_PKEY_sign_init", &c.signInit},
		{"EVP_PKEY_CTX_set_rsa_padding", &c.setPadding},
		{"EVP_PKEY_CTX_set_signature_md", &c.setDigest},
		{"EVP_PKEY_sign", &c.sign},
		{"EVP_PKEY_CTX_free", &c.freeOperation},
		{"ERR_clear_error", &c.clearErrors},
		{"ERR_get_error", &c.lastError},
	} {
		address, err := purego.Dlsym(handle, f.name)
		if err != nil {
			return fmt.Errorf("the library has no %s", f.name)
		}
		*f.address = address
	}
	return nil
}

// Version returns the version of the library, such as 3.0.19.
func (l *Library) Version() string { return l.version }

// Fault returns why the library is given up, or nil.
func (l *Library) Fault() error {
	if err := l.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// Faults returns how many signatures were wrong or failed. None of them was returned.
func (l *Library) Faults() uint64 { return l.faults.Load() }

// abandon is giveUp after the file was overwritten. A file that is truncated takes pages of the process with it.
func (l *Library) abandon(err error) {
	l.broken.Store(true)
	l.giveUp(err)
}

// giveUp keeps every key from signing with the library again.
func (l *Library) giveUp(err error) { l.fault.CompareAndSwap(nil, &err) }
