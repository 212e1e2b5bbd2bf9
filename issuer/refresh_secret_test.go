package issuer

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// refreshAt refreshes at one of several servers.
func (w *world) refreshAt(i *Issuer, token refusal.Secret) (Grant, error) {
	return i.Token(w.t.Context(), TokenRequest{
		GrantType: "refresh_token", Client: Credentials{ClientID: "web", Method: "none"}, Refresh: token, From: home,
	})
}

// TestEveryServerKnowsASecretBeforeItIsUsed: one that runs reads it within ten seconds, and no server uses it for five
// minutes, also one that was started again. Earlier tokens and the retries of them stay valid, and nothing looks shared.
func TestEveryServerKnowsASecretBeforeItIsUsed(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		a.withoutCleanUp()
		a.web()
		a.user("alice", "7")
		p := a.begin("7")
		one, two := a.another(), a.another()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go one.Run(ctx)
		go two.Run(ctx)
		synctest.Wait()
		if n := must[api.RefreshSecret](t)(one.RotateRefreshSecret(t.Context(), "uid:0")); n.Number != 2 || !n.Used.Equal(inSeconds(a.keys.Now().Add(5*time.Minute))) {
			t.Fatalf("the new secret is %+v", n)
		}
		_, err := two.RotateRefreshSecret(t.Context(), "uid:0")
		refused(t, err, "in_use")
		time.Sleep(sweepEvery)
		if got := must[refusal.Secret](t)(two.refreshSecrets.Encode(t.Context(), refreshtoken.Token{Secret: 2, Family: record.ID{1}})); got == "" {
			t.Error("a server that runs has not read the secret")
		}
		secretOf := func(token refusal.Secret) byte {
			return must[refreshtoken.Token](t)(a.another().refreshSecrets.Decode(t.Context(), token)).Secret
		}
		for used := false; !used; time.Sleep(10 * time.Second) {
			for _, i := range []*Issuer{one, two, a.another()} { // the third one is started now
				old := p.grant.Refresh
				p.grant = must[Grant](t)(a.refreshAt(i, old))
				used = secretOf(p.grant.Refresh) == 2
				if again := must[Grant](t)(a.refreshAt(two, old)); again.Refresh != p.grant.Refresh {
					t.Fatal("a retry got another token")
				}
				if early := time.Now().Before(p.session().Created.Add(5 * time.Minute)); used == early {
					t.Fatalf("the secret is used: %v, in the first five minutes: %v", used, early)
				}
			}
		}
		if s := p.session(); s.Shared {
			t.Error("a session looks shared after the rotation of a secret")
		}
		if !must[LoginCount](t)(one.LoginCount(t.Context(), "alice", home)).Known {
			t.Error("the address of the last login is forgotten")
		}
		a.wantAudited("session.rotate_secret", 1)
		must[api.RefreshSecret](t)(two.RotateRefreshSecret(t.Context(), "uid:0"))
	})
}

// TestASecretThatIsPublishedIsNoFailure: the store can be away right after the commit. A caller that got an error would try
// again, and be refused.
func TestASecretThatIsPublishedIsNoFailure(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		store := &viewStore{Store: a.store}
		one := a.another(func(c *Config) { c.Store = store })
		store.fail.Store(new(error(storage.ErrUnavailable)))
		if n := must[api.RefreshSecret](t)(one.RotateRefreshSecret(t.Context(), "uid:0")); n.Number != 2 {
			t.Errorf("the new secret is %+v", n)
		}
	})
}

// A viewStore counts Views, and may take a while after it has read.
type viewStore struct {
	storage.Store
	views atomic.Int64
	takes atomic.Int64
	fail  atomic.Pointer[error]
	wait  atomic.Int64 // how long a View takes before it fails
}

func (s *viewStore) View(ctx context.Context, fn func(storage.Reader) error) error {
	s.views.Add(1)
	if err := s.fail.Load(); err != nil {
		time.Sleep(time.Duration(s.wait.Load()))
		return *err
	}
	defer time.Sleep(time.Duration(s.takes.Load()))
	return s.Store.View(ctx, fn)
}

