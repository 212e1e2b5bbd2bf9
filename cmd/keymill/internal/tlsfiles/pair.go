// Package tlsfiles holds the certificate that the public listener presents, and follows its two files.
//
//	tls.cert_file ─┐
//	               ├─▶ Load: parse, match, check ─▶ Keeper ─▶ tls.Config.GetCertificate
//	tls.key_file ──┘          ▲                       ▲
//	                       every 5 s               SIGHUP
//
// A Keeper looks at both files every few seconds, through links: certbot and Kubernetes replace a link
// and not a file. It needs no notification of the kernel, which file systems of a network do not send.
// What cannot be used, such as a certificate whose key is not written yet, replaces nothing: the
// previous certificate is still served until both files fit. A handshake takes the certificate of
// its instant, and connections that exist keep theirs.
//
// Files are PEM. The first certificate is the server's own, and its issuers follow it, each one behind
// the certificate that it has issued (RFC 8446, section 4.4.2).
package tlsfiles

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// A Pair is a chain of certificates with the private key of the first one.
type Pair struct {
	certificate *tls.Certificate
	leaf        *x509.Certificate
	issuerHost  string // of the setting issuer
}

// Load reads both files and checks that they can be served at now. An error names the setting, the file and
// what to do.
func Load(c *config.Config, now time.Time) (*Pair, error) {
	certs, err := c.ReadTLSCert()
	if err != nil {
		return nil, err
	}
	key, err := c.ReadTLSKey()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	chain, err := parseChain(certs)
	if err != nil {
		return nil, wrong(c, "tls.cert_file", c.TLSCertFile, err)
	}
	if err := checkKeyFile(key); err != nil {
		return nil, wrong(c, "tls.key_file", c.TLSKeyFile, err)
	}
	pair, err := tls.X509KeyPair(certs, key)
	if err != nil {
		return nil, wrong(c, "tls.key_file", c.TLSKeyFile, mismatch(c, certs, key, chain))
	}
	if err := checkChain(chain, now); err != nil {
		return nil, wrong(c, "tls.cert_file", c.TLSCertFile, err)
	}
	return &Pair{&pair, chain[0], hostOf(c.Issuer)}, nil
}

func hostOf(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// wrong names the setting and the file in err, and keeps its hint.
func wrong(c *config.Config, key, path string, err error) error {
	named := c.SettingError(key, "%s: %s", path, terminal.Plain(err))
	if hint := terminal.HintOf(err); hint != "" {
		return terminal.WithHint(named, "%s", hint)
	}
	return named
}

const certHint = "it must hold PEM: the server's certificate first, then its issuers; certbot calls it fullchain.pem"

// parseChain returns the certificates in their order.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	kinds := map[string]bool{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		kinds[block.Type] = true
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, terminal.WithHint(fmt.Errorf("certificate %d cannot be read: %w", len(chain)+1, err), "%s", certHint)
		}
		chain = append(chain, cert)
	}
	switch {
	case len(chain) > 0:
		return chain, nil
	case hasKey(kinds):
		return nil, terminal.WithHint(errors.New("the file holds a private key and no certificate"), "tls.cert_file and tls.key_file may be exchanged")
	}
	return nil, terminal.WithHint(errors.New("the file holds no certificate in PEM"), "%s", certHint)
}

func hasKey(kinds map[string]bool) bool {
	for kind := range kinds {
		if isKey(kind) {
			return true
		}
	}
	return false
}

func isKey(kind string) bool { return kind == "PRIVATE KEY" || strings.HasSuffix(kind, " PRIVATE KEY") }

const keyHint = "it must hold one private key in PEM, RSA, ECDSA or Ed25519, without a passphrase; certbot calls it privkey.pem"

// checkKeyFile says what is wrong with a file that holds no usable private key.
func checkKeyFile(text []byte) error {
	found := "no private key in PEM"
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		encrypted := block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED")
		switch {
		case encrypted:
			return terminal.WithHint(errors.New("the private key is encrypted with a passphrase, which the server cannot enter"),
				"write it without one, readable by the server's user alone: (umask 077; openssl pkey -in encrypted.key -out server.key)")
		case isKey(block.Type):
			return checkKey(block.Bytes)
		case block.Type == "CERTIFICATE":
			found = "a certificate and no private key"
		}
	}
	return terminal.WithHint(errors.New("the file holds "+found), "%s", keyHint)
}

func checkKey(der []byte) error {
	if key, err := parseKey(der); err != nil || typeOf(publicOf(key)) == "" {
		return terminal.WithHint(errors.New("the private key cannot be read"), "%s", keyHint) // err could show a part of it
	}
	return nil
}

// parseKey reads a private key in the forms that tls.X509KeyPair reads.
func parseKey(der []byte) (any, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	return x509.ParseECPrivateKey(der)
}

func publicOf(key any) any {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key.Public()
	case *ecdsa.PrivateKey:
		return key.Public()
	case ed25519.PrivateKey:
		return key.Public()
	}
	return nil
}

