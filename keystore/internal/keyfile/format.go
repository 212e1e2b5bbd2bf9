package keyfile

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
)

// A FormatError names the format of a key that Import does not take. It quotes nothing of the key.
type FormatError struct {
	Format  string // "an encrypted private key"
	Convert string // a command line that converts the file FILE; "" if there is none
}

// Error names the format, and the command line if there is one.
func (e *FormatError) Error() string {
	if e.Convert == "" {
		return "the key is " + e.Format
	}
	return "the key is " + e.Format + "; convert it: " + e.Convert
}

// Command lines that convert the file FILE. Those that write a private key make a file of mode 0600.
// None writes to a name that the file is likely to have.
const (
	opensslKey                = "openssl pkey -in FILE -out keymill-key.pem"
	opensslDER                = "openssl pkey -inform DER -in FILE -out keymill-key.pem"
	opensslUncompressed       = "openssl pkey -in FILE -ec_conv_form uncompressed -out keymill-key.pem"
	opensslUncompressedPublic = "openssl pkey -pubin -in FILE -ec_conv_form uncompressed -pubout -out keymill-public.pem"
	opensslPublic             = "openssl pkey -pubin -inform DER -in FILE -out keymill-public.pem"
	opensslPublic1            = "openssl rsa -RSAPublicKey_in -inform DER -in FILE -pubout -out keymill-public.pem"
	opensslCert               = "openssl x509 -in FILE -noout -pubkey > keymill-public.pem"
	opensslCertDER            = "openssl x509 -inform DER -in FILE -noout -pubkey > keymill-public.pem"
	opensslRequest            = "openssl req -in FILE -noout -pubkey > keymill-public.pem"
	opensslPKCS7              = "openssl pkcs7 -in FILE -print_certs -out keymill-certificates.pem"
	opensslPKCS12             = "openssl pkcs12 -in FILE -nocerts -nodes -out keymill-key.pem"
	keytoolPKCS12             = "keytool -importkeystore -srckeystore FILE -destkeystore keymill-key.p12 -deststoretype PKCS12"
	sshDecrypt                = "cp FILE keymill-key && ssh-keygen -p -N '' -f keymill-key"
	sshPEM                    = "cp FILE keymill-key.pem && ssh-keygen -p -N '' -m PKCS8 -f keymill-key.pem"
	sshPEMPublic              = "ssh-keygen -e -m PKCS8 -f FILE > keymill-public.pem"
	sshUnpackPublic           = "ssh-keygen -i -f FILE > keymill-key.pub"
	puttyKey                  = "puttygen FILE -O private-openssh -o keymill-key"
	firstOfJWKS               = "(umask 077; jq '.keys[%d]' FILE > keymill-key.jwk)"
	memberOfJSON              = "(umask 077; jq -r .private_key FILE > keymill-key.pem)"
	unescape                  = `(umask 077; sed 's/\\n/\n/g; s/"//g' FILE > keymill-key.pem)`
	decodeBase64              = "(umask 077; base64 -d FILE > keymill-key)"

	// ssh-keygen writes no Ed25519 key in PEM.
	pythonSSH = "(umask 077; python3 -c 'import sys; from cryptography.hazmat.primitives.serialization import *; " +
		"sys.stdout.buffer.write(load_ssh_private_key(sys.stdin.buffer.read(), None)" +
		".private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))' < FILE > keymill-key.pem)"
	pythonSSHPublic = "python3 -c 'import sys; from cryptography.hazmat.primitives.serialization import *; " +
		"sys.stdout.buffer.write(load_ssh_public_key(sys.stdin.buffer.read())" +
		".public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))' < FILE > keymill-public.pem"
)

// sshP256 is the type of keys on P-256 (RFC 5656, section 6.2).
const sshP256 = "ecdsa-sha2-nistp256"

// notConvertible names a key of a type that has no ring.
func notConvertible(kind string) *FormatError {
	return &FormatError{Format: kind + "; only RSA, Ed25519 and P-256 keys are taken, and a key cannot be converted into one of another type"}
}

