package browser

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"testing"
	"time"
)

// A certificate is issued by an authority of the test, for all host names of a world.
type certificate struct {
	tls   tls.Certificate
	roots *x509.CertPool // the authority, for the test's own clients
	spki  string         // hash of its public key, in the form of Chromium's flag
}

func newCertificate(t *testing.T, names ...string) certificate {
	t.Helper()
	authorityKey, key := newKey(t), newKey(t)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root := issue(t, authority, authority, &authorityKey.PublicKey, authorityKey)
	leaf := issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names,
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, &key.PublicKey, authorityKey)
	hash := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	c := certificate{
		tls:   tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key},
		roots: x509.NewCertPool(),
		spki:  base64.StdEncoding.EncodeToString(hash[:]),
	}
	c.roots.AddCert(root)
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t *testing.T, c, parent *x509.Certificate, public *ecdsa.PublicKey, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}
