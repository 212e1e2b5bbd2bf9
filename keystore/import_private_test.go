package keystore

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/jwks"
	"keymill/keystore/internal/keyfile"
)

// An rsaDER is an RSAPrivateKey (RFC 8017, section A.1.2).
type rsaDER struct {
	Version               int
	N                     *big.Int
	E                     int
	D, P, Q, DP, DQ, QInv *big.Int
	Others                []otherPrime `asn1:"optional,omitempty"`
}

type otherPrime struct{ Prime, Exponent, Coefficient *big.Int }

var one = big.NewInt(1)

// rsaOf returns the key of the factors, as its program makes it: d is the inverse of e modulo the least
// common multiple of their predecessors.
func rsaOf(factors ...*big.Int) *rsaDER {
	k := &rsaDER{N: big.NewInt(1), E: 65537, P: factors[0], Q: factors[1]}
	lambda := big.NewInt(1)
	for _, f := range factors {
		k.N.Mul(k.N, f)
		less := new(big.Int).Sub(f, one)
		common := new(big.Int).GCD(nil, nil, lambda, less)
		lambda.Mul(lambda, less.Div(less, common))
	}
	k.D = new(big.Int).ModInverse(big.NewInt(int64(k.E)), lambda)
	below := func(p *big.Int) *big.Int { return new(big.Int).Mod(k.D, new(big.Int).Sub(p, one)) }
	k.DP, k.DQ, k.QInv = below(k.P), below(k.Q), new(big.Int).ModInverse(k.Q, k.P)
	if k.QInv == nil { // equal primes
		k.QInv = one
	}
	before := new(big.Int).Mul(k.P, k.Q)
	for _, f := range factors[2:] {
		k.Version = 1
		k.Others = append(k.Others, otherPrime{f, below(f), new(big.Int).ModInverse(before, f)})
		before = new(big.Int).Mul(before, f)
	}
	return k
}

func (k *rsaDER) pem(t *testing.T) []byte {
	t.Helper()
	der, err := asn1.Marshal(*k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})
}

// primeFor returns a prime of which e does not divide the predecessor, and which lies below high/8 and from
// low/8 of the power of two.
func primeFor(t *testing.T, bits uint, low, high int64) *big.Int {
	t.Helper()
	from := new(big.Int).Lsh(big.NewInt(low), bits-3)
	for {
		p, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(high-low), bits-3))
		if err != nil {
			t.Fatal(err)
		}
		if p.SetBit(p.Add(p, from), 0, 1).ProbablyPrime(0) && new(big.Int).Mod(new(big.Int).Sub(p, one), big.NewInt(65537)).Sign() != 0 {
			return p
		}
	}
}

