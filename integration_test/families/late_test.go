package families

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keymill/issuer"
	"keymill/issuer/api"
)

// TestARevocationOfAnExpiredFamilyIsPermanent (I10): a family whose lifetime is over may live again if
// its client gets a longer lifetime. If it was revoked in between, it stays ended.
func TestARevocationOfAnExpiredFamilyIsPermanent(t *testing.T) {
	var sum tally
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			l := newLife(t, &sum)
			defer l.real.stop(true)
			grant, err := l.real.StartSession(ctx(), issuer.SessionRequest{
				User: "bob", Client: "web", Endpoint: issuer.LoginBrowser, Audience: "orders",
			})
			l.real.must(err)
			time.Sleep(fresh.idle + pick(t, "late", []time.Duration{0, -time.Millisecond, time.Hour}))
			switch pick(t, "how", []string{"client", "user", "operator"}) {
			case "client":
				err = l.real.Revoke(ctx(), public("web"), grant.Refresh, netip.Addr{})
			case "user":
				err = l.real.Logout(ctx(), issuer.RefreshRequest{Client: "web", Token: grant.Refresh})
			case "operator":
				_, err = l.real.RevokeSession(ctx(), sidOf(grant.AccessToken), by)
			}
			l.real.codeOf(err) // a refusal is fine: the clean-up may have removed the family
			_, err = l.real.SetClient(ctx(), "web", api.ClientChange{Idle: text(fresh.idle * 4)}, by)
			l.real.must(err)
			_, err = l.ask(presented{client: "web", audience: "orders"}, grant.Refresh)
			if code := l.real.codeOf(err); code != "invalid_grant" {
				t.Fatalf("a revoked family was answered %q", code)
			}
		})
	})
}
