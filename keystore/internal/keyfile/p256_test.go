package keyfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func mustDER(t *testing.T, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var (
	oidP256      = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidSecp256k1 = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
)

// sec1PEM encodes a private key with any public half and curve.
func sec1PEM(t *testing.T, secret, public []byte, curve asn1.ObjectIdentifier) string {
	return encodePEM("EC PRIVATE KEY", mustDER(t, struct {
		Version int
		Private []byte
		Curve   asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		Public  asn1.BitString        `asn1:"optional,explicit,tag:1"`
	}{1, secret, curve, asn1.BitString{Bytes: public, BitLength: 8 * len(public)}}))
}

func pkcs8PEM(t *testing.T, curve any, inner string) string {
	block, _ := pem.Decode([]byte(inner))
	return encodePEM("PRIVATE KEY", mustDER(t, struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}{0, ecIdentifier(t, curve), block.Bytes}))
}

func publicPEM(t *testing.T, curve any, point []byte) string {
	return encodePEM("PUBLIC KEY", mustDER(t, struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{ecIdentifier(t, curve), asn1.BitString{Bytes: point, BitLength: 8 * len(point)}}))
}

func ecIdentifier(t *testing.T, curve any) pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: asn1.RawValue{FullBytes: mustDER(t, curve)}}
}

// ecWorld is a key on P-256 in the parts that files are made of.
type ecWorld struct {
	key                       *ecdsa.PrivateKey
	secret, point, compressed []byte
}

func newECWorld(t *testing.T) ecWorld {
	key := ecKey(t, elliptic.P256())
	secret, _ := key.Bytes()
	point, _ := key.PublicKey.Bytes()
	return ecWorld{key, secret, point, append([]byte{2 + point[64]&1}, point[1:33]...)}
}

func (w ecWorld) jwk(more string, members ...[]byte) string {
	b64 := base64.RawURLEncoding.EncodeToString
	text := `{"kty":"EC","crv":"P-256"` + more
	for i, name := range []string{"x", "y", "d"}[:len(members)] {
		text += fmt.Sprintf(`,%q:%q`, name, b64(members[i]))
	}
	return text + "}"
}

// TestKeysOnP256AreRead in every format that is taken.
func TestKeysOnP256AreRead(t *testing.T) {
	w := newECWorld(t)
	sec1, _ := x509.MarshalECPrivateKey(w.key)
	x, y := w.point[1:33], w.point[33:]
	parameters := encodePEM("EC PARAMETERS", mustDER(t, oidP256))
	for name, tt := range map[string]struct {
		file    string
		private bool
	}{
		"SEC 1":                        {encodePEM("EC PRIVATE KEY", sec1), true},
		"SEC 1, parameters before":     {parameters + encodePEM("EC PRIVATE KEY", sec1), true},
		"SEC 1, no public half":        {sec1PEM(t, w.secret, nil, oidP256), true},
		"PKCS #8":                      {string(pemOf(t, "PRIVATE KEY", w.key)), true},
		"PKCS #8, no public half":      {pkcs8PEM(t, oidP256, sec1PEM(t, w.secret, nil, nil)), true},
		"SubjectPublicKeyInfo":         {string(pemOf(t, "PUBLIC KEY", &w.key.PublicKey)), false},
		"JWK":                          {w.jwk("", x, y, w.secret), true},
		"JWK, public":                  {w.jwk(`,"use":"sig"`, x, y), false},
		"our own SubjectPublicKeyInfo": {publicPEM(t, oidP256, w.point), false},
	} {
		got, err := Parse([]byte(tt.file))
		if err != nil || !w.key.PublicKey.Equal(got.Public) || (got.Private != nil) != tt.private || tt.private && !w.key.Equal(got.Private) {
			t.Errorf("%s: %+v, %v", name, got.Public, err)
		}
		if tt.private && CheckPrivate(got.Private) != nil {
			t.Errorf("%s: %v", name, CheckPrivate(got.Private))
		}
	}
}

