package keyfile

import (
	"bytes"
	"cmp"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// unsupportedDER returns the format of a file that is not text, or nil. What is in PEM elsewhere has
// the same content there, between other lines.
func unsupportedDER(der []byte) *FormatError {
	switch {
	case bytes.HasPrefix(der, []byte("\xfe\xed\xfe\xed")), bytes.HasPrefix(der, []byte("\xce\xce\xce\xce")):
		return &FormatError{"a Java keystore", keytoolPKCS12}
	case len(der) == 0 || der[0] != asn1.TagSequence|0x20:
		return nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return typeOr(key, &FormatError{"a private key in DER (PKCS #8)", opensslDER})
	}
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return &FormatError{"a private key in DER (PKCS #1)", opensslDER}
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return typeOr(key, &FormatError{"an EC private key in DER (SEC 1)", opensslDER})
	}
	if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		return typeOr(key, &FormatError{"a public key in DER", opensslPublic})
	}
	if _, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return &FormatError{"a public key in DER (PKCS #1)", opensslPublic1}
	}
	if _, err := x509.ParseCertificate(der); err == nil {
		return &FormatError{"an X.509 certificate in DER, which has only a public key", opensslCertDER}
	}
	if kind := cmp.Or(unsupportedPKCS8(der), sec1Fault(der)); kind != nil {
		return kind
	}
	var envelope struct { // EncryptedPrivateKeyInfo (RFC 5958, section 3)
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if _, err := asn1.Unmarshal(der, &envelope); err == nil {
		return &FormatError{"an encrypted private key in DER (PKCS #8)", opensslDER}
	}
	var store struct { // PFX (RFC 7292, section 4)
		Version int
		Content asn1.RawValue
		MAC     asn1.RawValue `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(der, &store); err == nil && store.Version == 3 {
		return &FormatError{"a PKCS #12 file", opensslPKCS12}
	}
	return nil
}

// typeOr returns otherwise for an RSA, Ed25519 or P-256 key, and for any other the error that names its type.
func typeOr(key any, otherwise *FormatError) *FormatError {
	switch key := key.(type) {
	case *rsa.PrivateKey, *rsa.PublicKey, ed25519.PrivateKey, ed25519.PublicKey:
		return otherwise
	case *ecdsa.PrivateKey:
		return typeOr(&key.PublicKey, otherwise)
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return otherwise
		}
		return notConvertible("an EC key on the curve " + key.Curve.Params().Name)
	case *ecdh.PrivateKey, *ecdh.PublicKey:
		return notConvertible("an X25519 key, which cannot sign")
	}
	return notConvertible("a key of another type")
}

// unsupportedPKCS8 names a private key (RFC 5958) or public key whose type crypto/x509 does not know,
// by its object identifier, or says why an EC key is not read; nil if der is neither.
func unsupportedPKCS8(der []byte) *FormatError {
	var private struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
		Rest      asn1.RawValue `asn1:"optional"`
	}
	var public struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	var algorithm pkix.AlgorithmIdentifier
	if _, err := asn1.Unmarshal(der, &private); err == nil {
		algorithm = private.Algorithm
	} else if _, err := asn1.Unmarshal(der, &public); err == nil {
		algorithm = public.Algorithm
	} else {
		return nil
	}
	switch algorithm.Algorithm.String() {
	case "1.2.840.113549.1.1.1", "1.3.101.112":
		return damagedPEM
	case "1.2.840.113549.1.1.10":
		return notConvertible("an RSA-PSS key, which cannot sign RS256")
	case oidEC:
		return ecFault(algorithm.Parameters.FullBytes, public.Key.Bytes)
	case "1.2.840.10040.4.1":
		return notConvertible("a DSA key")
	case "1.3.101.113":
		return notConvertible("an Ed448 key")
	case "1.3.101.110", "1.3.101.111":
		return notConvertible("a key for key exchange (X25519 or X448), which cannot sign")
	}
	return notConvertible("a key of another type")
}
