// Package cert has a self-signed X.509 certificate for each published key, for software that reads no other
// form of a key. Nothing but the key is meant by it: no authority vouches for it, and it has no end.
//
//	certificate/<kid>    the certificate, in DER
//
// A certificate follows from the private half, the kid and the instant of publication alone (RFC 8017, section 8.2,
// RFC 8032 and RFC 6979 sign deterministically). So every node and every start makes the same one, without a record. The record
// is for the time after the private half is erased. It is written long before that, while the key signs.
package cert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"keymill/storage"
)

const prefix = "certificate/"

// perUpdate is less than the 64 records that a transaction may touch.
const perUpdate = 32

// A Book has the certificates of the published keys. Its caller locks it.
type Book struct {
	known map[string]entry // kid →
}

type entry struct {
	der    []byte // nil if there is only a damaged record
	record record
}

// A record is what the store has under a kid.
type record int

const (
	absent record = iota
	whole
	damaged // stays as it is: it is neither written nor removed
)

// Load reads the certificates. A damaged one is left out: its key can still be used.
func Load(ctx context.Context, s storage.Store) (*Book, error) {
	b := &Book{}
	return b, s.View(ctx, func(r storage.Reader) error {
		b.known = map[string]entry{}
		for e, err := range r.Scan(prefix, storage.EndOf(prefix)) {
			if err != nil && !errors.Is(err, storage.ErrDamaged) {
				return err
			}
			found := entry{e.Value, whole}
			if err != nil {
				found = entry{nil, damaged}
			}
			b.known[strings.TrimPrefix(e.Key, prefix)] = found
		}
		return nil
	})
}

// A Key is what a certificate is made of.
type Key struct {
	KID       string
	Public    []byte // SubjectPublicKeyInfo, DER
	Published time.Time
	Private   crypto.Signer // nil if this process does not have it
}

// Of returns the certificate of a published key in DER, and makes it if there is none. It returns nil for a key that had no
// private half since certificates are made.
func (b *Book) Of(k Key) []byte {
	known, found := b.known[k.KID]
	if found && isOf(known.der, k.Public) {
		return known.der
	}
	if k.Private == nil {
		return nil
	}
	der, err := create(k)
	if err != nil {
		return nil // there is a key without a certificate, as there are others
	}
	if found {
		b.known[k.KID] = entry{der, damaged} // it has another key's certificate, or none
	} else {
		b.known[k.KID] = entry{der, absent}
	}
	return der
}

func isOf(der, public []byte) bool {
	c, err := x509.ParseCertificate(der)
	return err == nil && bytes.Equal(c.RawSubjectPublicKeyInfo, public)
}

// Keep stores the certificates that are not stored yet, and removes those of keys that are no longer published.
func (b *Book) Keep(ctx context.Context, s storage.Store, published func(kid string) bool) error {
	var put, remove []string
	for _, kid := range slices.Sorted(maps.Keys(b.known)) {
		switch state, used := b.known[kid].record, published(kid); {
		case len(put)+len(remove) == perUpdate:
		case used && state == absent:
			put = append(put, kid)
		case !used && state == whole:
			remove = append(remove, kid)
		case !used:
			delete(b.known, kid)
		}
	}
	if len(put)+len(remove) == 0 {
		return nil
	}
	err := s.Update(ctx, func(tx storage.Tx) error {
		var errs []error
		for _, kid := range put {
			errs = append(errs, tx.Put(prefix+kid, b.known[kid].der))
		}
		for _, kid := range remove {
			errs = append(errs, tx.Delete(prefix+kid))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	for _, kid := range put {
		b.known[kid] = entry{b.known[kid].der, whole}
	}
	for _, kid := range remove {
		delete(b.known, kid)
	}
	return nil
}

// early is how long before its publication a certificate is valid, for clocks that are behind.
const early = 24 * time.Hour

// noEnd means that a certificate does not expire (RFC 5280, section 4.1.2.5). The key set decides for how long a key
// is valid: another end could only make a verifier refuse tokens of a key that is still published.
var noEnd = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// longestName is the upper bound of a common name (RFC 5280, appendix A.1: ub-common-name).
const longestName = 64

func create(k Key) ([]byte, error) {
	sum := sha256.Sum256(k.Public)
	serial := sum[:20] // RFC 5280, section 4.1.2.2: positive, and at most 20 octets
	serial[0] = serial[0]&0x7f | 0x40
	name := pkix.Name{CommonName: k.KID}
	if len(k.KID) > longestName { // an imported one
		name.CommonName = k.KID[:longestName]
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      name, Issuer: name,
		NotBefore: k.Published.UTC().Add(-early).Truncate(time.Second), NotAfter: noEnd,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, // and so no authority
	}
	return x509.CreateCertificate(nil, template, template, k.Private.Public(), k.Private)
}
