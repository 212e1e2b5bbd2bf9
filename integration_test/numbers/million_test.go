package numbers

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
	"keymill/issuer"
	"keymill/issuer/refusal"
)

// Bounds for a million live families. With fewer of them the bound of the store is smaller in
// proportion, those of start and memory are the same. The start is compared with one on a store
// without families, in turns.
const (
	maxMillionBytes = 450_000_000
	maxStartRatio   = 4
	maxAnonymous    = 200_000_000
	familiesEach    = 10 // of one user
)

// TestAMillionLiveFamiliesNeedNoMemory: a million families fit in one file of moderate size. The server
// keeps none of them in memory, so it starts nearly as fast as with an empty store.
func TestAMillionLiveFamiliesNeedNoMemory(t *testing.T) {
	families := counts.Of("live-families")
	srv := newServer(t, "")
	creds, tokens := fill(t, srv, families)
	path := filepath.Join(srv.Data, "keymill.db")
	checkSize(t, path, families)

	empty := newServer(t, "")
	start, emptyStart := leastStarts(t, srv, empty)
	if err := empty.Stop(); err != nil {
		t.Fatal(err)
	}
	peak := watch(t, srv)
	c, rotations := newClient(t, srv.Issuer, workers), counts.Of("rotations-of-many")
	begun := time.Now()
	if err := shareOut(tokens, rotations, func(token refusal.Secret) (refusal.Secret, error) {
		return c.refresh(creds, token)
	}); err != nil {
		t.Fatal(err)
	}
	rate, m := float64(rotations)/time.Since(begun).Seconds(), peak()
	t.Logf("counted: first key set after %v, without families after %v; while rotating %.0f/s at most %.0f MB anonymous, %.0f MB resident with the mapped store",
		start.Round(time.Millisecond), emptyStart.Round(time.Millisecond), rate, mega(m.anonymous), mega(m.resident))
	if start > maxStartRatio*emptyStart {
		t.Errorf("the first key set was served after %v, without families after %v: at most a factor of %d is allowed", start, emptyStart, maxStartRatio)
	}
	if m.anonymous > maxAnonymous {
		t.Errorf("%d bytes of anonymous memory, at most %d are allowed", m.anonymous, maxAnonymous)
	}
	checkBackups(t, srv, creds, tokens)
}

// fill begins families in the data directory of a server that has never run.
func fill(t *testing.T, srv *server.Server, families int) (issuer.Credentials, []refusal.Secret) {
	t.Helper()
	r := openIssuer(t, placeOf(t, srv), nil)
	r.register(t)
	begun := time.Now()
	tokens := r.begin(t, families/familiesEach, families)
	t.Logf("%d families begun in %v", families, time.Since(begun).Round(time.Second))
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	return r.client, tokens
}

// checkSize compares the size of the families with their bound: their records, those of their users,
// and all indexes. The audit log is in the same file and does not count, because it grows with each
// login, also after a family has ended. A tally lives for an hour after its user was busy, so it does not
// count either.
func checkSize(t *testing.T, path string, families int) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := readPages(path)
	if err != nil {
		t.Fatal(err)
	}
	p.print(t)
	all, log := p.all("audit", "tally"), p.all("tally").pages-p.all("audit", "tally").pages
	size := all.pages + p.branch
	t.Logf("counted: %d live families of %d users take %.1f MB, %d bytes each, in pages that are %.0f %% full; with the audit log of their logins the file has %.1f MB",
		families, families/familiesEach, mega(size), size/int64(families), all.fill(), mega(info.Size()))
	if p.kinds["family"] == nil || p.kinds["family"].records < families || log == 0 {
		t.Errorf("the store does not have all families that were begun: %+v", p.kinds["family"])
	}
	if allowed := int64(maxMillionBytes) * int64(families) / million; size > allowed {
		t.Errorf("the families take %d bytes, at most %d are allowed", size, allowed)
	}
}
