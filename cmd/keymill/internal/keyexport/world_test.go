package keyexport

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"keymill/jwks"
)

// key returns the same key for the same kid.
func key(kid string) jwks.Key {
	seed := sha256.Sum256([]byte(kid))
	return jwks.Key{KID: kid, Alg: jwks.EdDSA, Public: ed25519.NewKeyFromSeed(seed[:]).Public()}
}

func setOf(t testing.TB, kids ...string) *jwks.Set {
	t.Helper()
	var keys []jwks.Key
	for _, kid := range kids {
		keys = append(keys, key(kid))
	}
	set, err := jwks.NewSet(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// A fixed source has always the same answer.
type fixed struct {
	set *jwks.Set
	err error
}

func (f fixed) next(context.Context) (Published, error) { return Published{Set: f.set}, f.err }

func (f fixed) source() Source { return Source{Next: f.next} }

// A world is a directory with what exports into it print.
type world struct {
	t         *testing.T
	dir       string
	out, errs bytes.Buffer
}

func newWorld(t *testing.T) *world {
	return &world{t: t, dir: filepath.Join(t.TempDir(), "keys")}
}

// export runs an export of these keys and returns its error.
func (w *world) export(format Format, set *jwks.Set) error {
	w.t.Helper()
	w.out.Reset()
	w.errs.Reset()
	e := Export{Source: fixed{set: set}.source(), Format: format, Dir: w.dir, Out: &w.out, Errs: &w.errs}
	return e.Run(w.t.Context())
}

// changes fails the test unless an export of these keys changes the directory.
func (w *world) changes(kids ...string) {
	w.t.Helper()
	if err := w.export(PEM, setOf(w.t, kids...)); !errors.Is(err, Changed) {
		w.t.Fatalf("export %q: %v, want a change", kids, err)
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	content, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(content)
}

func (w *world) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// files returns the names in a directory.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// has fails the test unless the directory has exactly these files and the manifest.
func (w *world) has(names ...string) {
	w.t.Helper()
	got := files(w.t, w.dir)
	want := append([]string{manifestName}, names...)
	if len(got) != len(want) {
		w.t.Fatalf("files %q, want %q", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			w.t.Fatalf("files %q, want %q", got, want)
		}
	}
}

// certificateOf returns a certificate of the key in PEM.
func certificateOf(t testing.TB, kid string) string {
	t.Helper()
	seed := sha256.Sum256([]byte(kid))
	private := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(nil, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// pemOf is what the file of a key must have.
func pemOf(t testing.TB, kid string) string {
	t.Helper()
	block, err := publicPEM(key(kid))
	if err != nil {
		t.Fatal(err)
	}
	return string(block)
}
