package tablesize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage/audit"
	"keymill/storage/postgres"
)

const (
	audience = "orders"
	web      = "web" // the client through which users log in
	actor    = "uid:0"
	workers  = 64
)

func here() netip.Addr { return netip.MustParseAddr("127.0.0.1") }

// An openedIssuer is a token server without HTTP: store, keys, issuer and their background loops.
type openedIssuer struct {
	*issuer.Issuer
	client issuer.Credentials // of web
	close  func()
}

// openIssuer makes a store in an empty database, with an audience and a client.
func openIssuer(ctx context.Context, url string) (*openedIssuer, error) {
	db, err := postgres.Open(ctx, postgres.Config{URL: url, Create: true})
	if err != nil {
		return nil, err
	}
	master, _ := keystore.NewMasterKey()
	cfg := keystore.Config{
		Algorithms:  []string{keystore.EdDSA},
		RotateEvery: 30 * 24 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute, Master: master,
	}
	var keys *keystore.Rings
	if _, err = keystore.Create(ctx, db, cfg, "bench", actor); err == nil {
		keys, err = keystore.Open(ctx, db, cfg)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	i := &openedIssuer{}
	if i.Issuer, err = issuer.Open(ctx, issuer.Config{URL: "https://id.example.com", Store: keys.Store(), Keys: keys}); err != nil {
		keys.Close()
		return nil, errors.Join(err, db.Close())
	}
	loops, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { keys.Run(loops) })
	all.Go(func() { audit.Run(loops, keys.Store(), audit.RunConfig{Log: slog.New(slog.DiscardHandler)}) })
	all.Go(func() { i.Run(loops) })
	i.close = sync.OnceFunc(func() {
		stop()
		all.Wait()
		keys.Close()
		db.Close()
	})
	if err := i.register(ctx); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

func (i *openedIssuer) register(ctx context.Context) error {
	if _, err := i.AddAudience(ctx, api.Audience{Name: audience, Alg: "EdDSA", Scopes: []string{"read"}}, actor); err != nil {
		return err
	}
	c, err := i.AddClient(ctx, api.NewClient{
		ID: web, Grants: []string{"refresh_token"}, Audiences: []string{audience}, Scopes: []string{"read"},
	}, actor)
	i.client = issuer.Credentials{ClientID: web, Secret: c.Secret, Method: "client_secret_post"}
	return err
}

// addUsers adds users without a password, because hashing one takes as long as beginning a hundred sessions.
func (i *openedIssuer) addUsers(ctx context.Context, n int) ([]string, error) {
	ids := make([]string, n)
	return ids, inParallel(n, func(n int) error {
		u, err := i.AddUser(ctx, api.NewUser{Name: fmt.Sprintf("user-%d@example.com", n)}, actor)
		ids[n] = u.ID
		return err
	})
}

// begin begins n sessions, of the users in turns.
func (i *openedIssuer) begin(ctx context.Context, users []string, n int) ([]refusal.Secret, error) {
	tokens := make([]refusal.Secret, n)
	return tokens, inParallel(n, func(n int) error {
		g, err := i.StartSession(ctx, issuer.SessionRequest{
			User: users[n%len(users)], Client: web, Endpoint: issuer.LoginBrowser, Audience: audience, From: here(),
		})
		tokens[n] = g.Refresh
		return err
	})
}

// refresh replaces every token.
func (i *openedIssuer) refresh(ctx context.Context, tokens []refusal.Secret) error {
	return inParallel(len(tokens), func(n int) error {
		g, err := i.Token(ctx, issuer.TokenRequest{GrantType: "refresh_token", Client: i.client, Refresh: tokens[n], From: here()})
		tokens[n] = g.Refresh
		return err
	})
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