func typeOf(public any) string {
	switch public.(type) {
	case *rsa.PublicKey:
		return "RSA"
	case *ecdsa.PublicKey:
		return "ECDSA"
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return ""
}

// mismatch says why a readable key is not that of the first certificate.
func mismatch(c *config.Config, certs, key []byte, chain []*x509.Certificate) error {
	for n := range chain[1:] {
		later := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[n+1].Raw})
		if _, err := tls.X509KeyPair(later, key); err == nil {
			return terminal.WithHint(fmt.Errorf("the key belongs to certificate %d of %s, and the first one must be its own", n+2, c.TLSCertFile),
				"change the order: the server's certificate first, then its issuers")
		}
	}
	want, got := typeOf(chain[0].PublicKey), ""
	for block, rest := pem.Decode(key); block != nil && got == ""; block, rest = pem.Decode(rest) {
		if isKey(block.Type) {
			parsed, _ := parseKey(block.Bytes)
			got = typeOf(publicOf(parsed))
		}
	}
	hint := "name the key that the certificate was made for; if both are replaced, write both files"
	switch {
	case want == "":
		return terminal.WithHint(fmt.Errorf("the certificate in %s has a key of a kind that TLS cannot use here", c.TLSCertFile), "%s", keyHint)
	case got != want:
		return terminal.WithHint(fmt.Errorf("the key is %s, and the certificate in %s is for a key of %s", got, c.TLSCertFile, want), "%s", hint)
	}
	return terminal.WithHint(fmt.Errorf("the key does not match the certificate in %s", c.TLSCertFile), "%s", hint)
}

// checkChain refuses a chain that no client accepts at now.
func checkChain(chain []*x509.Certificate, now time.Time) error {
	leaf := chain[0]
	switch {
	case now.After(leaf.NotAfter):
		return terminal.WithHint(fmt.Errorf("the certificate expired at %s", stamp(leaf.NotAfter)), "renew it, or correct the clock of this machine")
	case now.Before(leaf.NotBefore):
		return terminal.WithHint(fmt.Errorf("the certificate is not valid before %s", stamp(leaf.NotBefore)), "correct the clock of this machine, or use a certificate that is valid now")
	}
	// A chain may have more than one path, so only an issuer that stands elsewhere in the file is an error.
	for n, cert := range chain {
		if bytes.Equal(cert.RawIssuer, cert.RawSubject) || n+1 < len(chain) && bytes.Equal(chain[n+1].RawSubject, cert.RawIssuer) {
			continue
		}
		other := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, cert.RawIssuer) })
		if other >= 0 {
			return terminal.WithHint(fmt.Errorf("the certificates are in the wrong order: number %d was issued by number %d", n+1, other+1),
				"the server's certificate comes first, and each issuer directly behind the certificate that it has issued")
		}
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// soon is how long before its end a certificate is worth a warning.
const soon = 14 * 24 * time.Hour

// warnAt returns when the warning about the end of the certificate begins. Certificates that live for some
// days are renewed in the last third of their life, and would have the warning always.
func (p *Pair) warnAt() time.Time {
	return p.leaf.NotAfter.Add(-min(soon, p.leaf.NotAfter.Sub(p.leaf.NotBefore)/3))
}

// expiry says that the certificate has expired or will soon, or returns "".
func (p *Pair) expiry(now time.Time) string {
	switch {
	case now.After(p.leaf.NotAfter):
		return fmt.Sprintf("the certificate expired at %s, and clients refuse it", stamp(p.leaf.NotAfter))
	case now.Before(p.warnAt()):
		return ""
	}
	return fmt.Sprintf("the certificate expires at %s; renew it", stamp(p.leaf.NotAfter))
}

// unfit says why clients of the issuer refuse the certificate, or returns "".
func (p *Pair) unfit() string {
	if len(p.leaf.DNSNames)+len(p.leaf.IPAddresses) == 0 {
		kind := "DNS"
		if net.ParseIP(p.issuerHost) != nil {
			kind = "IP"
		}
		return fmt.Sprintf("the certificate has no host in its subjectAltName, and clients ignore its common name: make one with the name %s, with openssl: -addext subjectAltName=%s:%s",
			p.issuerHost, kind, p.issuerHost)
	}
	if p.leaf.VerifyHostname(p.issuerHost) != nil {
		return fmt.Sprintf("the certificate is for %s and not for the host of issuer, %s", p.names(), p.issuerHost)
	}
	uses := p.leaf.ExtKeyUsage
	if len(uses) > 0 && !slices.Contains(uses, x509.ExtKeyUsageServerAuth) && !slices.Contains(uses, x509.ExtKeyUsageAny) {
		return "the certificate is not for servers: its extended key usage lacks serverAuth"
	}
	return ""
}

// Doubts returns why clients refuse the certificate now, or will soon.
func (p *Pair) Doubts(now time.Time) (list []string) {
	for _, text := range []string{p.expiry(now), p.unfit()} {
		if text != "" {
			list = append(list, text)
		}
	}
	return list
}

// String says whose certificate it is, and until when.
func (p *Pair) String() string {
	return fmt.Sprintf("a certificate for %s that expires at %s", p.names(), stamp(p.leaf.NotAfter))
}

// names returns the names of the certificate, at most five.
func (p *Pair) names() string {
	names := slices.Clone(p.leaf.DNSNames)
	for _, ip := range p.leaf.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return "no name"
	case len(names) > 5:
		names = append(names[:5], fmt.Sprintf("%d more", len(names)-5))
	}
	return strings.Join(names, ", ")
}

// same reports whether two pairs present the same certificates.
func (p *Pair) same(other *Pair) bool {
	return slices.EqualFunc(p.certificate.Certificate, other.certificate.Certificate, bytes.Equal)
}
