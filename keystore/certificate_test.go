package keystore

import (
	"bytes"
	"crypto/x509"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"keymill/storage"
)

// certificateOf returns the certificate of a published key.
func certificateOf(t *testing.T, r *Rings, kid string) []byte {
	t.Helper()
	for _, k := range r.Published() {
		if k.KID == kid {
			return k.Certificate
		}
	}
	t.Fatalf("key %s is not published", kid)
	return nil
}

// isStored reports whether there is a record under key.
func isStored(t *testing.T, s storage.Store, key string) bool {
	t.Helper()
	err := s.View(t.Context(), func(tx storage.Reader) error {
		_, err := tx.Get(key)
		return err
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// TestACertificateOutlivesThePrivateHalf, and the process. It goes with its key.
func TestACertificateOutlivesThePrivateHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := newRings(t)
		run(t, r)
		kid := stage(t, r, Active)
		der := certificateOf(t, r, kid)
		c, err := x509.ParseCertificate(der)
		if err != nil || c.Subject.CommonName != kid || c.CheckSignatureFrom(c) == nil {
			t.Fatalf("%v, %v: want one that is no authority", c, err)
		}
		until(t, "the next key signs", func() bool { return stage(t, r, Retiring) == kid })
		until(t, "the private half is erased", func() bool { return !isStored(t, s, privateKey(kid)) })
		again, err := Open(t.Context(), s, r.cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, rings := range []*Rings{r, again} {
			if !bytes.Equal(certificateOf(t, rings, kid), der) {
				t.Error("the key has another certificate now")
			}
		}
		time.Sleep(time.Minute) // the lifetime of its tokens
		until(t, "the key is dropped", func() bool { return stage(t, r, Retiring) != kid })
		until(t, "its certificate goes", func() bool { return !isStored(t, s, "certificate/"+kid) })
	})
}

// TestAStoreOfAnEarlierVersionGetsCertificates: each key whose private half is there gets the same one at each start.
func TestAStoreOfAnEarlierVersionGetsCertificates(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "db"))
	r := ringsOf(t, s)
	kid := stage(t, r, Active)
	der := certificateOf(t, r, kid)
	if err := s.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete("certificate/" + kid) }); err != nil {
		t.Fatal(err)
	}
	req := ImportRequest{Key: pemOf(t, "PUBLIC KEY", edKey(t).Public()), KID: "public", Until: time.Now().Add(time.Hour)}
	if _, err := r.Import(t.Context(), req, "test"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // into another second: the time of the start does not matter
	again, err := Open(t.Context(), s, r.cfg)
	if err != nil || !bytes.Equal(certificateOf(t, again, kid), der) {
		t.Errorf("another certificate after a start (%v)", err)
	}
	if certificateOf(t, again, "public") != nil {
		t.Error("a key without a private half has a certificate")
	}
	if !isStored(t, s, "certificate/"+kid) || isStored(t, s, "certificate/public") {
		t.Error("the start has stored no certificate, or one of a key that has none")
	}
}

// TestADamagedCertificateStopsNoKey, and nothing is written over it.
//
// I23.
func TestADamagedCertificateStopsNoKey(t *testing.T) {
	r, s := newRings(t)
	kid := stage(t, r, Active)
	der := certificateOf(t, r, kid)
	damageBelow(t, s, "certificate/"+kid)
	before := rawGet(t, s, "certificate/"+kid)
	again, err := Open(t.Context(), s, r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.tick(t.Context()); err != nil || !bytes.Equal(certificateOf(t, again, kid), der) {
		t.Errorf("%v", err)
	}
	if !bytes.Equal(rawGet(t, s, "certificate/"+kid), before) {
		t.Error("the damaged record was written again")
	}
	if damaged := again.Damaged(); len(damaged) != 1 || damaged[0].Key != "certificate/"+kid {
		t.Errorf("damaged: %v", damaged)
	}
	if _, err := again.Revoke(t.Context(), RevokeRequest{KID: kid}, "test"); err != nil {
		t.Fatal(err)
	}
	if err := again.tick(t.Context()); err != nil || !bytes.Equal(rawGet(t, s, "certificate/"+kid), before) {
		t.Errorf("the damaged record of a revoked key was removed (%v)", err)
	}
}
