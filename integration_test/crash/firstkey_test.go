package crash

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
)

// TestTheFirstKeySurvivesKill9AfterItsFirstToken (I3): a new server is killed immediately after its
// first token. The key that signed was durable before, so after the restart it is published, the
// token verifies, and the same key signs again.
func TestTheFirstKeySurvivesKill9AfterItsFirstToken(t *testing.T) {
	kills := counts.Of("first-key-kills")
	for range kills {
		srv := server.Start(t, server.Options{Dev: true})
		client := devService(t, srv)
		token, err := srv.Token(context.Background(), client, "dev-api")
		srv.Kill()
		if err != nil {
			t.Fatal(err)
		}
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		keys, err := fetchKeys(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		if err := keys.verify(token); err != nil {
			t.Errorf("the first token after kill -9: %v", err)
		}
		second, err := srv.Token(t.Context(), client, "dev-api")
		if err != nil {
			t.Fatal(err)
		}
		if kidOf(second) != kidOf(token) {
			t.Errorf("after kill -9 the signing key changed from %s to %s", kidOf(token), kidOf(second))
		}
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("counted: %d kills after the first signature, 0 keys lost", kills)
}

// TestARotationSurvivesKill9: the key that a forced rotation named signs after a kill immediately
// after the rotation. The clock record in the store is older than the rotation then. A start that
// relied on that record alone would treat the key as one that does not sign yet.
func TestARotationSurvivesKill9(t *testing.T) {
	srv := server.Start(t, server.Options{})
	srv.Run(t, "audience", "add", "orders", "--alg", "EdDSA")
	client := srv.AddClient(t, "billing", "orders")
	for range 3 {
		var rotated struct{ KID string }
		srv.RunJSON(t, &rotated, "key", "rotate", "--alg", "EdDSA", "--force")
		srv.Kill()
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		token, err := srv.Token(t.Context(), client, "orders")
		if err != nil {
			t.Fatalf("after kill -9 no key signs: %v", err)
		}
		if kidOf(token) != rotated.KID {
			t.Errorf("key %s signed, want %s, which the rotation named", kidOf(token), rotated.KID)
		}
	}
}

// devService reads the client that a trial server creates.
func devService(t *testing.T, srv *server.Server) server.Client {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(srv.Data, "dev-credentials"))
	if err != nil {
		t.Fatal(err)
	}
	var credentials struct{ Clients []server.Client }
	if err := json.Unmarshal(b, &credentials); err != nil {
		t.Fatal(err)
	}
	for _, c := range credentials.Clients {
		if c.ID == "dev-service" {
			return c
		}
	}
	t.Fatalf("no dev-service in %s", b)
	return server.Client{}
}
