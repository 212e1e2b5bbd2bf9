package keystore

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"keymill/keystore/internal/keytype"
	"keymill/storage"
)

// A renewed is a store that was copied, and served on after the copy.
type renewed struct {
	t    *testing.T
	cfg  Config
	path string // of the copy
}

// inRenewal runs f in a bubble with a copy of a store with two rings and an imported key.
func inRenewal(t *testing.T, f func(t *testing.T, c *renewed)) {
	synctest.Test(t, func(t *testing.T) {
		master, _ := NewMasterKey()
		c := &renewed{t: t, cfg: trial(master), path: filepath.Join(t.TempDir(), "copy")}
		c.cfg.Algorithms, c.cfg.Heartbeat = []string{EdDSA, RS256}, time.Minute
		path := filepath.Join(t.TempDir(), "db")
		s := openStore(t, path)
		create(t, s, c.cfg)
		r, err := Open(t.Context(), s, c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		raise(t, r, EdDSA, time.Minute)
		req := ImportRequest{Key: pemOf(t, "PUBLIC KEY", edKey(t).Public()), KID: "imported", Until: time.Now().Add(2 * time.Minute)}
		if _, err := r.Import(t.Context(), req, "test"); err != nil {
			t.Fatal(err)
		}
		if err := r.makeReserve(t.Context(), EdDSA, map[string]crypto.Signer{}); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		raw, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(c.path, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		f(t, c)
	})
}

// open opens the copy.
func (c *renewed) open() *Rings {
	c.t.Helper()
	r, err := Open(c.t.Context(), openStore(c.t, c.path), c.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func kidsOf(keys []Key) (kids []string) {
	for _, k := range keys {
		kids = append(kids, k.KID)
	}
	return kids
}

// TestKeysOfACopyNeverSignAgain, whichever of them stay trusted: they can have been revoked since, or
// their private halves erased. New keys sign at once, and the others verify or are gone.
//
// I4.
func TestKeysOfACopyNeverSignAgain(t *testing.T) {
	for _, trust := range []bool{false, true} {
		inRenewal(t, func(t *testing.T, c *renewed) {
			r := c.open()
			copied := kidsOf(r.allKeys())
			out, err := r.Renew(t.Context(), RenewRequest{TrustAll: trust, By: "test"})
			if err != nil {
				t.Fatal(err)
			}
			var published []string
			for _, k := range r.Published() {
				published = append(published, k.KID)
			}
			for _, kid := range copied {
				if slices.Contains(published, kid) != trust {
					t.Errorf("trust %v: published %v", trust, published)
				}
			}
			if got := len(out.Dropped) + len(out.Kept); got != len(copied) || trust != (len(out.Dropped) == 0) {
				t.Errorf("trust %v: %+v, the copy has %d keys", trust, out, len(copied))
			}
			for _, alg := range c.cfg.Algorithms {
				kid := out.Signing[alg]
				if kid == "" || slices.Contains(copied, kid) || !slices.Contains(published, kid) {
					t.Errorf("%s is signed with %q", alg, kid)
				}
				for _, k := range r.snapshot.Load().rings[alg].Keys {
					if slices.Contains(copied, k.KID) {
						t.Errorf("the key %s of the copy is in the ring", k.KID)
					}
				}
			}
			if !out.UnknownUntil.After(time.Now()) {
				t.Errorf("caches know the new keys since %s", out.UnknownUntil)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}

			// A server on the new store goes on with these keys, and drops the old ones in time.
			r.store.Close()
			again := c.open()
			run(t, again)
			for _, alg := range c.cfg.Algorithms {
				if i := again.snapshot.Load().rings[alg].IndexAt(again.Now(), Active); i < 0 || again.snapshot.Load().rings[alg].Keys[i].KID != out.Signing[alg] {
					t.Errorf("after a start another %s key signs", alg)
				}
			}
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			for _, k := range again.Published() {
				if slices.Contains(copied, k.KID) {
					t.Errorf("trust %v: %s is still published after five minutes", trust, k.KID)
				}
			}
			for _, kid := range copied {
				err := again.store.View(t.Context(), func(tx storage.Reader) error {
					_, err := tx.Get(privateKey(kid))
					return err
				})
				if err != storage.ErrNotFound {
					t.Errorf("trust %v: the private half of %s: %v", trust, kid, err)
				}
			}
		})
	}
}

// TestTheKeysOfALaterSetStayTrusted: those that the copy has, and those that it does not.
func TestTheKeysOfALaterSetStayTrusted(t *testing.T) {
	inRenewal(t, func(t *testing.T, c *renewed) {
		r := c.open()
		ring := r.snapshot.Load().rings[EdDSA].Keys
		later := edKey(t)
		set := [][]byte{publicJWK(t, ring[0].KID, ring[0].Public), publicJWK(t, "later", mustMarshalPublic(t, later.Public()))}
		out, err := r.Renew(t.Context(), RenewRequest{Set: set, By: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(out.Kept, []string{ring[0].KID}) || !slices.Equal(out.Added, []string{"later"}) || !slices.Contains(out.Dropped, ring[1].KID) {
			t.Errorf("%+v", out)
		}
		if _, err := r.Import(t.Context(), ImportRequest{Key: publicJWK(t, "x", ring[1].Public), Until: time.Now().Add(time.Hour)}, "test"); err == nil {
			t.Error("a key that was revoked can be imported")
		}
	})
}

// TestABadSetChangesNothing.
func TestABadSetChangesNothing(t *testing.T) {
	inRenewal(t, func(t *testing.T, c *renewed) {
		r := c.open()
		before := kidsOf(r.allKeys())
		for _, bad := range []string{"", "{}", "[]", `{"kty":"oct","k":"AAAA"}`, `{"kty":"OKP","crv":"Ed25519","x":"AA"}`} {
			if _, err := r.Renew(t.Context(), RenewRequest{Set: [][]byte{[]byte(bad)}, By: "test"}); err == nil {
				t.Errorf("%q was taken", bad)
			}
		}
		if got := kidsOf(r.allKeys()); !slices.Equal(got, before) {
			t.Errorf("the keys are %v", got)
		}
	})
}

func publicJWK(t *testing.T, kid string, public []byte) []byte {
	t.Helper()
	key, err := keytype.ParsePublic(public)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{
		"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(key.(ed25519.PublicKey)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func mustMarshalPublic(t *testing.T, key crypto.PublicKey) []byte {
	t.Helper()
	b, err := keytype.MarshalPublic(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
