package trialca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/terminal"
)

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestTheCAIsKeptAndItsCertificatesAreAccepted, for the names of this machine, also after the clock has gone on. Short before
// its end there is a new one.
func TestTheCAIsKeptAndItsCertificatesAreAccepted(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	accepts := func(now time.Time, host string, another bool) {
		t.Helper()
		if replaced, err := Make(dir, host, now, os.ReadFile); err != nil || replaced != another {
			t.Fatal(replaced, err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(read(t, dir, CAFile)) {
			t.Fatal("the CA is not PEM")
		}
		leaf, err := x509.ParseCertificate(decode(read(t, dir, CertFile)))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"localhost", "127.0.0.1", "::1", host} {
			if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	accepts(now, "127.0.0.2", false)
	ca, leaf := read(t, dir, CAFile), read(t, dir, CertFile)
	accepts(now.Add(time.Hour), "app.localhost", false)
	accepts(now.Add(8*365*24*time.Hour), "127.0.0.1", false)
	if !bytes.Equal(ca, read(t, dir, CAFile)) || bytes.Equal(leaf, read(t, dir, CertFile)) {
		t.Error("the CA is another one, or the certificate is the same")
	}
	accepts(now.Add(9*365*24*time.Hour), "127.0.0.1", true)
	if bytes.Equal(ca, read(t, dir, CAFile)) {
		t.Error("the CA ends before its certificate")
	}
	for _, name := range []string{CAFile, CAKey, CertFile, KeyFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// TestTheCACannotCertifyOthers: who has its key gets no accepted certificate for another name or address.
func TestTheCACannotCertifyOthers(t *testing.T) {
	dir := t.TempDir()
	made, _, err := openCA(dir, time.Now(), os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	ca, roots := made.cert, x509.NewCertPool()
	roots.AddCert(ca)
	for _, name := range []string{"example.com", "localhost.example.com", "192.0.2.1", "2001:db8::1", "0.0.0.0"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = []net.IP{ip}
		} else {
			template.DNSNames = []string{name}
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), made.key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err == nil {
			t.Errorf("a certificate for %s is accepted", name)
		}
	}
}

// TestAStrangeFileOfTheCAIsNotReplaced: other programs may trust the CA whose file it was. Without one of the two files there is
// no CA, and a new one is made.
func TestAStrangeFileOfTheCAIsNotReplaced(t *testing.T) {
	for _, name := range []string{CAFile, CAKey} {
		for _, text := range []string{"", "no PEM", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"} {
			dir := t.TempDir()
			if _, err := Make(dir, "localhost", time.Now(), os.ReadFile); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Make(dir, "localhost", time.Now(), os.ReadFile)
			if err == nil || !strings.HasPrefix(err.Error(), filepath.Join(dir, name)+" is not a file that --dev --tls wrote") || !strings.HasPrefix(terminal.HintOf(err), "remove it") {
				t.Errorf("%s with %q: %v", name, text, err)
			}
			if string(read(t, dir, name)) != text {
				t.Errorf("%s was replaced", name)
			}
			os.Remove(filepath.Join(dir, name))
			if _, err := Make(dir, "localhost", time.Now(), os.ReadFile); err != nil {
				t.Errorf("without %s: %v", name, err)
			}
		}
	}
}

// TestACAOfTheFutureIsKept: the clock is wrong now, or was when the CA was made. Nothing is replaced.
func TestACAOfTheFutureIsKept(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	if _, err := Make(dir, "localhost", now.Add(48*time.Hour), os.ReadFile); err != nil {
		t.Fatal(err)
	}
	ca := read(t, dir, CAFile)
	_, err := Make(dir, "localhost", now, os.ReadFile)
	if err == nil || !strings.HasPrefix(err.Error(), "the CA in "+filepath.Join(dir, CAFile)+" is valid from ") || !strings.HasPrefix(terminal.HintOf(err), "correct the clock") {
		t.Error(err)
	}
	if !bytes.Equal(ca, read(t, dir, CAFile)) {
		t.Error("the CA was replaced")
	}
}

// TestACertificateThatTheKeyHasNotSignedIsNoCA: programs that trust it would trust the one who signed it.
func TestACertificateThatTheKeyHasNotSignedIsNoCA(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	ca, _, err := openCA(dir, now, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: ca.cert.NotAfter, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: ca.cert.Subject}, ca.key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, CAFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(dir, "localhost", now, os.ReadFile); err == nil || !strings.HasPrefix(err.Error(), filepath.Join(dir, CAFile)+" is not a file") {
		t.Error(err)
	}
}

// TestACAWithAnotherKeyIsRefused.
func TestACAWithAnotherKeyIsRefused(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if _, err := Make(dir, "localhost", time.Now(), os.ReadFile); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(a, CAKey), read(t, b, CAKey), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(a, "localhost", time.Now(), os.ReadFile); err == nil {
		t.Error("a certificate was made with the key of another CA")
	}
}
