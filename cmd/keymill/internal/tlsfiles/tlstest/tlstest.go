// Package tlstest makes certificates for tests.
package tlstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"
)

// A Cert says what to put into a certificate. Parent nil makes it its own issuer.
type Cert struct {
	Name   string // the subject, and the DNS name unless CA is set
	IP     net.IP
	CA     bool
	Key    crypto.Signer
	Parent *Cert
	From   time.Time // the zero time means an hour ago
	Until  time.Time // the zero time means in 90 days
	Uses   []x509.ExtKeyUsage

	made *x509.Certificate
}

// NewKey returns a private key: "RSA", "Ed25519", or ECDSA for every other kind.
func NewKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "RSA":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// PEM makes the certificate and returns it.
func (c *Cert) PEM(t testing.TB) []byte {
	t.Helper()
	now := time.Now()
	if c.From.IsZero() {
		c.From = now.Add(-time.Hour)
	}
	if c.Until.IsZero() {
		c.Until = now.Add(90 * 24 * time.Hour)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: c.Name}, NotBefore: c.From, NotAfter: c.Until,
		IsCA: c.CA, BasicConstraintsValid: true, ExtKeyUsage: c.Uses, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if c.CA {
		template.KeyUsage |= x509.KeyUsageCertSign
	} else if c.Name != "" {
		template.DNSNames = []string{c.Name}
	}
	if c.IP != nil {
		template.IPAddresses = []net.IP{c.IP}
	}
	parent, signer := template, c.Key
	if c.Parent != nil {
		parent, signer = c.Parent.made, c.Parent.Key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, c.Key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if c.made, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// KeyPEM returns a private key as PKCS #8.
func KeyPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// Pool returns a pool of the certificates in PEM.
func Pool(certs ...[]byte) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AppendCertsFromPEM(c)
	}
	return pool
}
