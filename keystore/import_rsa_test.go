package keystore

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/jwks"
)

func primeOf(t *testing.T, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestARSAKeyThatCanBeFactoredIsNotImported, and leaves nothing behind. The kinds of such keys are
// tested with jwks.CheckRSA.
//
// R87.
func TestARSAKeyThatCanBeFactoredIsNotImported(t *testing.T) {
	r := importRings(t)
	product := func(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }
	p, later := primeOf(t, 1024), time.Now().Add(time.Hour)
	imported := product(p, primeOf(t, 1024))
	req := func(n *big.Int) ImportRequest {
		return ImportRequest{Key: pemOf(t, "PUBLIC KEY", &rsa.PublicKey{N: n, E: 65537}), Until: later}
	}
	if _, err := r.Import(t.Context(), req(imported), "test"); err != nil {
		t.Fatal(err)
	}
	before := r.Published()
	for name, tt := range map[string]struct {
		n      *big.Int
		reason string
	}{
		"1024 bits":                   {rsaModulus(1024), "2048 to 8192 bits, not 1024"},
		"a sum of two powers":         {rsaModulus(2049), "powers of two"},
		"2^2203-1":                    {new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2203), big.NewInt(1)), "powers of two"},
		"a small factor":              {product(imported, big.NewInt(65521)), "small factor 65521"},
		"a square":                    {product(p, p), "too close"},
		"a prime in common":           {product(p, primeOf(t, 1024)), "in common"},
		"a prime in common, 3072 bit": {product(p, primeOf(t, 2048)), "in common"},
	} {
		var bad *InvalidError
		if _, err := r.Import(t.Context(), req(tt.n), "test"); !errors.As(err, &bad) || bad.Code != "invalid_request" || !strings.Contains(bad.Description, tt.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := r.Published(); !slices.EqualFunc(before, after, func(a, b PublicKey) bool { return a.KID == b.KID }) {
		t.Errorf("%d keys are published, %d before", len(after), len(before))
	}
}

// TestWithoutItsCheckNoRSAKeyIsImported: a forgotten check must not accept everything.
func TestWithoutItsCheckNoRSAKeyIsImported(t *testing.T) {
	r, _ := newRings(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	req := ImportRequest{Key: pemOf(t, "PRIVATE KEY", key)}
	r.cfg.CheckRSA = nil
	if _, err := r.Import(t.Context(), req, "test"); err == nil || !strings.Contains(err.Error(), "CheckRSA") {
		t.Errorf("without a check: %v", err)
	}
	r.cfg.CheckRSA = jwks.CheckRSA
	if _, err := r.Import(t.Context(), req, "test"); err == nil || !strings.Contains(err.Error(), "keys.algorithms") {
		t.Errorf("with it: %v", err)
	}
}

// TestTwoImportsAtOnceShareNoPrime: what is checked before the lock is taken is checked again behind it.
func TestTwoImportsAtOnceShareNoPrime(t *testing.T) {
	inBubble(t, func(b *fixture) {
		b.cfg.Algorithms, b.cfg.Changed = []string{EdDSA, RS256}, nil
		b.cfg.CheckRSA = func(*rsa.PublicKey, ...*rsa.PublicKey) error { return nil } // as if neither saw the other
		b.open()
		shared := primeOf(b.t, 1024)
		for n, want := range []string{"", "shares a prime with the published key"} {
			public := &rsa.PublicKey{N: new(big.Int).Mul(shared, primeOf(b.t, 1024)), E: 65537}
			_, err := b.rings.Import(b.t.Context(), ImportRequest{Key: pemOf(b.t, "PUBLIC KEY", public), Until: time.Now().Add(time.Hour)}, "test")
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				b.t.Errorf("import %d: %v", n, err)
			}
		}
	})
}
