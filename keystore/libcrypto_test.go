//go:build libcrypto && linux && (amd64 || arm64)

package keystore

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keymill/keystore/internal/libcrypto/libcryptotest"
	"keymill/storage"
	"keymill/storage/nodes"
)

func TestMain(m *testing.M) {
	RunProof()
	os.Exit(m.Run())
}

// fakeRings returns rings of RS256 that a fake signs for.
func fakeRings(t *testing.T) (*Rings, libcryptotest.Fake, *bytes.Buffer) {
	t.Helper()
	r, f, log, _ := faultyRings(t)
	return r, f, log
}

// faultyRings is fakeRings on a store that can fail, of which this is the only server.
func faultyRings(t *testing.T, shared ...nodes.Config) (*Rings, libcryptotest.Fake, *bytes.Buffer, *oneFault) {
	t.Helper()
	f := libcryptotest.Compile(t)
	master, _ := NewMasterKey()
	cfg := trial(master)
	var log bytes.Buffer
	cfg.Algorithms, cfg.RSASigner, cfg.Libcrypto, cfg.Log = []string{RS256}, "libcrypto", f.Path, slog.New(slog.NewTextHandler(&log, nil))
	for _, n := range shared {
		cfg.Nodes = nodes.New(n)
	}
	s := &oneFault{Store: openStore(t, filepath.Join(t.TempDir(), "db"))}
	create(t, s, cfg)
	r, err := Open(t.Context(), s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, f, &log, s
}

// oneFault is a store whose View number views fails, counted from the last change of that number; 0 for none.
type oneFault struct {
	storage.Store
	views atomic.Int64
}

func (o *oneFault) View(ctx context.Context, fn func(storage.Reader) error) error {
	if o.views.Add(-1) == 0 {
		return errInjected
	}
	return o.Store.View(ctx, fn)
}

// signRS256 signs, and verifies with a published key.
func signRS256(t *testing.T, r *Rings) error {
	t.Helper()
	token, err := r.Sign(t.Context(), RS256, "at+jwt", []byte("{}"), time.Time{})
	if err != nil {
		return err
	}
	signed := token[:strings.LastIndexByte(token, '.')]
	signature, err := base64.RawURLEncoding.DecodeString(token[len(signed)+1:])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(signed))
	if !slices.ContainsFunc(r.Published(), func(k PublicKey) bool {
		return rsa.VerifyPKCS1v15(k.Public.(*rsa.PublicKey), crypto.SHA256, sum[:], signature) == nil
	}) {
		t.Errorf("the token %s does not verify", token)
	}
	return nil
}

// inGo reports whether a private half that signs is in memory of Go.
func (r *Rings) inGo() (found bool) {
	for _, s := range r.snapshot.Load().signers {
		_, ok := s.Private().(*rsa.PrivateKey)
		found = found || ok
	}
	return found
}

// TestLibcryptoSigns runs tests after which it still does. They share a proof, which takes a second.
func TestLibcryptoSigns(t *testing.T) {
	r, f, log := fakeRings(t)
	t.Run("and Go's copy is dropped", func(t *testing.T) { onlyInLibcrypto(t, r, log) })
	t.Run("and a request that it has no memory for is refused", func(t *testing.T) { withoutMemory(t, r, f) })
	t.Run("while keys are rotated and erased", func(t *testing.T) { rotated(t, r, f) })
	t.Run("and Go signs with the keys that it refuses", func(t *testing.T) { refusedKeys(t, r, f, log) })
	if r.RSASigner().Signer != "libcrypto" {
		t.Errorf("%+v\n%s", r.RSASigner(), log)
	}
}

func onlyInLibcrypto(t *testing.T, r *Rings, log *bytes.Buffer) {
	if s := r.RSASigner(); s != (RSASigner{Signer: "libcrypto"}) || r.inGo() || len(r.snapshot.Load().signers) == 0 {
		t.Errorf("%+v; in Go: %v", s, r.inGo())
	}
	if err := signRS256(t, r); err != nil {
		t.Error(err)
	}
	for _, k := range r.Published() {
		if len(k.Certificate) == 0 { // which libcrypto has signed
			t.Errorf("%s has no certificate", k.KID)
		}
	}
	if strings.Contains(log.String(), "level=WARN") {
		t.Error(log)
	}
}

