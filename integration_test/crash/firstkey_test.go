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

// TestTheFirstKeyOutlivesItsFirstToken (I3): a new store answers its first token and
// is killed in the same instant. A key that signs is durable, so after the restart
// it is published and the token verifies.
func TestTheFirstKeyOutlivesItsFirstToken(t *testing.T) {
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
		j, err := newJudge(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.verify(token); err != nil {
			t.Errorf("the first token after kill -9: %v", err)
		}
		second, err := srv.Token(t.Context(), client, "dev-api")
		if err != nil {
			t.Fatal(err)
		}
		if kidOf(second) != kidOf(token) {
			t.Errorf("the key changed from %s to %s", kidOf(token), kidOf(second))
		}
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("counted: %d kills after the first signature, 0 keys lost", kills)
}

// TestARotationOutlivesKill9: a key that was told to sign goes on signing after a kill in
// the same instant. The clock record is older than the rotation then, and a start that
// trusts it would take the key for one that has yet to be published for a while.
func TestARotationOutlivesKill9(t *testing.T) {
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
			t.Fatalf("after kill -9 nothing signs: %v", err)
		}
		if kidOf(token) != rotated.KID {
			t.Errorf("signed by %s, want %s, which the rotation named", kidOf(token), rotated.KID)
		}
	}
}

// devService reads the ready-made client of a trial server.
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
