package keystore

import (
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/storage"
)

// TestAListedKeyOfACopyStaysRevoked, whatever the administrator trusts, and the others verify only.
//
// I4.
func TestAListedKeyOfACopyStaysRevoked(t *testing.T) {
	for _, all := range []bool{false, true} {
		inRenewal(t, func(t *testing.T, c *renewed) {
			copied, err := os.ReadFile(c.path)
			if err != nil {
				t.Fatal(err)
			}
			c.cfg.RevokedFile = filepath.Join(filepath.Dir(c.path), "revoked")
			r := c.open() // it goes on, and revokes two keys
			listed := r.WriteRevoked(t.Context())
			ring := r.snapshot.Load().rings[EdDSA].Keys
			for _, kid := range []string{ring[0].KID, "imported"} {
				if _, err := r.Revoke(t.Context(), RevokeRequest{KID: kid}, "test"); err != nil {
					t.Fatal(err)
				}
			}
			r.store.Close()
			if err := os.WriteFile(c.path, copied, 0o600); err != nil {
				t.Fatal(err)
			}
			list := c.cfg.RevokedFile
			c.cfg.RevokedFile = ""
			r = c.open()
			set := [][]byte{publicJWK(t, "again", ring[0].Public)}
			out, err := r.Renew(t.Context(), RenewRequest{TrustAll: all, Set: set, RevokedFile: list, Listed: listed, By: "test"})
			if err != nil {
				t.Fatal(err)
			}
			if !out.Listed || len(out.Dropped) != 2 || !slices.Contains(out.Dropped, ring[0].KID) || !slices.Contains(out.Dropped, "imported") || len(out.Added) > 0 {
				t.Errorf("%+v", out)
			}
			if !slices.Contains(out.Kept, ring[1].KID) {
				t.Errorf("%s is not kept: %+v", ring[1].KID, out)
			}
		})
	}
}

