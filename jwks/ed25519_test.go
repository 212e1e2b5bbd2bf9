package jwks

import (
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// encodings returns the two keys with that y, one for each sign of x.
func encodings(t *testing.T, y string) [2]ed25519.PublicKey {
	t.Helper()
	key, err := hex.DecodeString(y)
	if err != nil || len(key) != ed25519.PublicKeySize {
		t.Fatalf("%q: %v", y, err)
	}
	slices.Reverse(key)
	signed := slices.Clone(key)
	signed[31] |= 0x80
	return [2]ed25519.PublicKey{key, signed}
}

// forgeries counts for how many of 400 messages crypto/ed25519 accepts a signature that needs no
// private key: the neutral point as R, and S = 0.
func forgeries(public ed25519.PublicKey) int {
	signature := make([]byte, ed25519.SignatureSize)
	signature[0] = 1
	accepted := 0
	for n := range 400 {
		if ed25519.Verify(public, []byte("message "+strconv.Itoa(n)), signature) {
			accepted++
		}
	}
	return accepted
}

// refusedKey checks that neither NewSet nor Parse accepts the key.
func refusedKey(t *testing.T, public ed25519.PublicKey, reason string) {
	t.Helper()
	if _, err := NewSet(Key{"k", EdDSA, public}); err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("NewSet with %x: %v, want %q", public, err, reason)
	}
	set, err := Parse([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"` + encode(string(public)) + `"}]}`))
	if err != nil || len(set.Keys()) != 0 || set.Skipped().Count != 1 || !strings.Contains(set.Skipped().Keys[0].Reason, reason) {
		t.Errorf("Parse with %x: %v; want %q", public, err, reason)
	}
}

// TestAnEd25519KeyOfSmallOrderIsRefused shows for every row that it is needed: the standard
// library accepts forgeries for the key, as often as its order says.
//
// R87.
func TestAnEd25519KeyOfSmallOrderIsRefused(t *testing.T) {
	const canonical, order = "is not canonical", "small order"
	prime, _ := new(big.Int).SetString(edPrime, 16)
	plus1 := hex.EncodeToString(new(big.Int).Add(prime, big.NewInt(1)).Bytes())
	for _, tt := range []struct {
		y      string
		order  int
		reason string
	}{
		{edSmallOrder[0], 1, order},
		{edSmallOrder[1], 2, order},
		{edSmallOrder[2], 4, order},
		{edSmallOrder[3], 8, order},
		{edSmallOrder[4], 8, order},
		{edPrime, 4, canonical}, // a second encoding of 0
		{plus1, 1, canonical},   // a second encoding of 1
	} {
		for _, public := range encodings(t, tt.y) {
			if n, want := forgeries(public), 400/tt.order; n < want/2 || n > 2*want {
				t.Errorf("%x: %d forgeries of 400, about %d expected of order %d", public, n, want, tt.order)
			}
			refusedKey(t, public, tt.reason)
		}
	}
}

// TestEdSmallOrderIsComplete computes the table. The cofactor is 8, so there are only eight such
// points.
func TestEdSmallOrderIsComplete(t *testing.T) {
	p, _ := new(big.Int).SetString(edPrime, 16)
	one := big.NewInt(1)
	if want := new(big.Int).Sub(new(big.Int).Lsh(one, 255), big.NewInt(19)); p.Cmp(want) != 0 {
		t.Fatalf("the prime is %x", want)
	}
	// d = -121665/121666 (RFC 8032, section 5.1); y² = (-1 ± √(1 + d)) / d.
	d := new(big.Int).ModInverse(big.NewInt(121666), p)
	d.Mod(d.Mul(d, big.NewInt(-121665)), p)
	root := new(big.Int).ModSqrt(new(big.Int).Add(d, one), p)
	want := []*big.Int{one, new(big.Int).Sub(p, one), new(big.Int)}
	for _, r := range []*big.Int{root, new(big.Int).Sub(p, root)} {
		square := new(big.Int).Sub(r, one)
		square.Mod(square.Mul(square, new(big.Int).ModInverse(d, p)), p)
		if y := new(big.Int).ModSqrt(square, p); y != nil {
			want = append(want, y, new(big.Int).Sub(p, y))
		}
	}
	points := 0
	for _, y := range want {
		text := hex.EncodeToString(y.FillBytes(make([]byte, 32)))
		if !slices.Contains(edSmallOrder[:], text) {
			t.Errorf("%s is missing", text)
		}
		points += 2
		if y.Cmp(one) == 0 || y.Cmp(want[1]) == 0 {
			points-- // x = 0 has no sign
		}
	}
	if points != 8 || len(want) != len(edSmallOrder) {
		t.Errorf("%d points, %d of %d coordinates", points, len(want), len(edSmallOrder))
	}
}

// TestAnEd25519KeyHasOneEncoding: every y that is not below the prime stands for a smaller one.
//
// R87.
func TestAnEd25519KeyHasOneEncoding(t *testing.T) {
	prime, _ := new(big.Int).SetString(edPrime, 16)
	for n := range int64(19) {
		y := new(big.Int).Add(prime, big.NewInt(n))
		for _, public := range encodings(t, hex.EncodeToString(y.Bytes())) {
			refusedKey(t, public, "is not canonical")
		}
	}
}

func TestNoGeneratedEd25519KeyIsRefused(t *testing.T) {
	seed := make([]byte, ed25519.SeedSize)
	for n := range uint64(10_000) {
		binary.LittleEndian.PutUint64(seed, n)
		public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		if err := checkEd25519(public); err != nil {
			t.Fatalf("%x: %v", public, err)
		}
	}
}
