package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/integration_test/counts"
	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
)

// memoryDir returns a directory whose files need no disk, where there is one: these tests sync
// thousands of times.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "keymill-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// realStore returns the path of a store as a server leaves it: keys, audiences, clients, users,
// sessions and audit records, and pages that were used before.
func realStore(t *testing.T) string {
	t.Helper()
	ctx, path := t.Context(), filepath.Join(memoryDir(t), "keymill.db")
	store, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := keystore.Config{Algorithms: []string{"EdDSA"}, RotateEvery: 720 * time.Hour, Propagation: time.Hour, MaxAge: 5 * time.Minute}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = keystore.Create(ctx, store, cfg, "test", "test")
	check(err)
	rings, err := keystore.Open(ctx, store, cfg)
	check(err)
	iss, err := issuer.Open(ctx, issuer.Config{URL: "https://auth.example.com", Store: rings.Store(), Keys: rings})
	check(err)
	for i := range 12 {
		_, err = iss.AddAudience(ctx, api.Audience{Name: fmt.Sprintf("audience-%d", i), Alg: "EdDSA", Scopes: []string{"read", "write"}}, "uid:0")
		check(err)
	}
	_, err = iss.AddClient(ctx, api.NewClient{
		ID: "web", Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"audience-0"}, Scopes: []string{"read"}, Origins: []string{"https://app.example"},
	}, "uid:0")
	check(err)
	for i := range 30 {
		_, err = iss.AddClient(ctx, api.NewClient{ID: fmt.Sprintf("service-%d", i), Grants: []string{"client_credentials"}, Audiences: []string{"audience-1"}}, "uid:0")
		check(err)
	}
	for i := range 60 {
		user, err := iss.ImportUser(ctx, api.ImportedUser{
			Name: fmt.Sprintf("user%d", i), Hash: "pbkdf2_sha256$1000$seasalt$3xmXbyk2QpiyNcnoBbzRPwEBsYPTbDlRdtmLyBvQltA=",
		}, "uid:0")
		check(err)
		g, err := iss.StartSession(ctx, issuer.SessionRequest{User: user.ID, Client: "web", Endpoint: issuer.LoginBrowser})
		check(err)
		if i%3 == 0 {
			check(iss.Revoke(ctx, issuer.Credentials{ClientID: "web", Method: "none"}, refusal.Secret(g.AccessToken), netip.Addr{}))
		}
	}
	rings.Close()
	check(store.Close())
	trim(t, path)
	return path
}

// usedBits returns the offsets of bits of pages that are in use: half of them anywhere, and half
// in what tells bbolt where things are, such as meta pages, headers and elements.
func usedBits(t *testing.T, whole []byte, n int) []int {
	t.Helper()
	m, err := newestMeta(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	size := int(m.pageSize)
	p := pages{bytes: whole[:int(m.pages)*size], size: size}
	i := &inspection{pages: p, use: make([]use, m.pages)}
	if err := i.run(m); err != nil {
		t.Fatal(err)
	}
	var all, structure [][2]int // from, to
	for id := range int(m.pages) {
		at := id * size
		switch {
		case id < firstPage:
			structure = append(structure, [2]int{at, at + pageHeaderBytes + metaBytes})
			continue
		case i.use[id] == free:
			continue
		}
		all = append(all, [2]int{at, at + size})
		if b, flags, err := p.extent(uint64(id)); err == nil && i.use[id] == begins {
			element := elementBytes
			if flags == flagFreelist {
				element = 8
			}
			count := int(b[10]) | int(b[11])<<8
			structure = append(structure, [2]int{at, at + pageHeaderBytes + count*element})
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	bits := make([]int, n)
	for i := range bits {
		spans := all
		if i%2 == 0 {
			spans = structure
		}
		span := spans[r.IntN(len(spans))]
		bits[i] = span[0]*8 + r.IntN((span[1]-span[0])*8)
	}
	return bits
}

// allRecords reads every record in a Scan, and each of the keys in a Get.
func allRecords(t *testing.T, s *Store, keys []string) (map[string]string, error) {
	t.Helper()
	records := map[string]string{}
	err := s.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "\xff") {
			if err != nil {
				return err
			}
			records[e.Key] = string(e.Value)
		}
		for _, key := range keys {
			v, err := r.Get(key)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return err
			}
			if scanned, ok := records[key]; ok != (err == nil) || string(v) != scanned {
				return fmt.Errorf("Scan and Get differ at %s", key)
			}
		}
		return nil
	})
	return records, err
}

