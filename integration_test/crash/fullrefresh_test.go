package crash

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/integration_test/server"
)

const (
	fullFamilies = 40
	fullRefusals = 20               // refreshes that a full disk has to refuse
	fullLimit    = 15 * time.Minute // bounds a hang
)

// TestAFullDiskRefusesARefreshAndKeepsTheToken (I11, I16, R66): without room a refresh and a
// revocation are 503 with Retry-After, or they are done; never is one answered as done that
// was not. The key set is served meanwhile. With room again every token that was refused
// is good, without a restart.
func TestAFullDiskRefusesARefreshAndKeepsTheToken(t *testing.T) {
	if os.Getenv(namespaced) == "" {
		inOwnNamespace(t)
		return
	}
	dir := t.TempDir()
	disk := smallDisk(t, filepath.Join(dir, "data"))
	srv := server.Start(t, server.Options{Dir: dir, Config: server.WebConfig})
	srv.AddWeb(t)
	d := &drought{srv: srv, reader: srv.AddClient(t, "billing", "orders"), revoked: map[*chain]bool{}}
	for range fullFamilies {
		d.families = append(d.families, login(t, srv))
	}
	pid := srv.PID()
	fillUntilRefused(t, srv, disk)
	d.useUp(t)
	d.refuse(t)

	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	for _, c := range d.families {
		_, token := c.newest()
		if d.revoked[c] {
			wantGone(t, srv, token)
			continue
		}
		if status := d.refresh(t, c); status != http.StatusOK {
			t.Errorf("with room again the same token is answered %d", status)
		}
	}
	if srv.PID() != pid {
		t.Error("that took a restart")
	}
	if t.Failed() {
		return
	}
	t.Logf("counted: on a full disk %d refreshes and %d revocations refused with 503, %d refreshes and %d revocations done; "+
		"0 tokens lost, 0 revocations pretended", d.refused.Load(), d.unrevoked, d.done.Load(), len(d.revoked))
}

// A drought is a server whose disk is full.
type drought struct {
	srv           *server.Server
	reader        server.Client
	families      []*chain
	revoked       map[*chain]bool // revocations that were answered as done
	unrevoked     int
	refused, done atomic.Int64
}

// useUp makes the smallest change until that is refused as well.
func (d *drought) useUp(t *testing.T) {
	t.Helper()
	for n := range 400 {
		if _, _, err := d.srv.Verb(t.Context(), "audience", "add", fmt.Sprint("small-", n), "--alg", "EdDSA"); err != nil {
			return
		}
	}
	t.Fatal("small changes go on for ever")
}

// refuse refreshes and revokes until enough was refused. A rotation gives back as many pages
// as it takes, but not while somebody reads: so others ask for tokens all the time.
func (d *drought) refuse(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for ctx.Err() == nil {
				d.srv.Token(ctx, d.reader, "orders")
			}
		})
	}
	defer readers.Wait()
	defer stop()
	for end := time.Now().Add(fullLimit); d.refused.Load() < fullRefusals || d.unrevoked == 0; {
		if time.Now().After(end) {
			t.Fatalf("after %v a full disk has refused %d refreshes and %d revocations", fullLimit, d.refused.Load(), d.unrevoked)
		}
		var round sync.WaitGroup
		for _, c := range d.families {
			if !d.revoked[c] {
				round.Go(func() { d.refresh(t, c) })
			}
		}
		round.Wait()
		if _, err := newJudge(t.Context(), d.srv); err != nil {
			t.Errorf("the key set on a full disk: %v", err)
		}
		d.revokeOne(t)
	}
}

// refresh presents the newest token of a family and returns the status.
func (d *drought) refresh(t *testing.T, c *chain) int {
	from, token := c.newest()
	a, err := d.srv.Refresh(t.Context(), server.Web, token)
	switch {
	case err != nil:
		t.Error(err)
	case a.Status == http.StatusOK:
		d.done.Add(1)
		if err := c.note(from, a.Field("refresh_token")); err != nil {
			t.Error(err)
		}
	default:
		d.refused.Add(1)
		wantUnavailable(t, a)
	}
	return a.Status
}

// revokeOne tries to end a family, as long as there are enough of them.
func (d *drought) revokeOne(t *testing.T) {
	t.Helper()
	for _, c := range d.families {
		if d.revoked[c] || d.unrevoked > 0 || len(d.revoked) >= fullFamilies/2 {
			continue
		}
		_, token := c.newest()
		a, err := d.srv.Revoke(t.Context(), server.Web, token)
		if err != nil {
			t.Error(err)
			return
		}
		if a.Status == http.StatusOK {
			d.revoked[c] = true
			return
		}
		d.unrevoked++
		wantUnavailable(t, a)
		return
	}
}