// importRings returns Rings with both algorithms.
func importRings(t *testing.T) *Rings {
	t.Helper()
	master, _ := NewMasterKey()
	s := openStore(t, filepath.Join(t.TempDir(), "db"))
	cfg := trial(master)
	cfg.Algorithms = []string{EdDSA, RS256}
	create(t, s, cfg)
	r, err := Open(t.Context(), s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPrivateRSAKeysAreImportedOnlyWithTwoLargePrimes: what the modulus alone does not show, the private half
// does.
//
// R87.
func TestPrivateRSAKeysAreImportedOnlyWithTwoLargePrimes(t *testing.T) {
	r := importRings(t)
	p, q, large := primeFor(t, 1024, 6, 8), primeFor(t, 1024, 6, 8), primeFor(t, 2040, 7, 8)
	half := func() *big.Int { return new(big.Int).Mul(primeFor(t, 512, 7, 8), primeFor(t, 512, 7, 8)) }
	changed := func(change func(k *rsaDER)) *rsaDER {
		k := rsaOf(p, q)
		change(k)
		return k
	}
	add := func(n *big.Int, more int64) *big.Int { return new(big.Int).Add(n, big.NewInt(more)) }
	near := add(p, 2)
	for !near.ProbablyPrime(0) {
		near = add(near, 2)
	}
	for name, tt := range map[string]struct {
		key    *rsaDER
		reason string
	}{
		"three primes":               {rsaOf(primeFor(t, 684, 7, 8), primeFor(t, 684, 7, 8), primeFor(t, 684, 7, 8)), "3 prime factors"},
		"four primes":                {rsaOf(primeFor(t, 512, 7, 8), primeFor(t, 513, 7, 8), primeFor(t, 514, 7, 8), primeFor(t, 515, 7, 8)), "4 prime factors"},
		"a composite factor":         {rsaOf(half(), q), "not a prime"},
		"two composite factors":      {rsaOf(half(), half()), "not a prime"},
		"a factor of 200 bits":       {rsaOf(large, primeFor(t, 200, 7, 8)), "a factor of 200 bits"},
		"a factor of 895 bits":       {rsaOf(primeFor(t, 1153, 7, 8), primeFor(t, 895, 7, 8)), "a factor of 895 bits"},
		"a factor of 20 bits":        {rsaOf(large, big.NewInt(1048573)), "a factor of 20 bits"},
		"a small factor":             {rsaOf(large, big.NewInt(65521)), "small factor 65521"},
		"neighbours":                 {rsaOf(near, p), ""},
		"another d":                  {changed(func(k *rsaDER) { k.D = add(k.D, 2) }), ""},
		"another dP":                 {changed(func(k *rsaDER) { k.DP = add(k.DP, 2) }), ""},
		"another dQ":                 {changed(func(k *rsaDER) { k.DQ = add(k.DQ, 2) }), ""},
		"another qInv":               {changed(func(k *rsaDER) { k.QInv = add(k.QInv, 2) }), ""},
		"another modulus":            {changed(func(k *rsaDER) { k.N = add(k.N, 2) }), ""},
		"factors of another modulus": {changed(func(k *rsaDER) { k.P, k.Q = near, q }), ""},
		"the exponent 3":             {changed(func(k *rsaDER) { k.E = 3 }), ""},
		"an even exponent":           {changed(func(k *rsaDER) { k.E = 65538 }), ""},
		"a small d":                  {changed(func(k *rsaDER) { k.D = big.NewInt(65537) }), ""},
		"one factor is 1":            {changed(func(k *rsaDER) { k.P, k.Q = k.N, one }), ""},
		"one factor is the modulus":  {changed(func(k *rsaDER) { k.P, k.Q = one, k.N }), ""},
		"a square":                   {rsaOf(p, new(big.Int).Set(p)), ""},
	} {
		before := len(r.Published())
		var bad *InvalidError
		if _, err := r.Import(t.Context(), ImportRequest{Key: tt.key.pem(t)}, "test"); !errors.As(err, &bad) || !strings.Contains(bad.Description, tt.reason) {
			t.Errorf("%s: %v", name, err)
		}
		if len(r.Published()) != before {
			t.Errorf("%s: it is published", name)
		}
	}
}

// TestEd25519KeysThatCanBeGuessedAreNotImported, in any form and for any use. What they signed elsewhere is not
// accepted here.
//
// R87.
func TestEd25519KeysThatCanBeGuessedAreNotImported(t *testing.T) {
	r, _ := newRings(t)
	seed := func(s string) ed25519.PrivateKey { return ed25519.NewKeyFromSeed([]byte(s)) }
	var sequence, fromSeven []byte
	for n := range byte(32) {
		sequence, fromSeven = append(sequence, n), append(fromSeven, 7+3*n)
	}
	published, err := hex.DecodeString("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte("changeme"))
	for name, key := range map[string]ed25519.PrivateKey{
		"zeros":                   seed(strings.Repeat("\x00", 32)),
		"ones":                    seed(strings.Repeat("\xff", 32)),
		"a sequence":              seed(string(sequence)),
		"a sequence of steps":     seed(string(fromSeven)),
		"a pattern":               seed(strings.Repeat("\x9d\x61\xb1\x9d", 8)),
		"text":                    seed("this is a secret of 32 letters  "),
		"test 2 of RFC 8032":      seed(string(published)),
		"the hash of a word":      seed(string(hash[:])),
		"filled up with zeros":    seed("\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69" + strings.Repeat("\x00", 12)),
		"the same in both halves": seed(strings.Repeat("\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4", 2)),
	} {
		for form, file := range map[string][]byte{"PEM": pemOf(t, "PRIVATE KEY", key), "JWK": jwkOf(key, "theirs")} {
			for use, req := range map[string]ImportRequest{
				"spare": {Key: file}, "signer": {Key: file, SignNow: true}, "verify only": {Key: file, Until: r.Now().Add(time.Hour)},
			} {
				var bad *InvalidError
				if _, err := r.Import(t.Context(), req, "test"); !errors.As(err, &bad) || !strings.Contains(bad.Description, "not drawn at random") {
					t.Errorf("%s, %s, %s: %v", name, form, use, err)
				}
			}
		}
	}
	if _, err := r.Import(t.Context(), ImportRequest{Key: pemOf(t, "PRIVATE KEY", edKey(t))}, "test"); err != nil {
		t.Errorf("a random key: %v", err)
	}
}

// TestRSAKeysOfWellKnownProgramsAreImported: with primes as Java 8 and python-rsa choose them, and new ones
// of the programs that are here.
func TestRSAKeysOfWellKnownProgramsAreImported(t *testing.T) {
	low, high := primeFor(t, 1024, 4, 5), primeFor(t, 1024, 7, 8)
	for new(big.Int).Mul(low, high).BitLen() < 2048 { // those programs draw again too
		low = primeFor(t, 1024, 4, 5)
	}
	keys := map[string][]byte{
		"Java 8, one prime below the root of 2": rsaOf(high, low).pem(t),
		"python-rsa":                            rsaOf(primeFor(t, 1088, 6, 8), primeFor(t, 960, 6, 8)).pem(t),
		"an odd length":                         rsaOf(primeFor(t, 1025, 6, 8), high).pem(t),
		"the larger prime last":                 rsaOf(low, high).pem(t),
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys["Go"] = pemOf(t, "PRIVATE KEY", key)
	node := `process.stdout.write(require("crypto").generateKeyPairSync("rsa",{modulusLength:2048}).privateKey.export({type:"pkcs8",format:"pem"}))`
	for name, script := range map[string]string{
		"openssl":    "openssl genrsa 2048",
		"ssh-keygen": `ssh-keygen -q -t rsa -b 2048 -m PEM -N "" -f k >&2 && cat k`,
		"node":       "node -e '" + node + "'",
	} {
		if _, err := exec.LookPath(name); err != nil && os.Getenv("CI") == "" {
			t.Logf("%s is not here", name)
			continue
		}
		run := exec.CommandContext(t.Context(), "sh", "-c", script)
		run.Dir = t.TempDir()
		out, err := run.Output()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		keys[name] = out
	}
	for name, file := range keys {
		key, err := keyfile.Parse(file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		public, ok := key.Public.(*rsa.PublicKey)
		if !ok || key.Private == nil {
			t.Errorf("%s: no private RSA key", name)
			continue
		}
		if err := errors.Join(jwks.CheckRSA(public), keyfile.CheckPrivate(key.Private)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := importRings(t)
	if _, err := r.Import(t.Context(), ImportRequest{Key: keys["python-rsa"], KID: "old", Until: time.Time{}}, "test"); err != nil {
		t.Error(err)
	}
}