// differences counts the records that are missing, other and added.
func differences(want, got map[string]string) (missing, other, added int) {
	for key, v := range want {
		if now, ok := got[key]; !ok {
			missing++
		} else if now != v {
			other++
		}
	}
	return missing, other, len(got) - len(want) + missing
}

// A bitOutcome says what one wrong bit did to a store.
type bitOutcome string

const (
	refused   bitOutcome = "the store is not opened"
	failed    bitOutcome = "reading or writing fails"
	oneRecord bitOutcome = "one record has another key or value, which its tag shows"
	harmless  bitOutcome = "nothing is different"
)

// useFlipped opens a store with a wrong bit, reads all of it, writes, and reads all of it again.
func useFlipped(t *testing.T, path string, want map[string]string) (bitOutcome, error) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(want))
	s, err := Open(path, Options{})
	if err != nil {
		if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, path) || len(text) > 400 {
			return "", fmt.Errorf("the error is not one line that names the file: %q", text)
		}
		return refused, nil
	}
	defer s.Close()
	before, err := allRecords(t, s, keys)
	if err == nil {
		err = s.Update(t.Context(), func(tx storage.Tx) error {
			for i := range 6 {
				if err := tx.Put(fmt.Sprintf("family/%d-new", i), bytes.Repeat([]byte{'n'}, 9000)); err != nil {
					return err
				}
			}
			for i := 0; i < len(keys) && i < 300; i += 7 {
				if err := tx.Delete(keys[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if errors.Is(err, storage.ErrBroken) {
		if s.Status().Failed == nil || !errors.Is(s.Update(t.Context(), putOne("x")), storage.ErrBroken) {
			return "", fmt.Errorf("after %v the store goes on", err)
		}
		return failed, nil
	}
	if err != nil {
		return "", err
	}
	if err := s.Close(); err != nil {
		return "", err
	}
	if s, err = Open(path, Options{}); err != nil {
		return "", fmt.Errorf("opened once, and then not: %w", err)
	}
	after, err := allRecords(t, s, nil)
	if err = errors.Join(err, s.Close()); err != nil {
		return "", fmt.Errorf("read once, and then not: %w", err)
	}
	missing, other, added := differences(want, before)
	for i := 0; i < len(keys) && i < 300; i += 7 {
		delete(before, keys[i])
	}
	for i := range 6 {
		delete(after, fmt.Sprintf("family/%d-new", i))
	}
	if missing, other, added := differences(before, after); missing+other+added > 0 {
		return "", fmt.Errorf("a write damaged %d records, removed %d and added %d", other, missing, added)
	}
	switch {
	case missing+other+added == 0:
		return harmless, nil
	case missing == added && missing+other == 1:
		return oneRecord, nil
	default:
		return "", fmt.Errorf("%d records are missing, %d other, %d added", missing, other, added)
	}
}

// TestOneWrongBitIsNoticedOrChangesOneRecord, wherever in the file it is: never a panic, a fault or
// a hang, no record is lost beside it, and no write makes it worse.
//
// I28.
func TestOneWrongBitIsNoticedOrChangesOneRecord(t *testing.T) {
	path := realStore(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := allRecords(t, s, nil)
	if err = errors.Join(err, s.Close()); err != nil || len(want) < 300 {
		t.Fatalf("%d records, %v", len(want), err)
	}
	hang := time.AfterFunc(20*time.Minute, func() { panic("a flipped bit made the store hang") })
	defer hang.Stop()
	outcomes := map[bitOutcome]int{}
	for _, bit := range usedBits(t, whole, counts.Of("flipped-bits")) {
		damaged := bytes.Clone(whole)
		damaged[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		outcome, err := useFlipped(t, path, want)
		if err != nil {
			t.Errorf("bit %d of byte %d of page %d: %v", bit%8, bit/8%os.Getpagesize(), bit/8/os.Getpagesize(), err)
		}
		outcomes[outcome]++
	}
	t.Log(len(want), "records,", len(whole), "bytes:", outcomes)
	for _, o := range []bitOutcome{refused, failed, oneRecord, harmless} {
		if outcomes[o] == 0 {
			t.Errorf("no bit led to %q, so the test misses a kind of damage", o)
		}
	}
}
