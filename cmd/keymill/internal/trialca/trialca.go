// Package trialca makes the certificates of a trial server that speaks TLS, for software that refuses http.
//
//	dev-ca.pem       the certificate of the CA, which other programs are told to trust
//	dev-ca-key.pem   its private key
//	dev-tls.pem      the certificate of the server, a new one at each start
//	dev-tls-key.pem  its private key
//
// The CA is made at the first start and kept, so that a program has to be told once. It can certify loopback addresses
// and localhost only (name constraints, RFC 5280, section 4.2.1.10): who trusts it trusts it for no other name.
package trialca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"keymill/cmd/keymill/internal/namedfile"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage/durable"
)

// Names of the files in the data directory.
const (
	CAFile   = "dev-ca.pem"
	CAKey    = "dev-ca-key.pem"
	CertFile = "dev-tls.pem"
	KeyFile  = "dev-tls-key.pem"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 397 * 24 * time.Hour // browsers accept no more
	renewCA  = leafLife             // before the end of the CA, so that no certificate outlives it
	skew     = time.Hour            // of other clocks

	maxFileBytes = 64 << 10 // far more than each file has
)

// An authority signs certificates. Without a certificate it is one that is being made, and signs its own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Make writes the certificate of a server for host, a loopback address or a name of localhost, and that of the CA if
// there is none. dir is the data directory. readKey reads the key of the CA, and refuses one that another user owns or can
// read: operators trust the CA on their machines. Make reports whether it has replaced an earlier CA.
func Make(dir, host string, now time.Time, readKey func(path string) ([]byte, error)) (replaced bool, err error) {
	_, missing := os.Lstat(filepath.Join(dir, CAFile))
	ca, made, err := openCA(dir, now, readKey)
	if err != nil {
		return false, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Keymill trial server"},
		NotBefore: now.Add(-skew), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}, DNSNames: []string{"localhost"}, BasicConstraintsValid: true,
	}
	switch ip := net.ParseIP(host); {
	case ip == nil && host != "" && !slices.Contains(template.DNSNames, host):
		template.DNSNames = append(template.DNSNames, host)
	case ip != nil && !slices.ContainsFunc(template.IPAddresses, ip.Equal):
		template.IPAddresses = append(template.IPAddresses, ip)
	}
	return made && missing == nil, ca.write(template, filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
}

// openCA reads the CA, or makes one if there is none or if its end is near.
func openCA(dir string, now time.Time, readKey func(path string) ([]byte, error)) (ca authority, made bool, err error) {
	ca, err = readCA(dir, readKey)
	switch {
	case err == nil && now.Before(ca.cert.NotBefore):
		return authority{}, false, early(filepath.Join(dir, CAFile), ca.cert.NotBefore, now)
	case err == nil && now.Before(ca.cert.NotAfter.Add(-renewCA)):
		return ca, false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return authority{}, false, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Keymill trial CA " + now.UTC().Format("2006-01-02 15:04")},
		NotBefore: now.Add(-skew), NotAfter: now.Add(caLife),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{"localhost"},
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, {IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	if err := (authority{}).write(template, filepath.Join(dir, CAFile), filepath.Join(dir, CAKey)); err != nil {
		return authority{}, false, err
	}
	ca, err = readCA(dir, readKey)
	return ca, true, err
}

// readCA accepts only a certificate that is signed with the key beside it.
func readCA(dir string, readKey func(path string) ([]byte, error)) (authority, error) {
	certText, err := namedfile.ReadRegular(filepath.Join(dir, CAFile), maxFileBytes)
	if err != nil {
		return authority{}, err
	}
	keyText, err := readKey(filepath.Join(dir, CAKey))
	if err != nil {
		return authority{}, err
	}
	defer clear(keyText)
	cert, err := x509.ParseCertificate(decode(certText))
	if err != nil {
		return authority{}, damaged(filepath.Join(dir, CAFile))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(decode(keyText))
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return authority{}, damaged(filepath.Join(dir, CAKey))
	}
	if cert.CheckSignatureFrom(cert) != nil {
		return authority{}, damaged(filepath.Join(dir, CAFile))
	}
	return authority{cert, key}, nil
}

func damaged(path string) error {
	return terminal.WithHint(fmt.Errorf("%s is not a file that --dev --tls wrote", path), "remove it: the next start makes a new CA, which other programs must be told to trust again")
}

// early is for a CA that was made while the clock was wrong, or is read while it is. Programs refuse certificates of it.
func early(path string, from, now time.Time) error {
	return terminal.WithHint(fmt.Errorf("the CA in %s is valid from %s only, and the clock says %s", path, from.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
		"correct the clock; if it was wrong when the CA was made, remove the file: the next start makes a new CA, which other programs must be told to trust again")
}

func decode(text []byte) []byte {
	if block, _ := pem.Decode(text); block != nil {
		return block.Bytes
	}
	return nil
}

// write makes a key and a certificate of it.
func (ca authority) write(template *x509.Certificate, certPath, keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if ca.cert == nil {
		ca = authority{template, key}
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(private)
	// The key first: with the certificate alone, a crash between the two would leave a CA that cannot sign.
	if err := durable.Replace(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
		return err
	}
	return durable.Replace(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
}

// serial returns a random number of 127 bits (RFC 5280, section 4.1.2.2).
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	b[15] |= 1 // never 0
	return new(big.Int).SetBytes(b[:])
}
