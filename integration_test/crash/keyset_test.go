package crash

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// A keySet verifies signatures with the standard library only. The code under test must not verify
// its own tokens.
type keySet map[string]crypto.PublicKey // kid → key

// fetchKeys reads the key set that srv publishes.
func fetchKeys(ctx context.Context, srv *server.Server) (keySet, error) {
	status, body, err := srv.Get(ctx, "/.well-known/jwks.json")
	if err != nil || status != 200 {
		return nil, fmt.Errorf("key set: status %d: %w", status, err)
	}
	var set struct {
		Keys []struct{ Kid, Kty, X, N, E string }
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, err
	}
	keys := keySet{}
	for _, k := range set.Keys {
		switch k.Kty {
		case "OKP":
			keys[k.Kid] = ed25519.PublicKey(decode(k.X))
		case "RSA":
			n, e := new(big.Int).SetBytes(decode(k.N)), new(big.Int).SetBytes(decode(k.E))
			keys[k.Kid] = &rsa.PublicKey{N: n, E: int(e.Int64())}
		}
	}
	return keys, nil
}

// verify returns nil if the signature of the token is valid, and otherwise an error that says why not.
func (s keySet) verify(token string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return fmt.Errorf("the token has %d parts, want 3", len(parts))
	}
	kid, signed, signature := kidOf(token), []byte(parts[0]+"."+parts[1]), decode(parts[2])
	switch key := s[kid].(type) {
	case ed25519.PublicKey:
		if ed25519.Verify(key, signed, signature) {
			return nil
		}
	case *rsa.PublicKey:
		hash := sha256.Sum256(signed)
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], signature)
	case nil:
		return fmt.Errorf("kid %s is not in the key set", kid)
	}
	return fmt.Errorf("the signature of key %s is invalid", kid)
}

func kidOf(token string) string {
	var header struct{ Kid string }
	part, _, _ := strings.Cut(token, ".")
	json.Unmarshal(decode(part), &header)
	return header.Kid
}

func expiryOf(token string) time.Time {
	var claims struct{ Exp int64 }
	json.Unmarshal(decode(strings.Split(token, ".")[1]), &claims)
	return time.Unix(claims.Exp, 0)
}

// decode returns nil for text that is not base64url. No signature verifies with nil.
func decode(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

// TestVerifyRefusesWrongTokens tests the tests: if verify accepted every token, they would prove
// nothing.
func TestVerifyRefusesWrongTokens(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"k"}`)) + ".e30"
	token := signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(signed)))
	if err := (keySet{"k": public}).verify(token); err != nil {
		t.Errorf("a valid token is refused: %v", err)
	}
	if (keySet{}).verify(token) == nil {
		t.Error("a token of an unknown key is accepted")
	}
	if (keySet{"k": public}).verify(strings.Replace(token, ".e30.", ".e31.", 1)) == nil {
		t.Error("a changed token is accepted")
	}
}

// await polls until ok returns true. Its limit only ends a test that hangs.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const failsafe = 5 * time.Minute
	for end := time.Now().Add(failsafe); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", failsafe, what)
		}
	}
}

// awaitRecord waits until the audit log has a record of that action, and of that target unless it is
// empty. A record joins the log about a second after its event.
func awaitRecord(t *testing.T, srv *server.Server, action, target string) {
	t.Helper()
	await(t, "the audit record "+action+" "+target, func() bool {
		for line := range strings.Lines(srv.Run(t, "audit", "tail", "-n", "100", "--json")) {
			var r struct{ Action, Target string }
			if json.Unmarshal([]byte(line), &r) == nil && r.Action == action && (target == "" || r.Target == target) {
				return true
			}
		}
		return false
	})
}
