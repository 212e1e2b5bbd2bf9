package verifiers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/server"
)

// A signer is a private key of the test that the issuer has imported. So the test can sign tokens
// that differ from the issuer's own in exactly one point.
type signer struct {
	alg, kid string
	private  crypto.Signer
}

func newSigner(t *testing.T, alg, kid string) signer {
	t.Helper()
	var private crypto.Signer
	var err error
	switch alg {
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer{alg, kid, private}
}

// importTo imports the key into the issuer; more are flags of `key import`.
func (k signer) importTo(t *testing.T, srv *server.Server, more ...string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	srv.Run(t, append([]string{"key", "import", file, "--kid", k.kid}, more...)...)
}

// sign returns a compact JWS (RFC 7515, section 7.1) of any header and payload.
func (k signer) sign(header, payload string) string {
	input := encode(header) + "." + encode(payload)
	message, hash := []byte(input), crypto.Hash(0) // Ed25519 hashes by itself
	if k.alg != "EdDSA" {
		sum := sha256.Sum256(message)
		message, hash = sum[:], crypto.SHA256
	}
	signature, err := k.private.Sign(rand.Reader, message, hash)
	if err != nil {
		panic(err) // a fresh key can sign
	}
	if k.alg == "ES256" {
		signature = fromDER(signature)
	}
	return input + "." + encode(string(signature))
}

// fromDER returns r and s of a signature in 32 octets each (RFC 7518, section 3.4), and toDER the reverse.
func fromDER(der []byte) []byte {
	var parts struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &parts); err != nil {
		panic(err)
	}
	return append(parts.R.FillBytes(make([]byte, 32)), parts.S.FillBytes(make([]byte, 32))...)
}

func toDER(signature []byte) []byte {
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])})
	if err != nil {
		panic(err)
	}
	return der
}

// secrets returns the public key in the encodings that careless code would use as an HMAC key (RFC
// 8725, section 2.1). An attacker knows all of them.
func (k signer) secrets(t *testing.T, srv *server.Server) map[string][]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
	switch public := k.private.Public().(type) {
	case ed25519.PublicKey:
		out["bytes"] = public
	case *rsa.PublicKey:
		out["bytes"] = public.N.Bytes()
	case *ecdsa.PublicKey:
		if out["bytes"], err = public.Bytes(); err != nil {
			t.Fatal(err)
		}
	}
	_, body, err := srv.Get(t.Context(), "/.well-known/jwks.json")
	var set struct{ Keys []json.RawMessage }
	if json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	for _, raw := range set.Keys {
		var member struct{ Kid string }
		if json.Unmarshal(raw, &member); member.Kid == k.kid {
			out["JWK"] = raw
		}
	}
	if len(out) != 3 {
		t.Fatalf("the issuer does not publish %s", k.kid)
	}
	return out
}

// A mint makes variants of one of the issuer's tokens, for one audience.
type mint struct {
	key, other signer            // other: the issuer's key of another algorithm
	secrets    map[string][]byte // encoding of the public key → its bytes
	genuine    string            // issued by the server and signed with key
	header     object
	claims     object
}

type object map[string]any

// and returns a copy with changes; nil removes a member.
func (o object) and(changes object) object {
	out := maps.Clone(o)
	for name, value := range changes {
		if out[name] = value; value == nil {
			delete(out, name)
		}
	}
	return out
}

