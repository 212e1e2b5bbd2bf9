package keyfile

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

// TestFormatsThatAreNotTakenAreNamed, those that OpenSSL and ssh-keygen do not write. A test against
// the real programs is in integration_test/cli.
func TestFormatsThatAreNotTakenAreNamed(t *testing.T) {
	key, header := edKey(t), func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	jwk := string(jwkOf(key, "a"))
	for name, tt := range map[string]struct{ text, format, convert string }{
		"PuTTY, RSA":            {"PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\n", "a private key of PuTTY", "puttygen FILE"},
		"PuTTY, Ed25519":        {"PuTTY-User-Key-File-3: ssh-ed25519\r\nEncryption: none\r\n", "a private key of PuTTY", "puttygen FILE"},
		"PuTTY, P-256":          {"PuTTY-User-Key-File-3: ecdsa-sha2-nistp256\nEncryption: none\n", "a private key of PuTTY", "puttygen FILE"},
		"PuTTY, P-384":          {"PuTTY-User-Key-File-3: ecdsa-sha2-nistp384\nEncryption: none\n", "another curve than P-256; only RSA", ""},
		"Java":                  {"\xfe\xed\xfe\xed\x00\x00\x00\x02", "a Java keystore", "keytool"},
		"JWKS":                  {`{"keys":[{"kty":"EC","crv":"P-384"},` + jwk + `]}`, "a set of keys (JWKS); give one", "jq '.keys[1]' FILE"},
		"JWKS of one":           {` {"keys":[` + jwk + `]}`, "a set of keys (JWKS)", "jq '.keys[0]' FILE"},
		"JWKS, P-256":           {`{"keys":[{"kty":"EC","crv":"P-521"},{"kty":"EC","crv":"P-256"}]}`, "a set of keys (JWKS)", "jq '.keys[1]' FILE"},
		"JWK, P-384":            {`{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}`, "an EC key (JWK)", ""},
		"JWK, Ed448":            {`{"kty":"OKP","crv":"Ed448","x":"AA"}`, "a JWK of another type", ""},
		"JWK, a secret":         {`{"kty":"oct","k":"c2VjcmV0"}`, "a shared secret (JWK oct)", ""},
		"a service account":     {`{"type":"service_account","private_key":"-----BEGIN PRIVATE KEY-----\nMC4C"}`, "in the member private_key", "jq -r .private_key FILE"},
		"JWE, compact":          {header(`{"alg":"dir"}`) + "." + "..AA.AA", "an encrypted JWK (JWE)", ""},
		"JWE, JSON":             {`{"protected":"AA","ciphertext":"AA"}`, "an encrypted JWK (JWE)", ""},
		"a token":               {header(`{"alg":"RS256"}`) + ".AA.AA", "a signed token (JWT)", ""},
		"PGP":                   {"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ==\n=AA\n-----END PGP PRIVATE KEY BLOCK-----\n", "a PGP key", ""},
		"XML":                   {"<RSAKeyValue><Modulus>AA</Modulus></RSAKeyValue>", "an RSA key in XML", ""},
		"Tectia":                {"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n", "SSH Tectia", ""},
		"a security key":        {"sk-ssh-ed25519@openssh.com AAAA me", "an SSH public key of another type", ""},
		"a TPM":                 {"-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n", "the key of a TPM", ""},
		"a DSA key":             {"-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "a DSA private key", ""},
		"a list of revocations": {"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "a list of revoked certificates", ""},
		"a broken OpenSSH key":  {"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "incomplete", ""},
		"a broken key": {string(pemOf(t, "PUBLIC KEY", key.Public())) + "-----BEGIN PRIVATE KEY-----\n???\n-----END PRIVATE KEY-----\n",
			"incomplete", ""},
		"a changed key": {"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "incomplete", ""},
	} {
		_, err := CheckFormat([]byte(tt.text))
		var got *FormatError
		if !errors.As(err, &got) || !strings.Contains(got.Format, tt.format) || !strings.Contains(got.Convert, tt.convert) || (got.Convert == "") != (tt.convert == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "garbage", "{}", "[]", `{"kty":"RSA"}`, "secret-key"} {
		if _, err := CheckFormat([]byte(text)); err != ErrFormat {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestAFileWithKeyAndCertificateTakesTheKey, in any order, with the key's parameters and public half.
func TestAFileWithKeyAndCertificateTakesTheKey(t *testing.T) {
	key := edKey(t)
	private, public := string(pemOf(t, "PRIVATE KEY", key)), string(pemOf(t, "PUBLIC KEY", key.Public()))
	other := string(pemOf(t, "PUBLIC KEY", edKey(t).Public()))
	certificate := "Bag Attributes\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("DER")}))
	for _, text := range []string{
		private, private + certificate, certificate + certificate + private, public + private, certificate + private + public + other,
	} {
		if got, err := Parse([]byte(text)); err != nil || !key.Equal(got.Private) {
			t.Errorf("%v from\n%s", err, text)
		}
	}
	if got, err := Parse([]byte(certificate + public)); err != nil || got.Private != nil || !key.Public().(ed25519.PublicKey).Equal(got.Public) {
		t.Errorf("certificate and public key: %v", err)
	}
	for _, text := range []string{private + private, certificate + private + private, public + other} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "one key at a time") {
			t.Errorf("two keys: %v", err)
		}
	}
}

// FuzzCheckFormat: no file panics, and no error quotes it.
func FuzzCheckFormat(f *testing.F) {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.MarshalECPrivateKey(ec)
	for _, seed := range []string{
		string(der), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), base64.StdEncoding.EncodeToString(der),
		"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB\n-----END OPENSSH PRIVATE KEY-----\n",
		`{"keys":[{"kty":"RSA"}]}`, "ssh-rsa AAAA", "eyJ.a.b.c.d", "\xfe\xed\xfe\xed",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, err := CheckFormat(file); err != nil && (len(err.Error()) > 700 || strings.Contains(err.Error(), "%!")) {
			t.Errorf("the error is %q", err)
		}
	})
}
