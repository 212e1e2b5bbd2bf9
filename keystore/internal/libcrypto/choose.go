package libcrypto

import (
	"context"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
)

// The values of the setting keys.rsa.
const (
	Go        = "go"        // crypto/rsa signs
	Libcrypto = "libcrypto" // libcrypto signs; without the build tag it is an error
	Auto      = "auto"      // libcrypto signs if it can
)

var (
	// ErrErased is returned by Key.Sign after Erase. The caller chooses a key again.
	ErrErased = errors.New("the key was erased")
	// ErrGivenUp is returned by Key.Sign after libcrypto has made a wrong signature or was changed on disk. Go has to sign.
	ErrGivenUp = errors.New("libcrypto no longer signs in this process")
	// ErrNoMemory is returned by Key.Sign if libcrypto could not allocate memory. The next signature can succeed.
	ErrNoMemory = errors.New("libcrypto has no memory for a signature")
)

// Check returns an error if keys.rsa cannot have this value in this build. "" is Go.
func Check(setting string) error {
	all := []string{Go, Libcrypto, Auto}
	switch {
	case setting != "" && !slices.Contains(all, setting):
		return fmt.Errorf("%q is not one of %s", setting, strings.Join(all, ", "))
	case setting == Libcrypto && !Supported():
		return errors.New("this build of keymill cannot load libcrypto; install the build for glibc, whose archive ends in _glibc.tar.gz, or write auto or go")
	}
	return nil
}

// A Chooser decides what signs RS256. The zero value is Go, and so is nil.
type Chooser struct {
	lib    *Library // nil: Go signs
	path   string
	why    string // Go signs, from the start; "" if it is configured
	log    *slog.Logger
	lost   atomic.Bool // the warning that the library is given up was written
	mapped atomic.Bool // the warning that the file was replaced was written
}

// Choose proves and loads the library in the file at path if setting asks for it. If that fails, Go signs, and there is one
// warning. The error is that of Check. path "" means the library of the system.
func Choose(ctx context.Context, setting, path string, log *slog.Logger) (*Chooser, error) {
	if err := Check(setting); err != nil {
		return nil, err
	}
	c := &Chooser{log: log}
	switch {
	case setting == "" || setting == Go:
		return c, nil
	case !Supported(): // and so it is auto, which asks for nothing
		log.Info("Go signs RS256", "reason", "this build of keymill cannot load libcrypto")
		return c, nil
	case fips140.Enabled():
		c.why = "GODEBUG has fips140, and then only Go's cryptographic module signs"
		log.Warn("libcrypto does not sign RS256; Go signs", "reason", c.why)
		return c, nil
	}
	return c, c.open(ctx, path)
}

func (c *Chooser) open(ctx context.Context, path string) (err error) {
	if c.path = path; path == "" {
		c.path, err = find()
	}
	if err == nil {
		c.lib, err = Open(ctx, c.path)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		c.why = err.Error()
		c.log.Warn("libcrypto cannot sign RS256; Go signs", "error", err)
		return nil
	}
	c.log.Info("libcrypto signs RS256", "file", c.path, "version", c.lib.Version())
	return nil
}

// Signer returns what signs with an RSA key: the key itself, or its copy in libcrypto. pkcs8 is the same key; the caller
// clears it. Keys of other algorithms are returned as they are.
func (c *Chooser) Signer(kid string, pkcs8 []byte, key crypto.Signer) crypto.Signer {
	private, ok := key.(*rsa.PrivateKey)
	if !ok || !c.signs() {
		return key
	}
	copied, err := c.lib.Import(pkcs8, &private.PublicKey)
	if err != nil {
		c.note()
		c.log.Warn("libcrypto does not take a key; Go signs with it", "kid", kid, "error", err)
		return key
	}
	return copied
}

// signs reports whether libcrypto signs now.
func (c *Chooser) signs() bool { return c.lib != nil && c.lib.Fault() == nil }

// Watch looks whether the file of the library has changed, and reports whether signers of libcrypto are of no use.
func (c *Chooser) Watch() bool {
	if c.signs() {
		overwritten, err := c.lib.changed()
		switch {
		case overwritten:
			c.lib.abandon(err)
		case err != nil && c.mapped.CompareAndSwap(false, true):
			c.log.Warn("libcrypto was replaced on disk; the file that was loaded signs until the server is restarted", "file", c.path, "error", err)
		}
	}
	return c.note()
}

// note writes one warning when the library is given up, and reports whether it is.
func (c *Chooser) note() bool {
	if c.lib == nil || c.lib.Fault() == nil {
		return false
	}
	if c.lost.CompareAndSwap(false, true) {
		c.log.Warn("libcrypto is given up; Go signs RS256 until the server is restarted", "error", c.lib.Fault())
	}
	return true
}

// A Status says what signs RS256.
type Status struct {
	Signer string // Go or Libcrypto
	Why    string // Go signs although keys.rsa asks for libcrypto; "" if it does not
	Faults uint64 // wrong signatures of libcrypto; none of them was returned
}

// Status says what signs RS256 now.
func (c *Chooser) Status() Status {
	switch {
	case c == nil:
		return Status{Signer: Go}
	case c.lib == nil:
		return Status{Signer: Go, Why: c.why}
	case c.lib.Fault() != nil:
		return Status{Signer: Go, Why: c.lib.Fault().Error(), Faults: c.lib.Faults()}
	}
	return Status{Signer: Libcrypto, Faults: c.lib.Faults()}
}

// Usable reports whether a signer can sign: one of libcrypto cannot after the library was given up.
func Usable(s crypto.Signer) bool {
	k, ok := s.(*Key)
	return !ok || k.lib.Fault() == nil
}

// Erase erases a key of libcrypto. Signatures that are being made end first. Other signers stay as they are.
func Erase(s crypto.Signer) {
	if k, ok := s.(*Key); ok {
		k.Erase()
	}
}