func (o object) String() string {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// newMints imports keys of the test into the issuer and returns a mint for each algorithm.
func newMints(t *testing.T, srv *server.Server, clients map[string]server.Client) map[string]mint {
	t.Helper()
	keys := map[string]signer{} // algorithm → key
	for alg := range clients {
		keys[alg] = newSigner(t, alg, "known-"+alg)
		keys[alg].importTo(t, srv, "--sign-now")
	}
	others := map[string]string{"EdDSA": "RS256", "RS256": "EdDSA", "ES256": "RS256"}
	mints := map[string]mint{}
	for alg, c := range clients {
		mints[alg] = newMint(t, srv, keys[alg], keys[others[alg]], c)
	}
	return mints
}

func newMint(t *testing.T, srv *server.Server, key, other signer, c server.Client) mint {
	t.Helper()
	m := mint{key: key, other: other, secrets: key.secrets(t, srv), genuine: token(t, srv, c, audienceOf(key.alg))}
	parts := strings.Split(m.genuine, ".")
	for i, o := range []*object{&m.header, &m.claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(b, o)
		}
		if err != nil {
			t.Fatalf("the issuer's token: %v", err)
		}
	}
	if m.header["kid"] != key.kid {
		t.Fatalf("the issuer signs with %v, not with the imported %s", m.header["kid"], key.kid)
	}
	return m
}

// claim returns a token with changed claims, and head one with a changed header.
func (m mint) claim(changes object) string {
	return m.key.sign(m.header.String(), m.claims.and(changes).String())
}

func (m mint) head(changes object) string {
	return m.key.sign(m.header.and(changes).String(), m.claims.String())
}

// by returns the token signed with another key.
func (m mint) by(k signer) string {
	return k.sign(m.header.and(object{"kid": k.kid, "alg": k.alg}).String(), m.claims.String())
}

// unsigned returns a token without a signature (RFC 7519, section 6).
func (m mint) unsigned(header object) string {
	return encode(m.header.and(header).String()) + "." + encode(m.claims.String()) + "."
}

// hmac returns a token signed with a public value as the secret.
func (m mint) hmac(secret string) string {
	input := encode(m.header.and(object{"alg": "HS256"}).String()) + "." + encode(m.claims.String())
	mac := hmac.New(sha256.New, m.secrets[secret])
	mac.Write([]byte(input))
	return input + "." + encode(string(mac.Sum(nil)))
}

// swap replaces one part of the token and keeps the others.
func (m mint) swap(part int, text string) string {
	parts := strings.Split(m.genuine, ".")
	parts[part] = encode(text)
	return strings.Join(parts, ".")
}

// resign changes the signature of the issuer's own token.
func (m mint) resign(change func(signature []byte) []byte) string {
	at := strings.LastIndex(m.genuine, ".")
	b, err := base64.RawURLEncoding.DecodeString(m.genuine[at+1:])
	if err != nil {
		panic(err)
	}
	return m.genuine[:at+1] + encode(string(change(b)))
}

// mirrored returns the other valid form of a token of ES256: (r, n-s) is a signature too.
func (m mint) mirrored() string {
	return m.resign(func(b []byte) []byte {
		s := new(big.Int).SetBytes(b[32:])
		s.Sub(elliptic.P256().Params().N, s).FillBytes(b[32:])
		return b
	})
}

// flip changes one bit of the signature. respell changes no bit of it, and sets the unused bits of
// its last base64 digit (RFC 4648, section 3.5).
func (m mint) flip() string {
	at := strings.LastIndex(m.genuine, ".")
	b, _ := base64.RawURLEncoding.DecodeString(m.genuine[at+1:])
	b[len(b)/2] ^= 1
	return m.genuine[:at+1] + encode(string(b))
}

func (m mint) respell() string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(m.genuine) - 1
	return m.genuine[:last] + string(digits[strings.IndexByte(digits, m.genuine[last])|1])
}

// asJSON returns the same token in the JSON serialization (RFC 7515, section 7.2.2), which a JWT
// must not use (RFC 7519, section 1).
func (m mint) asJSON() string {
	parts := strings.Split(m.genuine, ".")
	return object{"protected": parts[0], "payload": parts[1], "signature": parts[2]}.String()
}

// twice repeats a claim, so that two parsers may read different values (RFC 8725, section 2.6).
func (m mint) twice(name string, first any) string {
	claims := m.claims.String()
	return m.key.sign(m.header.String(), fmt.Sprintf("{%q:%q,%s", name, first, claims[1:]))
}

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
