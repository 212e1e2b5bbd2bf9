package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

var published = time.Date(2026, 11, 28, 12, 0, 0, 500, time.UTC)

func keyOf(t *testing.T, kid string, private crypto.Signer, err error) Key {
	t.Helper()
	public, marshalErr := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil || marshalErr != nil {
		t.Fatal(err, marshalErr)
	}
	return Key{kid, public, published, private}
}

func newKey(t *testing.T, kid string) Key {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return keyOf(t, kid, private, err)
}

func openStore(t *testing.T) storage.Store {
	t.Helper()
	s, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return storagetest.RerunningIfAsked(s)
}

func load(t *testing.T, s storage.Store) *Book {
	t.Helper()
	b, err := Load(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTheSameKeyHasTheSameCertificate, of each kind, with the fields that RFC 5280 asks for.
func TestTheSameKeyHasTheSameCertificate(t *testing.T) {
	rsaKey, rsaErr := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, ecErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for _, k := range []Key{newKey(t, "ed"), keyOf(t, "rsa", rsaKey, rsaErr), keyOf(t, "ec", ecKey, ecErr)} {
		b := load(t, openStore(t))
		der := b.Of(k)
		if !bytes.Equal(load(t, openStore(t)).Of(k), der) {
			t.Errorf("%s: two certificates of one key", k.KID)
		}
		if k.Private = nil; !bytes.Equal(b.Of(k), der) {
			t.Errorf("%s: no certificate without the private half", k.KID)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
			t.Errorf("%s: %v", k.KID, err)
		}
		want := fmt.Sprintln("CN="+k.KID, "CN="+k.KID, "2026-11-27 12:00:00 +0000 UTC", "9999-12-31 23:59:59 +0000 UTC", x509.KeyUsageDigitalSignature, false)
		if got := fmt.Sprintln(c.Subject, c.Issuer, c.NotBefore, c.NotAfter, c.KeyUsage, c.IsCA); got != want {
			t.Errorf("%s: %s, want %s", k.KID, got, want)
		}
		if n := len(c.SerialNumber.Bytes()); c.SerialNumber.Sign() <= 0 || n != 20 || c.SerialNumber.BitLen() > 159 {
			t.Errorf("%s: serial number %x", k.KID, c.SerialNumber)
		}
		if !bytes.Equal(c.RawSubjectPublicKeyInfo, k.Public) {
			t.Errorf("%s: another key", k.KID)
		}
	}
	long := newKey(t, strings.Repeat("k", 200))
	if c, err := x509.ParseCertificate(load(t, openStore(t)).Of(long)); err != nil || c.Subject.CommonName != long.KID[:64] {
		t.Errorf("a long kid: %v, %v", c, err)
	}
}

// TestCertificatesAreKept while their keys are published, also if there are more than fit into one transaction.
func TestCertificatesAreKept(t *testing.T) {
	s := openStore(t)
	b := load(t, s)
	var keys []Key
	for n := range 2*perUpdate + 5 {
		keys = append(keys, newKey(t, fmt.Sprintf("key/%03d", n)))
		b.Of(keys[n])
	}
	all := func(string) bool { return true }
	keep := func(b *Book, published func(string) bool) {
		t.Helper()
		for range 3 {
			if err := b.Keep(t.Context(), s, published); err != nil {
				t.Fatal(err)
			}
		}
	}
	keep(b, all)
	later := load(t, s)
	for _, k := range keys {
		private := k.Private
		if k.Private = nil; later.Of(k) == nil {
			t.Fatalf("the certificate of %s is lost", k.KID)
		}
		k.Private = private
		if !bytes.Equal(later.Of(k), b.Of(k)) {
			t.Errorf("another certificate of %s", k.KID)
		}
	}
	keep(later, func(kid string) bool { return kid == "key/007" })
	if known := load(t, s).known; len(known) != 1 || known["key/007"].der == nil {
		t.Errorf("%d certificates are left", len(known))
	}
}

// TestAnotherKeysCertificateIsNotUsed, and its record stays as it is.
func TestAnotherKeysCertificateIsNotUsed(t *testing.T) {
	one, other := newKey(t, "one"), newKey(t, "other")
	for what, wrong := range map[string][]byte{"another key": load(t, openStore(t)).Of(other), "no certificate": []byte("x")} {
		s := openStore(t)
		if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(prefix+"one", wrong) }); err != nil {
			t.Fatal(err)
		}
		b, public := load(t, s), one
		if public.Private = nil; b.Of(public) != nil {
			t.Errorf("%s: it is used", what)
		}
		if b.Of(one) == nil {
			t.Errorf("%s: no certificate was made", what)
		}
		if err := b.Keep(t.Context(), s, func(string) bool { return true }); err != nil {
			t.Fatal(err)
		}
		if got := load(t, s).known["one"].der; !bytes.Equal(got, wrong) {
			t.Errorf("%s: the record was written again", what)
		}
	}
}