// TestAfterAWrongSignatureGoSigns the same request, and all later ones, with one warning.
func TestAfterAWrongSignatureGoSigns(t *testing.T) {
	r, f, log := fakeRings(t)
	f.Set(t, "w")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := signRS256(t, r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f.Set(t, "")
	if err := signRS256(t, r); err != nil {
		t.Error(err)
	}
	if _, err := r.Rotate(t.Context(), RotateRequest{Alg: RS256, Force: true}, "test"); err != nil {
		t.Error(err)
	}
	if err := signRS256(t, r); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	s := r.RSASigner()
	if s.Signer != "go" || !strings.Contains(s.Why, "wrong signature") || s.Faults == 0 || !r.inGo() {
		t.Errorf("%+v; in Go: %v", s, r.inGo())
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "given up") {
		t.Errorf("%d warnings: %s", n, log)
	}
}

func withoutMemory(t *testing.T, r *Rings, f libcryptotest.Fake) {
	f.Set(t, "M")
	var unavailable *UnavailableError
	if err := signRS256(t, r); !errors.As(err, &unavailable) || !strings.Contains(err.Error(), "no memory") {
		t.Errorf("%v", err)
	}
	f.Set(t, "")
	if err := signRS256(t, r); err != nil || r.RSASigner().Signer != "libcrypto" {
		t.Errorf("%v; %+v", err, r.RSASigner())
	}
}

// refusedKeys: those that Go refuses are not imported.
func refusedKeys(t *testing.T, r *Rings, f libcryptotest.Fake, log *bytes.Buffer) {
	f.Set(t, "r")
	one, other := primeFor(t, 1024, 6, 8), primeFor(t, 1024, 6, 8)
	if _, err := r.Import(t.Context(), ImportRequest{Key: rsaOf(one, other).pem(t), SignNow: true}, "test"); err != nil {
		t.Fatal(err)
	}
	f.Set(t, "")
	if !r.inGo() || strings.Count(log.String(), "does not take a key") != 1 {
		t.Errorf("in Go: %v\n%s", r.inGo(), log)
	}
	if err := signRS256(t, r); err != nil || r.RSASigner().Signer != "libcrypto" {
		t.Errorf("%v; %+v", err, r.RSASigner())
	}
	// libcrypto signs with the factors and never looks at d.
	wrong := rsaOf(one, primeFor(t, 1024, 6, 8))
	wrong.D.Add(wrong.D, big.NewInt(2))
	var refused *InvalidError
	if _, err := r.Import(t.Context(), ImportRequest{Key: wrong.pem(t), SignNow: true}, "test"); !errors.As(err, &refused) {
		t.Errorf("a key that Go refuses: %v", err)
	}
}

// TestAnOverwrittenLibcryptoIsGivenUpByTheNextMaintenance, without a request.
func TestAnOverwrittenLibcryptoIsGivenUpByTheNextMaintenance(t *testing.T) {
	r, f, _ := fakeRings(t)
	f.Overwrite(t)
	if err := r.tick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := r.RSASigner(); s.Signer != "go" || !strings.Contains(s.Why, "overwritten") || !r.inGo() || !r.snapshot.Load().usable() {
		t.Errorf("%+v; in Go: %v", s, r.inGo())
	}
	if err := signRS256(t, r); err != nil {
		t.Error(err)
	}
}

// TestKeysThatAreNotPublishedDoNotStayInLibcrypto: a server of a shared store can fail to read it after it has imported keys.
func TestKeysThatAreNotPublishedDoNotStayInLibcrypto(t *testing.T) {
	r, f, _, store := faultyRings(t, nodes.Config{ID: "a", Poll: 100 * time.Millisecond})
	old := r.snapshot.Load()
	old.erase(&snapshot{})
	for n, freed := int64(1), false; ; n++ {
		if err := os.Remove(f.Fault + ".freed"); err != nil && n == 1 { // of the proof
			t.Fatal(err)
		}
		r.snapshot.Store(&snapshot{rings: old.rings, retired: old.retired, published: old.published})
		r.stale = true
		store.views.Store(n)
		err := r.Reload(t.Context())
		if err == nil {
			if !freed {
				t.Error("a key is not freed after the last step has failed")
			}
			break
		}
		if !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		_, err = os.Stat(f.Fault + ".freed")
		freed = err == nil
	}
	if err := signRS256(t, r); err != nil || r.inGo() {
		t.Errorf("%v; in Go: %v", err, r.inGo())
	}
}

func rotated(t *testing.T, r *Rings, f libcryptotest.Fake) {
	if err := os.Remove(f.Fault + ".freed"); err != nil { // of the proof
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var signed [4]int
	for n := range signed {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := r.Sign(t.Context(), RS256, "JWT", []byte("{}"), time.Time{}); err != nil {
					t.Error(err)
					return
				}
				signed[n]++
			}
		})
	}
	before := r.Published()[0].KID
	if _, err := r.Rotate(t.Context(), RotateRequest{Alg: RS256, Force: true}, "test"); err != nil {
		t.Error(err)
	}
	if _, err := r.Revoke(t.Context(), RevokeRequest{KID: before}, "test"); err != nil {
		t.Error(err)
	}
	time.Sleep(100 * time.Millisecond)
	cancel()
	all.Wait()
	if signed[0] == 0 {
		t.Errorf("%v signatures", signed)
	}
	if _, err := os.Stat(f.Fault + ".freed"); err != nil {
		t.Errorf("libcrypto has the revoked key still: %v", err)
	}
}
