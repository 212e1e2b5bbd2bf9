//go:build !libcrypto || !linux || !(amd64 || arm64)

package libcrypto

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"io"
)

var errAbsent = errors.New("this program was built without the tag libcrypto")

// Supported reports whether this build can load libcrypto.
func Supported() bool { return false }

// RunProof does nothing in this build.
func RunProof() {}

// A Library is never made in this build.
type Library struct{}

// Open returns an error in this build.
func Open(context.Context, string) (*Library, error) { return nil, errAbsent }

func find() (string, error) { return "", errAbsent }

// Version returns "".
func (*Library) Version() string { return "" }

// Fault returns nil.
func (*Library) Fault() error { return nil }

// Faults returns 0.
func (*Library) Faults() uint64 { return 0 }

// Import returns an error.
func (*Library) Import([]byte, *rsa.PublicKey) (*Key, error) { return nil, errAbsent }

func (*Library) changed() (bool, error) { return false, nil }

func (*Library) abandon(error) {}

// A Key is never made in this build.
type Key struct{ lib *Library }

// Public returns nil.
func (*Key) Public() crypto.PublicKey { return nil }

// Sign returns an error.
func (*Key) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errAbsent }

// Erase does nothing.
func (*Key) Erase() {}
