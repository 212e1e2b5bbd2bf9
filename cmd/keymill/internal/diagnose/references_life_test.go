package diagnose

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keymill/integration_test/counts"
	"keymill/issuer"
	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/outbox"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/bolt"
)

// A life is a server of some days, whose administrators and users do everything that writes records.
type life struct {
	t      *testing.T
	file   *bolt.Store
	keys   keystore.Config
	rings  *keystore.Rings
	issuer *issuer.Issuer
	stop   func()
	random *rand.Rand
	grants []issuer.Grant // of logins and refreshes
}

var home = netip.MustParseAddr("192.0.2.1")

func (l *life) start() {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	l.rings = must(keystore.Open(ctx, l.file, l.keys))
	store := l.rings.Store()
	events := must(outbox.Open(ctx, outbox.Config{Store: store, Now: l.rings.Now, WallTime: l.rings.WallTime}))
	l.issuer = must(issuer.Open(ctx, issuer.Config{
		URL: "https://id.example.com", Store: store, Keys: l.rings, Outbox: events, Admin: true,
		Refresh: issuer.Lifetimes{Grace: 30 * time.Second, Idle: 20 * time.Hour, Absolute: 50 * time.Hour},
	}))
	ended := make(chan error, 2)
	go func() { ended <- l.rings.Run(ctx) }()
	go func() { ended <- l.issuer.Run(ctx) }()
	l.stop = func() { cancel(); must(0, errors.Join(<-ended, <-ended, l.rings.Close())) }
}

func (l *life) user() string   { return fmt.Sprint(1 + l.random.IntN(4)) }
func (l *life) client() string { return []string{"web", "app"}[l.random.IntN(2)] }

func (l *life) grant() issuer.Grant {
	if len(l.grants) == 0 {
		return issuer.Grant{}
	}
	return l.grants[l.random.IntN(len(l.grants))]
}

func (l *life) login(user, client string) {
	if g, err := l.issuer.StartSession(l.t.Context(), issuer.SessionRequest{User: user, Client: client, Endpoint: issuer.LoginBrowser, From: home}); err == nil {
		l.grants = append(l.grants, g)
	}
}