// TestALateReadingLosesNoSecret: what a server began to read before a rotation, and got after it, does not replace what
// the rotation has read. Forged numbers make a server read at any time.
func TestALateReadingLosesNoSecret(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		a.withoutCleanUp()
		s := &viewStore{Store: a.store}
		i := a.another(func(c *Config) { c.Store = s })
		s.takes.Store(int64(time.Second))
		go i.refreshSecrets.Reload(t.Context())
		synctest.Wait()
		s.takes.Store(0)
		must[api.RefreshSecret](t)(i.RotateRefreshSecret(t.Context(), "uid:0"))
		time.Sleep(2 * time.Second)
		before := s.views.Load()
		must[refusal.Secret](t)(i.refreshSecrets.Encode(t.Context(), refreshtoken.Token{Secret: 2, Family: record.ID{1}}))
		if s.views.Load() != before {
			t.Error("the server has lost the new secret, and has to read it again")
		}
	})
}

// TestARotationWithoutASecretIsDamage, and not a crash.
func TestARotationWithoutASecretIsDamage(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		if err := a.file.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(refreshtoken.SecretKey(1)) }); err != nil {
			t.Fatal(err)
		}
		if _, err := a.RotateRefreshSecret(t.Context(), "uid:0"); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("got %v", err)
		}
	})
}

// TestAnUnknownSecretIsLookedUpOnce in five seconds, however many forged numbers come, before its token is refused.
func TestAnUnknownSecretIsLookedUpOnce(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		a.withoutCleanUp()
		a.web()
		a.user("alice", "7")
		a.begin("7")
		s := &viewStore{Store: a.store}
		one, two := a.another(), a.another(func(c *Config) { c.Store = s })
		must[api.RefreshSecret](t)(one.RotateRefreshSecret(t.Context(), "uid:0"))
		time.Sleep(5 * time.Minute)
		p := a.begin("7") // at a server that has not read the secret
		p.grant = must[Grant](t)(a.refreshAt(one, p.grant.Refresh))
		away := error(storage.ErrUnavailable)
		s.fail.Store(&away)
		if _, err := a.refreshAt(two, p.grant.Refresh); refusal.CodeOf(err) != "" || err == nil {
			t.Errorf("while the store is away, a token that another server made gets %v", err)
		}
		s.fail.Store(nil)
		time.Sleep(5 * time.Second)
		p.grant = must[Grant](t)(a.refreshAt(two, p.grant.Refresh))

		forged := string(must[refusal.Secret](t)(one.refreshSecrets.Encode(t.Context(), refreshtoken.Token{Secret: 2, Family: record.ID{1}})))
		number := strings.Replace(forged, "kmr_AQIB", "kmr_AQkB", 1) // the second byte is the number
		time.Sleep(5 * time.Second)
		for range 3 {
			before := s.views.Load()
			for range 100 {
				_, err := two.refreshSecrets.Decode(t.Context(), refusal.Secret(number))
				if !refreshtoken.IsInvalid(err) {
					t.Fatalf("got %v", err)
				}
			}
			if n := s.views.Load() - before; n != 1 {
				t.Errorf("100 forged numbers read the store %d times", n)
			}
			time.Sleep(5 * time.Second)
		}
	})
}

// TestUnknownSecretsDoNotQueueForAStoreThatIsAway: each read takes ten seconds to fail, and all who wait share one.
func TestUnknownSecretsDoNotQueueForAStoreThatIsAway(t *testing.T) {
	inBubble(t, 5*time.Second, func(t *testing.T, a *bubble) {
		a.withoutCleanUp()
		s := &viewStore{Store: a.store}
		one := a.another(func(c *Config) { c.Store = s })
		known := string(must[refusal.Secret](t)(one.refreshSecrets.Encode(t.Context(), refreshtoken.Token{Secret: 1, Family: record.ID{1}})))
		forged := refusal.Secret(strings.Replace(known, "kmr_AQEB", "kmr_AQkB", 1)) // the second byte is the number
		const deadline = 10 * time.Second
		away := error(storage.ErrUnavailable)
		s.fail.Store(&away)
		s.wait.Store(int64(deadline))
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		before, began, ended := s.views.Load(), time.Now(), make(chan time.Duration)
		for i := range 20 {
			go func() {
				ctx := t.Context()
				if i == 19 {
					synctest.Wait() // another one reads
					ctx = impatient
				}
				if _, err := one.refreshSecrets.Decode(ctx, forged); err == nil || refreshtoken.IsInvalid(err) {
					t.Errorf("got %v", err)
				}
				ended <- time.Since(began)
			}()
		}
		if first := <-ended; first > time.Second {
			t.Errorf("a caller who waits a second got an answer after %s", first)
		}
		for range 19 {
			if after := <-ended; after > deadline {
				t.Errorf("an answer came after %s", after)
			}
		}
		if n := s.views.Load() - before; n != 1 {
			t.Errorf("the store was read %d times", n)
		}
	})
}
