package issuer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/bolt"
	"keymill/storage/storagetest"
)

// A world is an Issuer over a real store and real keys.
type world struct {
	*Issuer
	t     testing.TB
	file  *bolt.Store   // the store below the tags
	store storage.Store // keys.Store()
	path  string
	keys  *keystore.Rings
}

const testURL = "https://auth.example.com"

var testKeys = keystore.Config{
	Algorithms: []string{"RS256", "EdDSA"}, RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute,
}

// seed makes one store with its keys for all tests. Each test works on a copy, because to make a pair
// of RSA keys takes longer than the tests themselves.
var seed = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "seed")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "keymill.db")
	store, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return nil, err
	}
	if _, err = keystore.Create(context.Background(), store, testKeys, "test", "test"); err != nil {
		return nil, err
	}
	if _, err = keystore.Open(context.Background(), store, testKeys); err != nil {
		return nil, err
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func newWorld(t testing.TB) *world {
	t.Helper()
	b, err := seed()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, path: filepath.Join(t.TempDir(), "keymill.db")}
	if err := os.WriteFile(w.path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(func() { w.file.Close() })
	return w
}

func (w *world) open() { w.t.Helper(); w.openWith(testKeys) }

func (w *world) openWith(keys keystore.Config) {
	w.t.Helper()
	var err error
	if w.file, err = bolt.Open(w.path, bolt.Options{}); err != nil {
		w.t.Fatal(err)
	}
	if w.keys, err = keystore.Open(w.t.Context(), storagetest.RerunningIfAsked(w.file), keys); err != nil {
		w.t.Fatal(err)
	}
	w.store = w.keys.Store()
	if w.Issuer, err = Open(w.t.Context(), Config{URL: testURL, Store: w.store, Keys: w.keys}); err != nil {
		w.t.Fatal(err)
	}
}

// restart closes the store and opens it again.
func (w *world) restart() {
	w.t.Helper()
	if err := w.store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

func (w *world) audience(name string, scopes ...string) {
	w.t.Helper()
	if _, err := w.AddAudience(w.t.Context(), api.Audience{Name: name, Alg: "EdDSA", Scopes: scopes}, "uid:0"); err != nil {
		w.t.Fatal(err)
	}
}

// service adds a confidential client of one audience and returns its secret.
func (w *world) service(id, audience string, scopes ...string) refusal.Secret {
	w.t.Helper()
	c, err := w.AddClient(w.t.Context(), api.NewClient{
		ID: id, Grants: []string{"client_credentials"}, Audiences: []string{audience}, Scopes: scopes,
	}, "uid:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return c.Secret
}

func (w *world) token(id string, secret refusal.Secret) (Grant, error) {
	return w.Token(w.t.Context(), TokenRequest{
		GrantType: "client_credentials", Client: Credentials{id, secret, "client_secret_basic"},
	})
}

// refused fails the test unless err is a Refusal with that code, and returns its description.
func refused(t testing.TB, err error, code string) string {
	t.Helper()
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != code {
		t.Fatalf("got %v, want the refusal %s", err, code)
	}
	return r.Description
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