// Hashes of two classes; the test is not about them.
const (
	hashA = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	hashB = "pbkdf2_sha256$1000$c29tZXNhbHQ$" + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

// acts are what happens. Most of them fail at times, for example for a user who was removed.
func (l *life) acts() []func() {
	ctx, i := l.t.Context(), l.issuer
	return []func(){
		func() { l.login(l.user(), l.client()) },
		func() { l.login(l.user(), l.client()) },
		func() {
			g, err := i.Token(ctx, issuer.TokenRequest{GrantType: "refresh_token", Client: issuer.Credentials{ClientID: l.client(), Method: "none"}, Refresh: l.grant().Refresh, From: home})
			if err == nil {
				l.grants = append(l.grants, g)
			}
		},
		func() {
			i.Revoke(ctx, issuer.Credentials{ClientID: l.client(), Method: "none"}, l.grant().Refresh, home)
		},
		func() {
			client, before := l.client(), len(l.grants)
			if l.login(l.user(), client); len(l.grants) > before {
				i.Revoke(ctx, issuer.Credentials{ClientID: client, Method: "none"}, refusal.Secret(l.grants[before].AccessToken), home)
			}
		},
		func() { i.RevokeSession(ctx, l.grant().Session, "uid:0") },
		func() { i.LogoutUser(ctx, "id:"+l.user(), "uid:0") },
		func() { i.RemoveUser(ctx, "id:"+l.user(), "uid:0") },
		func() { l.addUser(l.user(), hashA) },
		func() { l.addUser(l.user(), hashB) },
		func() { i.SetUser(ctx, "id:"+l.user(), api.UserChange{Name: new("user" + l.user())}, "uid:0") },
		func() { i.RemoveClient(ctx, "app", "uid:0") },
		func() { l.addClient("app", "b") },
		func() {
			i.SetClient(ctx, "app", api.ClientChange{Audiences: &[]string{"a", "b"}, Origins: &[]string{"https://a.example.com", "https://b.example.com"}}, "uid:0")
		},
		func() { i.RevokeClientSessions(ctx, "web", "uid:0") },
		func() {
			i.AddClient(ctx, api.NewClient{
				ID: "deployer", Grants: []string{"client_credentials"}, Audiences: []string{adminscope.Audience}, Scopes: []string{"keys:read"},
			}, "uid:0")
		},
		func() { i.RemoveClient(ctx, "deployer", "uid:0") },
		func() { i.RevokeAllSessions(ctx, "uid:0") },
		func() { time.Sleep(time.Duration(l.random.IntN(5)) * time.Hour) },
		func() { time.Sleep(time.Duration(l.random.IntN(90)) * time.Minute) },
		func() { time.Sleep(time.Duration(l.random.IntN(90)) * time.Second) },
		func() { l.stop(); l.start() },
	}
}

func (l *life) addUser(id string, hash refusal.Secret) {
	l.issuer.ImportUser(l.t.Context(), api.ImportedUser{ID: id, Name: "user" + l.user(), Hash: hash}, "uid:0")
}

func (l *life) addClient(id, audience string) {
	l.issuer.AddClient(l.t.Context(), api.NewClient{
		ID: id, Public: true, Grants: []string{"refresh_token"}, Audiences: []string{audience}, Origins: []string{"https://a.example.com"},
	}, "uid:0")
}

// TestNoLifeLeavesAFinding: whatever users and administrators do, and whenever the server is stopped,
// doctor finds nothing. What a removal leaves behind is as it should be.
func TestNoLifeLeavesAFinding(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(counts.Of("reference-lives")) {
		synctest.Test(t, func(t *testing.T) {
			file := must(bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{}))
			defer file.Close()
			l := &life{t: t, file: file, random: rand.New(rand.NewPCG(seed, 7)), keys: keystore.Config{
				Algorithms: []string{"EdDSA"}, RotateEvery: 30 * 24 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute,
				Changed: func([]keystore.PublicKey) {}, Heartbeat: 10 * time.Minute,
			}}
			must(keystore.Create(t.Context(), file, l.keys, "uid:0", "test"))
			l.start()
			must(l.issuer.AddAudience(t.Context(), api.Audience{Name: "a", Alg: "EdDSA"}, "uid:0"))
			must(l.issuer.AddAudience(t.Context(), api.Audience{Name: "b", Alg: "EdDSA"}, "uid:0"))
			l.addClient("web", "a")
			for n := range 120 {
				if n == 40 { // more logins than have an audit record, and more than are listed
					l.addUser("1", hashA)
					for range 220 {
						l.login("1", "web")
					}
				}
				if n%4 == 0 {
					l.addUser(l.user(), hashB) // so that there are users most of the time
				}
				acts := l.acts()
				acts[l.random.IntN(len(acts))]()
				l.grants = slices.Clone(l.grants[max(len(l.grants)-300, 0):])
				if n%3 != 0 {
					continue
				}
				synctest.Wait() // doctor reads a store that nothing changes, so what is due now is done before it
				d := &Doctor{records: readOnly{l.rings.Store()}}
				d.checkReferences(t.Context(), l.rings.ErasureTime(), false)
				l.count(seen)
				if found := text(d.findings); found != "" {
					t.Fatalf("seed %d, act %d: %s", seed, n, found)
				}
			}
			l.stop()
		})
	}
	for _, kind := range []string{"id", "login", "scheme", "origin", "gone", "family", "terms", "tally", "sessions", "denied", "due", "webhook"} {
		if seen[kind] < 5 {
			t.Errorf("only %d records of the kind %s were checked", seen[kind], kind)
		}
	}
}

// count counts the records of each kind.
func (l *life) count(seen map[string]int) {
	l.t.Helper()
	must(0, eachRecord(l.t.Context(), l.rings.Store(), "", "", func() page {
		some := map[string]int{}
		return page{func(_ storage.Reader, e storage.Entry, err error) error {
			kind, _, _ := strings.Cut(e.Key, "/")
			some[kind]++
			return err
		}, func() {
			for kind, n := range some {
				seen[kind] += n
			}
		}}
	}))
}