// TestTheListOfRevokedKeysFitsOneStore: the list of another store counts as missing.
func TestTheListOfRevokedKeysFitsOneStore(t *testing.T) {
	r, _ := newRings(t)
	other, _ := newRings(t)
	path := filepath.Join(t.TempDir(), "revoked")
	for _, rings := range []*Rings{other, r} {
		rings.cfg.RevokedFile = path
		if _, err := rings.Revoke(t.Context(), RevokeRequest{KID: rings.snapshot.Load().rings[EdDSA].Keys[0].KID}, "test"); err != nil {
			t.Fatal(err)
		}
		if got, err := rings.readRevoked(path); err != nil || len(got.KIDs) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.readRevoked(path); !errors.Is(err, ErrNoRevoked) {
		t.Errorf("the list of another store: %v", err)
	}
	text, tag, _ := strings.Cut(string(good), "\n")
	for name, bad := range map[string]string{
		"empty": "", "without a tag": text, "another tag": text + "\n" + strings.Repeat("0", 64) + "\n", "another text": strings.Replace(text, "revoked", "Revoked", 1) + "\n" + tag,
		"one kid less": text[:strings.Index(text, "[")+1] + "]}" + "\n" + tag, "more": string(good) + "x", "cut off": string(good[:len(good)-2]), "huge": string(good) + strings.Repeat(" ", 4<<20),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := r.readRevoked(path); !errors.Is(err, ErrNoRevoked) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	os.Remove(path)
	os.Mkdir(path, 0o700)
	if _, err := r.readRevoked(path); !errors.Is(err, ErrNoRevoked) {
		t.Errorf("a directory: %v", err)
	}
}

// TestTheListOfRevokedKeysIsWrittenAgain if it could not be, at a start, and by the next heartbeat.
func TestTheListOfRevokedKeysIsWrittenAgain(t *testing.T) {
	r, _ := newRings(t)
	dir := filepath.Join(t.TempDir(), "volume")
	r.cfg.RevokedFile = filepath.Join(dir, "revoked")
	kid := r.snapshot.Load().rings[EdDSA].Keys[0].KID
	if _, err := r.Revoke(t.Context(), RevokeRequest{KID: kid}, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.readRevoked(r.cfg.RevokedFile); !errors.Is(err, ErrNoRevoked) {
		t.Fatal(err)
	}
	if fault := r.RevokedFault(); fault == nil || !strings.Contains(fault.Error(), "the list of revoked keys "+r.cfg.RevokedFile+" cannot be written") {
		t.Errorf("the fault is %v", fault)
	}
	os.Mkdir(dir, 0o700)
	if err := r.tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := r.readRevoked(r.cfg.RevokedFile); err != nil || !slices.Equal(got.KIDs, []string{kid}) {
		t.Errorf("%v, %v", got, err)
	}
	if fault := r.RevokedFault(); fault != nil {
		t.Errorf("after it was written: %v", fault)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestARevocationIsNeverForgotten by the store of a copy that does not know the key: its own list names the
// key again, and so a restore of another copy does not trust it.
//
// I4.
func TestARevocationIsNeverForgotten(t *testing.T) {
	inRenewal(t, func(t *testing.T, c *renewed) {
		copied, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		list := filepath.Join(filepath.Dir(c.path), "revoked")
		c.cfg.RevokedFile = list
		r := c.open() // it goes on, and revokes a key that the copy does not have
		later, known := "", kidsOf(r.allKeys())
		for later == "" || slices.Contains(known, later) {
			if err := r.makeReserve(t.Context(), EdDSA, map[string]crypto.Signer{}); err != nil {
				t.Fatal(err)
			}
			out, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test")
			if err != nil {
				t.Fatal(err)
			}
			later = out.KID
		}
		all := r.allKeys()
		set := [][]byte{publicJWK(t, later, all[slices.Index(kidsOf(all), later)].Public)}
		if _, err := r.Revoke(t.Context(), RevokeRequest{KID: later}, "test"); err != nil {
			t.Fatal(err)
		}
		r.store.Close()
		if err := os.WriteFile(c.path, copied, 0o600); err != nil {
			t.Fatal(err)
		}
		c.cfg.RevokedFile = ""
		r = c.open()
		renewal, err := r.Renew(t.Context(), RenewRequest{RevokedFile: list, Set: set, By: "test"})
		if err != nil || len(renewal.Added) > 0 { // a key set of before the revocation brings nothing back
			t.Fatalf("%+v, %v", renewal, err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.store.Close()
		if err := os.Remove(list); err != nil { // so that only the store knows
			t.Fatal(err)
		}
		c.cfg.RevokedFile = list
		r = c.open() // writes the list again
		if got, err := r.readRevoked(list); err != nil || !slices.Contains(got.KIDs, later) {
			t.Errorf("the list is %v, %v; %s is missing", got.KIDs, err, later)
		}
	})
}

// TestAnAcceptedOlderStoreForgetsNoRevocation: its own tombstones are fewer than the list has.
//
// I4.
func TestAnAcceptedOlderStoreForgetsNoRevocation(t *testing.T) {
	inRenewal(t, func(t *testing.T, c *renewed) {
		copied, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		list := filepath.Join(filepath.Dir(c.path), "revoked")
		c.cfg.RevokedFile, c.cfg.Epoch = list, func(storage.Reader) (uint64, error) { return 7, nil }
		r := c.open()
		kid := r.snapshot.Load().rings[EdDSA].Keys[0].KID
		if _, err := r.Revoke(t.Context(), RevokeRequest{KID: kid}, "test"); err != nil {
			t.Fatal(err)
		}
		r.store.Close()
		if err := os.WriteFile(c.path, copied, 0o600); err != nil {
			t.Fatal(err)
		}
		c.cfg.Epoch = func(storage.Reader) (uint64, error) { return 3, nil }
		r = c.open() // writes the list
		got, err := r.readRevoked(list)
		if err != nil || !slices.Contains(got.KIDs, kid) || got.Epoch != 7 {
			t.Errorf("the list is %+v, %v", got, err)
		}
		c.cfg.Epoch = nil
	})
}

// TestAListThatIsOlderThanTheCopyIsNotTrusted to be complete: keys that it does not have may have been
// revoked. Those that it has are revoked in any case.
//
// I4.
func TestAListThatIsOlderThanTheCopyIsNotTrusted(t *testing.T) {
	inRenewal(t, func(t *testing.T, c *renewed) {
		list := filepath.Join(filepath.Dir(c.path), "revoked")
		c.cfg.RevokedFile = list
		r := c.open()
		listed := r.WriteRevoked(t.Context())
		older, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Revoke(t.Context(), RevokeRequest{KID: "imported"}, "test"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(list, older, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.CheckRevoked(t.Context(), list); err == nil || !strings.Contains(err.Error(), "does not have the key ") {
			t.Errorf("the older list: %v", err)
		}
		r.cfg.RevokedFile = ""
		out, err := r.Renew(t.Context(), RenewRequest{RevokedFile: list, Listed: listed, By: "test"})
		if err != nil || out.Listed || out.ListedAt == nil || len(out.Kept) > 0 {
			t.Errorf("%+v, %v", out, err)
		}
	})
}

// TestAListOfBeforeTheCopyIsNotTrusted to be complete, although it lacks no key that the copy knows as revoked: a key
// can have been revoked after both. The clock stands still in this test.
//
// I4.
func TestAListOfBeforeTheCopyIsNotTrusted(t *testing.T) {
	inRenewal(t, func(t *testing.T, c *renewed) {
		list := filepath.Join(filepath.Dir(c.path), "volume", "revoked")
		os.Mkdir(filepath.Dir(list), 0o700)
		c.cfg.RevokedFile = list
		read := func() []byte {
			raw, err := os.ReadFile(list)
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		r := c.open()
		lists := map[string][]byte{"of the start": read()}
		r.WriteRevoked(t.Context())
		lists["of an earlier copy"] = read()
		away := filepath.Dir(list) + "-away"
		if err := errors.Join(r.Close(), r.store.Close()); err != nil {
			t.Fatal(err)
		}
		r = c.open()
		lists["of another start"] = read()
		if err := os.Rename(filepath.Dir(list), away); err != nil {
			t.Fatal(err)
		}
		failed := r.WriteRevoked(t.Context()) // the copy of this time has a list that was not written
		if err := os.Rename(away, filepath.Dir(list)); err != nil {
			t.Fatal(err)
		}
		for name, raw := range lists {
			if err := os.WriteFile(list, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := r.readRevoked(list); err != nil || got.Covers(failed) {
				t.Errorf("the list %s, which could not be written again, is trusted: %+v, %v", name, got, err)
			}
		}
		if err := r.tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := r.readRevoked(list); err != nil || !got.Covers(failed) {
			t.Errorf("the list that the heartbeat wrote is not trusted: %+v, %v", got, err)
		}
		listed := r.WriteRevoked(t.Context())
		own := read()
		r.WriteRevoked(t.Context())
		for name, raw := range map[string][]byte{"of the copy": own, "of a later copy": read()} {
			if err := os.WriteFile(list, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := r.readRevoked(list); err != nil || !got.Covers(listed) || got.Covers(time.Time{}) {
				t.Errorf("the list %s: %+v, %v", name, got, err)
			}
		}
		if err := os.WriteFile(list, lists["of another start"], 0o600); err != nil {
			t.Fatal(err)
		}
		r.cfg.RevokedFile = ""
		out, err := r.Renew(t.Context(), RenewRequest{RevokedFile: list, Listed: listed, By: "test"})
		if err != nil || out.Listed || out.ListedAt == nil || len(out.Kept) > 0 {
			t.Errorf("%+v, %v", out, err)
		}
	})
}