// unsupportedPEM maps the types of PEM blocks that are named and not taken.
var unsupportedPEM = map[string]*FormatError{
	"ENCRYPTED PRIVATE KEY":   {"an encrypted private key (PKCS #8)", opensslKey},
	"EC PARAMETERS":           {"parameters of an EC key, without the key", ""},
	"DSA PRIVATE KEY":         notConvertible("a DSA private key"),
	"DSA PARAMETERS":          {"parameters of a DSA key, without the key", ""},
	"DH PARAMETERS":           {"parameters for a key exchange", ""},
	"SM2 PRIVATE KEY":         notConvertible("an SM2 private key"),
	"RSA-PSS PRIVATE KEY":     notConvertible("an RSA-PSS private key, which cannot sign RS256"),
	"CERTIFICATE":             {"an X.509 certificate, which has only a public key", opensslCert},
	"X509 CERTIFICATE":        {"an X.509 certificate, which has only a public key", opensslCert},
	"TRUSTED CERTIFICATE":     {"an X.509 certificate, which has only a public key", opensslCert},
	"CERTIFICATE REQUEST":     {"a certificate request, which has only a public key", opensslRequest},
	"NEW CERTIFICATE REQUEST": {"a certificate request, which has only a public key", opensslRequest},
	"X509 CRL":                {"a list of revoked certificates, without a key", ""},
	"PKCS7":                   {"a PKCS #7 file, which has only certificates", opensslPKCS7},
	"CMS":                     {"a CMS file, which has only certificates", opensslPKCS7},
	"TSS2 PRIVATE KEY":        {"the key of a TPM, which cannot leave it", ""},
}

// unsupportedText returns the format of a file that is neither PEM nor JSON, or nil.
func unsupportedText(b []byte) *FormatError {
	text := strings.TrimSpace(string(b))
	word, _, _ := strings.Cut(text, " ")
	parts := strings.Count(text, ".")
	switch {
	case strings.HasPrefix(text, "-----BEGIN PGP "):
		return &FormatError{Format: "a PGP key; export it in PEM from the program that made it"}
	case strings.HasPrefix(text, "---- BEGIN SSH2 PUBLIC KEY"):
		return &FormatError{"an SSH public key (RFC 4716)", sshUnpackPublic}
	case strings.HasPrefix(text, "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY"):
		return &FormatError{Format: "a private key of SSH Tectia; export it in PEM from there"}
	case strings.Contains(text, "-----BEGIN ") && strings.Contains(text, `\n`):
		return &FormatError{`PEM whose lines are joined by the two characters \n`, unescape}
	case strings.Contains(text, "-----BEGIN "):
		return damagedPEM
	case strings.HasPrefix(text, "PuTTY-User-Key-File-"):
		return puttyFormat(text)
	case strings.HasPrefix(text, "<RSAKeyValue>"):
		return &FormatError{Format: "an RSA key in XML; export it in PEM, in .NET with ExportPkcs8PrivateKeyPem"}
	case strings.HasPrefix(word, "ssh-"), strings.HasPrefix(word, "ecdsa-sha2-"), strings.HasPrefix(word, "sk-"):
		return sshPublicFormat(word)
	case strings.HasPrefix(text, "eyJ") && parts == 4:
		return &FormatError{Format: "an encrypted JWK (JWE); decrypt it where it was made"}
	case strings.HasPrefix(text, "eyJ") && parts == 2:
		return &FormatError{Format: "a signed token (JWT), and not a key"}
	}
	return base64Format(text)
}

var damagedPEM = &FormatError{Format: "PEM that is incomplete or was changed; copy all of it again, from the BEGIN line to the END line"}

// base64Format names the file that text is in base64.
func base64Format(text string) *FormatError {
	inner, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || len(inner) == 0 {
		return nil
	}
	if block, _ := pem.Decode(inner); block != nil {
		return &FormatError{"PEM that is encoded in base64 once more", decodeBase64}
	}
	if format := unsupportedDER(inner); format != nil {
		return &FormatError{"base64 without BEGIN and END lines: " + format.Format, decodeBase64}
	}
	return nil
}

