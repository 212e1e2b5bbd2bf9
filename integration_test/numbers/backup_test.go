package numbers

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/integration_test/server"
	"keymill/issuer"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/backup"
	"keymill/storage/bolt"
)

const (
	refreshers      = 64   // connections that refresh while a backup is made
	maxBackupGrowth = 0.15 // of the store's file
	maxBackupFall   = 0.25 // of the throughput, in the full tier: on a shared machine it says little
)

// checkBackups makes backups of a store while 64 connections refresh. Its last copy holds what was
// acknowledged before its end, and nothing that was asked for after the command, record by record. The file hardly
// grows, and the throughput hardly falls.
func checkBackups(t *testing.T, srv *server.Server, creds issuer.Credentials, tokens []refusal.Secret) {
	store, file := filepath.Join(srv.Data, "keymill.db"), filepath.Join(t.TempDir(), "copy")
	size := func() int64 {
		info, err := os.Stat(store)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before, l := size(), startLoad(newClient(t, srv.Issuer, refreshers), creds, tokens)
	var busy, idle float64
	var returned time.Time // from the last backup
	pairs := counts.Of("backup-pairs")
	for range pairs {
		begun, done := time.Now(), l.done.Load()
		srv.Run(t, "backup", "--overwrite", file)
		returned = time.Now()
		took := returned.Sub(begun)
		busy += float64(l.done.Load()-done) / took.Seconds()
		done = l.done.Load()
		time.Sleep(took) // as long without a backup
		idle += float64(l.done.Load()-done) / took.Seconds()
	}
	events, err := l.stop()
	if err != nil {
		t.Fatal(err)
	}
	grown, fall := float64(size()-before)/float64(before), 1-busy/idle
	trailer := checkHistory(t, file, masterKey(t, srv), events, returned)
	t.Logf("counted: %d backups while %d connections refresh %d times: %.0f/s with a backup, %.0f/s without, a fall of %.1f %%; the file grew by %.1f %%; the last copy has %d records and %d changes",
		pairs, refreshers, len(events), busy/float64(pairs), idle/float64(pairs), 100*fall, 100*grown, trailer.Records, trailer.Changes)
	if grown > maxBackupGrowth {
		t.Errorf("the file grew by %.1f %%, at most %.0f %% are allowed", 100*grown, 100*maxBackupGrowth)
	}
	if fall > maxBackupFall && os.Getenv(counts.Tier) == "full" {
		t.Errorf("the throughput fell by %.1f %%, at most %.0f %% are allowed", 100*fall, 100*maxBackupFall)
	}
}

// An event is one refresh that succeeded.
type event struct {
	token       refusal.Secret // the new one
	sent, acked time.Time
}

// A load refreshes families until it is stopped.
type load struct {
	done    atomic.Int64
	ended   chan struct{}
	all     sync.WaitGroup
	workers [refreshers]struct {
		events []event
		err    error
	}
}

func startLoad(c *client, creds issuer.Credentials, tokens []refusal.Secret) *load {
	l := &load{ended: make(chan struct{})}
	for n := range refreshers {
		own, w := tokens[len(tokens)*n/refreshers:len(tokens)*(n+1)/refreshers], &l.workers[n]
		l.all.Go(func() {
			for i := 0; w.err == nil; i = (i + 7919) % len(own) { // a prime: over all, not in order
				select {
				case <-l.ended:
					return
				default:
				}
				sent := time.Now()
				var next refusal.Secret
				if next, w.err = c.refresh(creds, own[i]); w.err == nil {
					own[i] = next
					w.events = append(w.events, event{next, sent, time.Now()})
					l.done.Add(1)
				}
			}
		})
	}
	return l
}

// stop ends the load and returns what was acknowledged.
func (l *load) stop() (events []event, err error) {
	close(l.ended)
	l.all.Wait()
	for n := range l.workers {
		if l.workers[n].err != nil {
			err = l.workers[n].err
		}
		events = append(events, l.workers[n].events...)
	}
	return events, err
}

// bounds are the generations that a family in the copy can have.
type bounds struct{ least, most uint32 }

// checkHistory makes a store of the copy and compares each family with what was acknowledged. The tag of
// each record is checked on the way. The copy can have changes that were asked for after its end, but not after
// the command returned.
func checkHistory(t *testing.T, file string, master keystore.MasterKey, events []event, returned time.Time) backup.Trailer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keymill.db")
	trailer := buildCopy(t, file, path)
	want := map[string]*bounds{}
	for _, e := range events {
		family, generation, err := server.ReadToken(string(e.token))
		if err != nil {
			t.Fatal(err)
		}
		b := want[family]
		if b == nil {
			b = &bounds{0, generation - 1}
			want[family] = b
		}
		if e.acked.Before(trailer.Ended) {
			b.least = max(b.least, generation)
		}
		if e.sent.Before(returned) {
			b.most = max(b.most, generation)
		}
	}
	db, err := bolt.OpenReadOnly(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := keystore.Unlock(t.Context(), db, master)
	if err != nil {
		t.Fatal(err)
	}
	checked, wrong, between := 0, 0, 0
	err = store.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			b := want[strings.TrimPrefix(e.Key, "family/")]
			if b == nil {
				continue
			}
			checked++
			if b.least < b.most {
				between++
			}
			if g := generationOf(e.Value); g < b.least || g > b.most {
				wrong++
				t.Logf("%s has generation %d, and %d to %d are possible", e.Key, g, b.least, b.most)
			}
		}
		return nil
	})
	if err != nil || wrong > 0 || checked != len(want) {
		t.Errorf("of %d families that were refreshed the copy has %d, and %d of these are not as acknowledged (%v)", len(want), checked, wrong, err)
	}
	t.Logf("counted: compared %d families, of which %d were refreshed at the end of the copy; 0 differ", checked, between)
	return trailer
}

// generationOf reads the generation from the record of a family: after version, ending, endpoint and secret
// (4 bytes), the terms (16), three epochs (24) and two times (12).
func generationOf(record []byte) uint32 { return binary.BigEndian.Uint32(record[56:]) }

func buildCopy(t *testing.T, file, path string) backup.Trailer {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := backup.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := bolt.Build(path, r.Next); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
	return *r.Trailer()
}
