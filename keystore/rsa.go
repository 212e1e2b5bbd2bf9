package keystore

import (
	"context"
	"fmt"

	"keymill/keystore/internal/libcrypto"
)

// An RSASigner says what signs RS256.
type RSASigner = libcrypto.Status

// CheckRSASigner returns an error if Config.RSASigner cannot have this value in this build of the program.
func CheckRSASigner(setting string) error { return libcrypto.Check(setting) }

// RunProof proves libcrypto and ends the process, if Open has started it for that. Else it does nothing. A program whose
// Config.RSASigner is not Go calls it before anything else.
func RunProof() { libcrypto.RunProof() }

func (r *Rings) chooseRSA(ctx context.Context) (*libcrypto.Chooser, error) {
	setting := r.cfg.RSASigner
	if r.queues[RS256] == nil {
		setting = libcrypto.Go
	}
	return libcrypto.Choose(ctx, setting, r.cfg.Libcrypto, r.log)
}

// RSASigner says what signs RS256 now.
func (r *Rings) RSASigner() RSASigner { return r.rsa.Status() }

// leaveLibcrypto opens the keys again, so that Go signs with them, after libcrypto was given up.
func (r *Rings) leaveLibcrypto(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.rsa.Watch() || r.snapshot.Load().usable() {
		return nil // another request has done it
	}
	r.stale = true
	if err := r.reloadAny(ctx); err != nil {
		return fmt.Errorf("libcrypto no longer signs, and the keys cannot be read for Go to sign: %w", err)
	}
	return nil
}

// usable reports whether each signer can sign.
func (s *snapshot) usable() bool {
	for _, signer := range s.signers {
		if !libcrypto.Usable(signer.Private()) {
			return false
		}
	}
	return true
}

// erase erases the copies in libcrypto of keys that another snapshot does not have. Signatures that are being made
// with them end first.
func (s *snapshot) erase(except *snapshot) {
	for kid, signer := range s.signers {
		if except.signers[kid] != signer {
			libcrypto.Erase(signer.Private())
		}
	}
}
