package numbers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/integration_test/server"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/bolt"
)

func TestMain(m *testing.M) { server.Main(m) }

const (
	audience = "orders"
	web      = "web" // the client through which users log in
	scope    = "read"

	// workers is the number of parallel callers. One commit of the store takes as many.
	workers = 128
)

func here() netip.Addr { return netip.MustParseAddr("127.0.0.1") }

// openedIssuer is a token server without HTTP: store, keys, issuer and their background loops.
type openedIssuer struct {
	*issuer.Issuer
	client issuer.Credentials // of web
	stop   func()             // ends the loops
	close  func() error
}

// A place is the path of a store, with the issuer and the master key that belong to it.
type place struct {
	path   string
	issuer string
	master keystore.MasterKey
}

// newPlace returns a place in a temporary directory of the test.
func newPlace(t *testing.T) place {
	master, _ := keystore.NewMasterKey()
	return place{filepath.Join(t.TempDir(), "keymill.db"), "https://id.example.com", master}
}

// newServer prepares a server without starting it. It is removed when the test ends.
func newServer(t *testing.T, config string) *server.Server {
	t.Helper()
	srv, err := server.New(server.Options{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the server:\n%.10000s", srv.Log())
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

// placeOf returns the place of the store that srv will open.
func placeOf(t *testing.T, srv *server.Server) place {
	t.Helper()
	if err := os.Mkdir(srv.Data, 0o700); err != nil {
		t.Fatal(err)
	}
	return place{filepath.Join(srv.Data, "keymill.db"), srv.Issuer, masterKey(t, srv)}
}

func masterKey(t *testing.T, srv *server.Server) keystore.MasterKey {
	t.Helper()
	line, err := os.ReadFile(filepath.Join(srv.Dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	master, err := keystore.ParseMasterKey(line)
	if err != nil {
		t.Fatal(err)
	}
	return master
}

// openIssuer opens the store at p, or creates it, and an issuer on it. If wrap is not nil, the issuer
// uses the store that wrap returns.
func openIssuer(t *testing.T, p place, wrap func(storage.Store) storage.Store) *openedIssuer {
	t.Helper()
	db, err := bolt.Open(p.path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := keystore.Config{
		Algorithms:  []string{keystore.EdDSA},
		RotateEvery: 30 * 24 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute, Master: p.master,
	}
	if _, err := keystore.Create(t.Context(), db, cfg, "test", "test"); err != nil && !errors.Is(err, keystore.ErrExists) {
		t.Fatal(err)
	}
	keys, err := keystore.Open(t.Context(), db, cfg)
	if err != nil {
		t.Fatal(err)
	}
	store := keys.Store()
	if wrap != nil {
		store = wrap(store)
	}
	r := &openedIssuer{}
	if r.Issuer, err = issuer.Open(t.Context(), issuer.Config{URL: p.issuer, Store: store, Keys: keys}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { keys.Run(ctx) })
	loops.Go(func() { audit.Run(ctx, store, audit.RunConfig{Log: slog.New(slog.DiscardHandler)}) })
	loops.Go(func() { r.Run(ctx) })
	r.stop = func() {
		cancel()
		loops.Wait()
	}
	r.close = sync.OnceValue(func() error {
		r.stop()
		keys.Close()
		return db.Close()
	})
	t.Cleanup(func() { r.close() })
	return r
}

// register adds an audience and the client web.
func (r *openedIssuer) register(t *testing.T) {
	t.Helper()
	_, err := r.AddAudience(t.Context(), api.Audience{Name: audience, Alg: "EdDSA", Scopes: []string{scope}}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.AddClient(t.Context(), api.NewClient{
		ID: web, Grants: []string{"refresh_token"}, Audiences: []string{audience}, Scopes: []string{scope},
	}, "uid:0")
	if err != nil {
		t.Fatal(err)
	}
	r.client = issuer.Credentials{ClientID: web, Secret: c.Secret, Method: "client_secret_post"}
}

// begin adds users without a password, because hashing one takes as long as beginning a hundred
// families. It begins that many families for the users in turns and returns their tokens.
func (r *openedIssuer) begin(t *testing.T, users, families int) []refusal.Secret {
	t.Helper()
	ids := make([]string, users)
	if err := inParallel(users, func(i int) error {
		u, err := r.AddUser(t.Context(), api.NewUser{Name: userName(i)}, "uid:0")
		ids[i] = u.ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	tokens := make([]refusal.Secret, families)
	if err := inParallel(families, func(i int) error {
		g, err := r.StartSession(t.Context(), issuer.SessionRequest{
			User: ids[i%users], Client: web, Endpoint: issuer.LoginBrowser, Audience: audience, Scope: scope, From: here(),
		})
		tokens[i] = g.Refresh
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return tokens
}

func userName(i int) string { return fmt.Sprintf("user-%d", i) }

// addressOf returns the address of user i, one of 65,536.
func addressOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

// rotate refreshes random families, n times in all. Each family is refreshed by one goroutine only. It
// leaves the newest tokens in tokens.
func (r *openedIssuer) rotate(t *testing.T, tokens []refusal.Secret, n int) {
	t.Helper()
	if err := shareOut(tokens, n, func(token refusal.Secret) (refusal.Secret, error) {
		g, err := r.Token(t.Context(), issuer.TokenRequest{
			GrantType: "refresh_token", Client: r.client, Refresh: token, From: here(),
		})
		return g.Refresh, err
	}); err != nil {
		t.Fatal(err)
	}
}

// inParallel calls fn with 0 to n−1, in several goroutines.
func inParallel(n int, fn func(int) error) error {
	var next atomic.Int64
	errs := make([]error, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = fn(i)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
