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
	fullRefusals = 20               // refreshes that the full disk must refuse
	fullLimit    = 15 * time.Minute // only ends a test that hangs
)

// TestAFullDiskRefusesARefreshAndKeepsTheToken (I11, I16, R66): on a full disk a refresh or a
// revocation either succeeds or is answered with 503 and Retry-After. It is never answered with
// success without being done. The key set is served all the time. When there is space again, every
// token that was refused works, without a restart.
func TestAFullDiskRefusesARefreshAndKeepsTheToken(t *testing.T) {
	if os.Getenv(namespaced) == "" {
		inOwnNamespace(t)
		return
	}
	dir := t.TempDir()
	disk := smallDisk(t, filepath.Join(dir, "data"))
	srv := server.Start(t, server.Options{Dir: dir, Config: server.WebConfig})
	srv.AddWeb(t)
	d := &fullDisk{srv: srv, reader: srv.AddClient(t, "billing", "orders"), revoked: map[*chain]bool{}}
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
			wantEnded(t, srv, token)
			continue
		}
		if status := d.refresh(t, c); status != http.StatusOK {
			t.Errorf("with space again the same token is answered %d", status)
		}
	}
	if srv.PID() != pid {
		t.Error("the server was restarted")
	}
	if t.Failed() {
		return
	}
	t.Logf("counted: on a full disk %d refreshes and %d revocations refused with 503, %d refreshes and %d revocations done; "+
		"0 tokens lost, 0 revocations lost", d.refused.Load(), d.unrevoked, d.done.Load(), len(d.revoked))
}

// fullDisk is a server whose disk is full.
type fullDisk struct {
	srv           *server.Server
	reader        server.Client
	families      []*chain
	revoked       map[*chain]bool // families whose revocation succeeded
	unrevoked     int             // revocations that were refused
	refused, done atomic.Int64
}

// useUp makes the smallest possible change until it is refused too.
func (d *fullDisk) useUp(t *testing.T) {
	t.Helper()
	for n := range 400 {
		if _, _, err := d.srv.Verb(t.Context(), "audience", "add", fmt.Sprint("small-", n), "--alg", "EdDSA"); err != nil {
			return
		}
	}
	t.Fatal("400 small changes succeeded on a full disk")
}

// refuse refreshes and revokes until enough requests were refused. A refresh frees as many pages as
// it uses, except while a read is open. So other clients get tokens all the time.
func (d *fullDisk) refuse(t *testing.T) {
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
			t.Fatalf("in %v the full disk refused only %d refreshes and %d revocations", fullLimit, d.refused.Load(), d.unrevoked)
		}
		var round sync.WaitGroup
		for _, c := range d.families {
			if !d.revoked[c] {
				round.Go(func() { d.refresh(t, c) })
			}
		}
		round.Wait()
		if _, err := fetchKeys(t.Context(), d.srv); err != nil {
			t.Errorf("the key set on a full disk: %v", err)
		}
		d.revokeOne(t)
	}
}

// refresh presents the newest token of a family and returns the status.
func (d *fullDisk) refresh(t *testing.T, c *chain) int {
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

// revokeOne tries to revoke one family. It does nothing after a revocation was refused, or when half
// of the families are revoked.
func (d *fullDisk) revokeOne(t *testing.T) {
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