func puttyFormat(text string) *FormatError {
	line, _, _ := strings.Cut(text, "\n")
	if strings.Contains(line, "ssh-dss") || strings.Contains(line, "ecdsa-") && !strings.Contains(line, sshP256) {
		return notConvertible("a DSA private key of PuTTY, or one on another curve than P-256")
	}
	return &FormatError{"a private key of PuTTY", puttyKey}
}

func sshPublicFormat(kind string) *FormatError {
	switch {
	case strings.Contains(kind, "-cert-v01@"):
		return &FormatError{Format: "an SSH certificate; give the public key that it was made for"}
	case kind == "ssh-rsa", kind == sshP256:
		return &FormatError{"an SSH public key", sshPEMPublic}
	case kind == "ssh-ed25519":
		return &FormatError{"an SSH public key", pythonSSHPublic}
	}
	return notConvertible("an SSH public key of another type")
}

// opensshFormat names what is in a block of type OPENSSH PRIVATE KEY. It begins with a magic word,
// the name of a cipher, that of a key derivation and its options, the number of keys, and the first
// public key, which begins with its type. A name is preceded by its length (PROTOCOL.key of OpenSSH).
func opensshFormat(der []byte) *FormatError {
	rest, ok := bytes.CutPrefix(der, []byte("openssh-key-v1\x00"))
	next := func() []byte {
		if len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-4) {
			ok = false
			return nil
		}
		end := 4 + int(binary.BigEndian.Uint32(rest))
		field := rest[4:end]
		rest = rest[end:]
		return field
	}
	cipher := next()
	next()
	next()
	if ok && len(rest) >= 4 {
		rest = rest[4:]
	}
	rest = next()
	kind := string(next())
	switch {
	case !ok:
		return damagedPEM
	case kind != "ssh-rsa" && kind != "ssh-ed25519" && kind != sshP256:
		return notConvertible("an OpenSSH private key of another type")
	case string(cipher) != "none":
		return &FormatError{"an encrypted OpenSSH private key", sshDecrypt}
	case kind != "ssh-ed25519":
		return &FormatError{"an OpenSSH private key", sshPEM}
	}
	return &FormatError{"an OpenSSH private key", pythonSSH}
}

// unsupportedJSON returns the format of a JSON document that is not a JWK of a type that is taken, or nil.
func unsupportedJSON(b []byte) *FormatError {
	var document struct {
		Keys       []struct{ Kty, Crv string } `json:"keys"`
		Kty        string                      `json:"kty"`
		Crv        string                      `json:"crv"`
		PrivateKey string                      `json:"private_key"`
		Ciphertext string                      `json:"ciphertext"`
	}
	if json.Unmarshal(b, &document) != nil {
		return nil
	}
	switch {
	case len(document.Keys) > 0:
		first := 0
		for n := len(document.Keys) - 1; n >= 0; n-- {
			if k := document.Keys[n]; k.Kty == "RSA" || k.Crv == "Ed25519" || k.Crv == "P-256" {
				first = n
			}
		}
		return &FormatError{"a set of keys (JWKS); give one key at a time", fmt.Sprintf(firstOfJWKS, first)}
	case document.Kty == "oct":
		return &FormatError{Format: "a shared secret (JWK oct); only RSA, Ed25519 and P-256 keys are taken, because services verify with the public half"}
	case document.Kty != "" && document.Kty != "RSA" && document.Kty != "EC" && document.Crv != "Ed25519":
		return notConvertible("a JWK of another type")
	case strings.Contains(document.PrivateKey, "-----BEGIN "):
		return &FormatError{"a JSON document with a key in the member private_key", memberOfJSON}
	case document.Ciphertext != "":
		return &FormatError{Format: "an encrypted JWK (JWE); decrypt it where it was made"}
	}
	return nil
}
