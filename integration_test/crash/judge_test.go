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

// A judge checks signatures against a published set with the standard library alone,
// so that no code of ours vouches for itself.
type judge map[string]crypto.PublicKey // kid → key

// newJudge reads the set that srv publishes.
func newJudge(ctx context.Context, srv *server.Server) (judge, error) {
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
	j := judge{}
	for _, k := range set.Keys {
		switch k.Kty {
		case "OKP":
			j[k.Kid] = ed25519.PublicKey(decode(k.X))
		case "RSA":
			n, e := new(big.Int).SetBytes(decode(k.N)), new(big.Int).SetBytes(decode(k.E))
			j[k.Kid] = &rsa.PublicKey{N: n, E: int(e.Int64())}
		}
	}
	return j, nil
}

// verify says why token does not verify, nil if it does.
func (j judge) verify(token string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return fmt.Errorf("%d parts", len(parts))
	}
	kid, signed, signature := kidOf(token), []byte(parts[0]+"."+parts[1]), decode(parts[2])
	switch key := j[kid].(type) {
	case ed25519.PublicKey:
		if ed25519.Verify(key, signed, signature) {
			return nil
		}
	case *rsa.PublicKey:
		hash := sha256.Sum256(signed)
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], signature)
	case nil:
		return fmt.Errorf("kid %s is not in the set", kid)
	}
	return fmt.Errorf("kid %s: wrong signature", kid)
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

// decode returns nil for what is not base64url: nothing verifies with it.
func decode(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}

// TestTheJudgeSaysNo: a judge that accepts everything would make this room worthless.
func TestTheJudgeSaysNo(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"k"}`)) + ".e30"
	token := signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(signed)))
	if err := (judge{"k": public}).verify(token); err != nil {
		t.Errorf("a good token: %v", err)
	}
	if (judge{}).verify(token) == nil {
		t.Error("accepted a token of an unknown key")
	}
	if (judge{"k": public}).verify(strings.Replace(token, ".e30.", ".e31.", 1)) == nil {
		t.Error("accepted a tampered token")
	}
}

// await polls until ok. Its limit bounds a hang and nothing else.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const failsafe = 5 * time.Minute
	for end := time.Now().Add(failsafe); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", failsafe, what)
		}
	}
}

// awaitRecord waits until the audit log has a record of that action, and about that target
// if it is not empty: records join the log about a second after what they are about.
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
