package keyfile

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"keymill/keystore/randomness"
)

const p256Bytes = 32 // of a coordinate of P-256, and of a private key

// oidEC marks an EC key, whose parameters name its curve (RFC 5480, section 2.1.1).
const oidEC = "1.2.840.10045.2.1"

// curves names the curves that keys of other systems are on, by their object identifiers.
var curves = map[string]string{
	"1.2.840.10045.3.1.7": "P-256", "1.3.132.0.10": "secp256k1", "1.3.132.0.33": "P-224", "1.3.132.0.34": "P-384", "1.3.132.0.35": "P-521",
	"1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
}

var (
	notOnCurve  = &FormatError{Format: "an EC key that is not a point of P-256; no key generator makes such a key"}
	atInfinity  = &FormatError{Format: "an EC key at the point at infinity, which belongs to no private key"}
	otherHalves = &FormatError{Format: "an EC key whose private half does not belong to its public half"}
	otherCurve  = notConvertible("an EC key on an unusual curve")
)

// sec1 is an EC private key (RFC 5915, section 3).
type sec1 struct {
	Version int
	Private []byte
	Curve   asn1.RawValue  `asn1:"optional,tag:0"`
	Public  asn1.BitString `asn1:"optional,explicit,tag:1"`
}

// checkEmbedded compares the public half that stands in a private key, in SEC 1 or PKCS #8, with the one that belongs to
// it. crypto/x509 does not look at it.
func checkEmbedded(der []byte, key *ecdsa.PrivateKey) *FormatError {
	var outer struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
		Rest      asn1.RawValue `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(der, &outer); err == nil {
		der = outer.Key
	}
	var inner sec1
	if _, err := asn1.Unmarshal(der, &inner); err != nil {
		return damagedPEM
	}
	embedded := inner.Public.Bytes
	if len(embedded) == 0 {
		return nil
	}
	if fault := pointFault(embedded, opensslUncompressed); fault != nil {
		return fault
	}
	own, err := key.PublicKey.Bytes()
	if err != nil || !bytes.Equal(own, embedded) {
		return otherHalves
	}
	return nil
}

// pointFault says what is wrong with an encoded point of P-256 (SEC 1, section 2.3.3), or returns nil. It has one accepted
// encoding. convert makes it from a compressed one.
func pointFault(point []byte, convert string) *FormatError {
	switch {
	case len(point) == 1 && point[0] == 0, bytes.Equal(point, append([]byte{4}, make([]byte, 2*p256Bytes)...)):
		return atInfinity
	case len(point) == 1+p256Bytes && (point[0] == 2 || point[0] == 3):
		return &FormatError{"an EC key whose point is compressed", convert}
	}
	if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
		return notOnCurve
	}
	return nil
}

// curveFault says why a key cannot be taken that is on a curve of these parameters; nil for P-256.
func curveFault(parameters []byte) *FormatError {
	var id asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(parameters, &id); err != nil {
		return otherCurve // its numbers instead of its name
	}
	switch name := curves[id.String()]; name {
	case "P-256":
		return nil
	case "":
		return otherCurve
	default:
		return notConvertible("an EC key on the curve " + name)
	}
}

// ecFault says why crypto/x509 does not read an EC key in PKCS #8 or SubjectPublicKeyInfo: its curve, or its point. point
// is that of a public key, or nil.
func ecFault(parameters, point []byte) *FormatError {
	fault := curveFault(parameters)
	if fault == nil && point != nil {
		fault = pointFault(point, opensslUncompressedPublic)
	}
	return cmp.Or(fault, damagedPEM)
}

// sec1Fault says why crypto/x509 does not read a key in SEC 1; nil if it is none.
func sec1Fault(der []byte) *FormatError {
	var key sec1
	if _, err := asn1.Unmarshal(der, &key); err != nil || key.Version != 1 {
		return nil
	}
	if len(key.Curve.Bytes) == 0 {
		return &FormatError{Format: "an EC private key that does not name its curve"}
	}
	return cmp.Or(curveFault(key.Curve.Bytes), damagedPEM)
}

// checkJWK checks the members of an EC key (RFC 7518, section 6.2): each has all its 32 octets, so that no second text is
// the same key.
func checkJWK(member map[string]json.RawMessage) error {
	text := func(name string) (s string) {
		_ = json.Unmarshal(member[name], &s) // what is no string is empty, and refused
		return s
	}
	if curve := text("crv"); curve != "P-256" {
		return notConvertible(fmt.Sprintf("an EC key (JWK) on the curve %.20q", curve))
	}
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		octets, err := exactOctets(name, text(name))
		if err != nil {
			return err
		}
		point = append(point, octets...)
	}
	if _, private := member["d"]; private {
		if _, err := exactOctets("d", text("d")); err != nil {
			return err
		}
	}
	if fault := pointFault(point, ""); fault != nil {
		return fault
	}
	return nil
}

// exactOctets decodes a member. Its error does not quote it.
func exactOctets(name, value string) ([]byte, error) {
	octets, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return nil, fmt.Errorf("%s of the JWK is not base64url", name)
	}
	if len(octets) != p256Bytes {
		return nil, fmt.Errorf("%s of the JWK has %d octets; P-256 needs %d, leading zeros included (RFC 7518, section 6.2)", name, len(octets), p256Bytes)
	}
	return octets, nil
}

// checkScalar refuses an EC key whose secret can be guessed, as checkSeed does.
func checkScalar(key *ecdsa.PrivateKey) error {
	secret, err := key.Bytes()
	if err != nil {
		return otherHalves
	}
	if fault := randomness.Fault([randomness.Size]byte(secret), false); fault != "" {
		return fmt.Errorf("the secret of the EC key was not drawn at random: %s; make a new key", fault)
	}
	return nil
}
