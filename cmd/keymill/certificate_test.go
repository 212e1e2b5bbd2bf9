package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"keymill/issuer/api"
	"keymill/storage"
	"keymill/storage/bolt"
)

// TestAStoreOfAnEarlierBuildExportsCertificates: earlier builds stored none. After a start there is one for each published
// key whose private half exists, of that key, and a key that only verifies is exported in PEM.
func TestAStoreOfAnEarlierBuildExportsCertificates(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	verifies, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(verifies)
	if err != nil {
		t.Fatal(err)
	}
	file := p.writeKey("old.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	p.must(nil, "key", "import", file, "--kid", "old", "--until", "2199-01-01T00:00:00Z")
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	if n := removeRecords(t, p.store(), "certificate/"); n == 0 {
		t.Fatal("the store has no certificate to remove")
	}

	c = p.start()
	var keys []api.Key
	if !eventually(failsafe, func() bool { // until no key of either ring is made any longer
		p.must(&keys, "key", "list", "--json")
		return len(keys) == 7
	}) {
		t.Fatalf("keys: %+v", keys)
	}
	dir := filepath.Join(p.dir, "exported")
	if _, errs, code := p.run("key", "export", "--format", "cert", "--dir", dir); code != 10 {
		t.Fatalf("code %d, %s", code, errs)
	}
	var want []string
	for _, k := range keys {
		switch {
		case k.KID == "old":
			want = append(want, "old.pem")
		case k.Stage != "reserve":
			want = append(want, k.KID+".crt")
			raw, err := os.ReadFile(filepath.Join(dir, k.KID+".crt"))
			if err != nil {
				t.Error(err)
				continue
			}
			block, _ := pem.Decode(raw)
			if cert, err := x509.ParseCertificate(block.Bytes); err != nil || cert.Subject.CommonName != k.KID {
				t.Errorf("%s: %v", k.KID, err)
			}
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "[^.]*"))
	for n := range found {
		found[n] = filepath.Base(found[n])
	}
	slices.Sort(want)
	if slices.Sort(found); err != nil || !slices.Equal(found, want) || len(want) != 5 {
		t.Errorf("exported %q, want %q (%v)", found, want, err)
	}
	c.signal(syscall.SIGTERM)
	c.wait(failsafe)
	if n := removeRecords(t, p.store(), "certificate/"); n != 4 {
		t.Errorf("the store has %d certificates", n)
	}
}

// removeRecords removes the records below a prefix from the store of a stopped server, and returns how many there were.
func removeRecords(t *testing.T, path, prefix string) (removed int) {
	t.Helper()
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Update(t.Context(), func(tx storage.Tx) error {
		removed = 0
		for e, err := range tx.Scan(prefix, storage.EndOf(prefix)) {
			if err != nil {
				return err
			}
			if err := tx.Delete(e.Key); err != nil {
				return err
			}
			removed++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return removed
}