// TestBadKeysOnCurvesAreRefusedWithAReason: one answer for each, which quotes nothing of the file.
//
// R113.
func TestBadKeysOnCurvesAreRefusedWithAReason(t *testing.T) {
	w, other := newECWorld(t), newECWorld(t)
	p384 := ecKey(t, elliptic.P384())
	sec384, _ := x509.MarshalECPrivateKey(p384)
	x, y := w.point[1:33], w.point[33:]
	off := append([]byte{4}, append(append([]byte{}, x...), x...)...)
	zero, infinity := make([]byte, 32), []byte{0}
	order := elliptic.P256().Params().N.Bytes()
	explicit := struct{ Version int }{1}
	const compressed, halves, notPoint, atZero = "point is compressed", "does not belong to its public half", "not a point of P-256", "at infinity"
	for name, tt := range map[string]struct{ file, reason, convert string }{
		"SPKI, compressed":          {publicPEM(t, oidP256, w.compressed), compressed, opensslUncompressedPublic},
		"SPKI, infinity":            {publicPEM(t, oidP256, infinity), atZero, ""},
		"SPKI, zeros":               {publicPEM(t, oidP256, append([]byte{4}, make([]byte, 64)...)), atZero, ""},
		"SPKI, off the curve":       {publicPEM(t, oidP256, off), notPoint, ""},
		"SPKI, a byte less":         {publicPEM(t, oidP256, w.point[:64]), notPoint, ""},
		"SPKI, hybrid":              {publicPEM(t, oidP256, append([]byte{6 + w.point[64]&1}, w.point[1:]...)), notPoint, ""},
		"SPKI, secp256k1":           {publicPEM(t, oidSecp256k1, w.point), "on the curve secp256k1; only RSA, Ed25519 and P-256", ""},
		"SPKI, P-384":               {string(pemOf(t, "PUBLIC KEY", &p384.PublicKey)), "on the curve P-384; only RSA", ""},
		"SPKI, explicit parameters": {publicPEM(t, explicit, w.point), "an unusual curve", ""},

		"SEC 1, compressed":    {sec1PEM(t, w.secret, w.compressed, oidP256), compressed, opensslUncompressed},
		"SEC 1, infinity":      {sec1PEM(t, w.secret, infinity, oidP256), atZero, ""},
		"SEC 1, off the curve": {sec1PEM(t, w.secret, off, oidP256), notPoint, ""},
		"SEC 1, other half":    {sec1PEM(t, w.secret, other.point, oidP256), halves, ""},
		"SEC 1, secp256k1":     {sec1PEM(t, w.secret, w.point, oidSecp256k1), "on the curve secp256k1", ""},
		"SEC 1, P-384":         {encodePEM("EC PRIVATE KEY", sec384), "on the curve P-384", ""},
		"SEC 1, no curve":      {sec1PEM(t, w.secret, w.point, nil), "does not name its curve", ""},
		"SEC 1, secret is 0":   {sec1PEM(t, zero, nil, oidP256), "incomplete or was changed", ""},
		"SEC 1, secret is n":   {sec1PEM(t, order, nil, oidP256), "incomplete or was changed", ""},
		"SEC 1, encrypted":     {"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n", "an encrypted EC", opensslKey},
		"PKCS #8, compressed":  {pkcs8PEM(t, oidP256, sec1PEM(t, w.secret, w.compressed, nil)), compressed, opensslUncompressed},
		"PKCS #8, other half":  {pkcs8PEM(t, oidP256, sec1PEM(t, w.secret, other.point, nil)), halves, ""},
		"PKCS #8, off":         {pkcs8PEM(t, oidP256, sec1PEM(t, w.secret, off, nil)), notPoint, ""},
		"PKCS #8, P-384":       {string(pemOf(t, "PRIVATE KEY", p384)), "on the curve P-384", ""},
		"PKCS #8, secp256k1":   {pkcs8PEM(t, oidSecp256k1, sec1PEM(t, w.secret, w.point, nil)), "on the curve secp256k1", ""},
		"PKCS #8, secret is n": {pkcs8PEM(t, oidP256, sec1PEM(t, order, nil, nil)), "incomplete or was changed", ""},

		"JWK, x of 31 octets":    {w.jwk("", x[1:], y), "x of the JWK has 31 octets", ""},
		"JWK, y of 33 octets":    {w.jwk("", x, append([]byte{0}, y...)), "y of the JWK has 33 octets", ""},
		"JWK, d of 31 octets":    {w.jwk("", x, y, w.secret[1:]), "d of the JWK has 31 octets", ""},
		"JWK, d of 33 octets":    {w.jwk("", x, y, append([]byte{0}, w.secret...)), "d of the JWK has 33 octets", ""},
		"JWK, d is null":         {w.jwk(`,"d":null`, x, y), "d of the JWK has 0 octets", ""},
		"JWK, no y":              {w.jwk("", x), "y of the JWK has 0 octets", ""},
		"JWK, compressed":        {w.jwk("", w.compressed), "x of the JWK has 33 octets", ""},
		"JWK, infinity":          {w.jwk("", zero, zero), atZero, ""},
		"JWK, off the curve":     {w.jwk("", x, x), notPoint, ""},
		"JWK, not base64url":     {strings.Replace(w.jwk("", x, y), `"x":"`, `"x":"+`, 1), "x of the JWK is not base64url", ""},
		"JWK, P-384":             {strings.Replace(w.jwk("", x, y), "P-256", "P-384", 1), `curve "P-384"; only RSA`, ""},
		"JWK, secp256k1":         {strings.Replace(w.jwk("", x, y), "P-256", "secp256k1", 1), `curve "secp256k1"`, ""},
		"JWK, no curve":          {strings.Replace(w.jwk("", x, y), `"crv":"P-256",`, "", 1), `curve ""`, ""},
		"JWK, crv in upper case": {strings.Replace(w.jwk("", x, y), `"crv"`, `"CRV"`, 1), `curve ""`, ""},
	} {
		_, err := CheckFormat([]byte(tt.file))
		if err == nil || !strings.Contains(err.Error(), tt.reason) || !strings.Contains(err.Error(), tt.convert) || tt.convert == "" && strings.Contains(err.Error(), "convert it:") {
			t.Errorf("%s: %v; want %q", name, err, tt.reason)
		}
		for _, secret := range [][]byte{w.secret, w.point} {
			if err != nil && strings.Contains(err.Error(), base64.RawURLEncoding.EncodeToString(secret)[:20]) {
				t.Errorf("%s: the error quotes the file", name)
			}
		}
	}
	mixed := w.jwk("", other.point[1:33], other.point[33:], w.secret)
	got, err := Parse([]byte(mixed))
	if err != nil || w.key.PublicKey.Equal(got.Public) {
		t.Errorf("a JWK whose halves differ is for keystore, which signs with it: %v", err)
	}
}

// TestSecretsOfP256ThatCanBeGuessedAreRefused, as those of Ed25519 are.
func TestSecretsOfP256ThatCanBeGuessedAreRefused(t *testing.T) {
	for name, secret := range map[string][]byte{
		"one":      big.NewInt(1).FillBytes(make([]byte, 32)),
		"a text":   []byte("correct horse battery staple 123"),
		"repeated": []byte(strings.Repeat("\x12\x34", 16)),
	} {
		got, err := Parse([]byte(sec1PEM(t, secret, nil, oidP256)))
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckPrivate(got.Private); err == nil || !strings.Contains(err.Error(), "not drawn at random") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 100 {
		if err := CheckPrivate(ecKey(t, elliptic.P256())); err != nil {
			t.Error(err)
		}
	}
}
