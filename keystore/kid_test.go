package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/keystore/internal/keytype"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
)

// One revocation is enough only if a key has one kid.
//
// I6.
func TestAKeyIsStoredUnderOneKid(t *testing.T) {
	key := edKey(t)
	until := time.Now().Add(time.Hour)
	requests := map[string]ImportRequest{
		"spare":       {Key: pemOf(t, "PRIVATE KEY", key), KID: "spare"},
		"signer":      {Key: jwkOf(key, "signer"), SignNow: true},
		"verifier":    {Key: pemOf(t, "PRIVATE KEY", key), KID: "verifier", Until: until},
		"public half": {Key: pemOf(t, "PUBLIC KEY", key.Public()), KID: "public", Until: until},
		"no kid":      {Key: pemOf(t, "PRIVATE KEY", key)},
	}
	for first, a := range requests {
		r, _ := newRings(t)
		stored, err := r.Import(t.Context(), a, "test")
		if err != nil {
			t.Fatal(err)
		}
		for second, b := range requests {
			var bad *InvalidError
			_, err := r.Import(t.Context(), b, "test")
			if !errors.As(err, &bad) || bad.Code != "already_exists" || !strings.Contains(bad.Description, stored.KID) {
				t.Errorf("%s, then %s: %v", first, second, err)
			}
		}
		if got, err := r.Revoke(t.Context(), RevokeRequest{KID: stored.KID}, "test"); err != nil || got.Also != nil {
			t.Errorf("%s: %+v, %v", first, got, err)
		}
		if isPublished(r, key) {
			t.Errorf("%s: the revoked key is published", first)
		}
	}
}

func isPublished(r *Rings, key ed25519.PrivateKey) bool {
	return slices.ContainsFunc(r.Published(), func(k PublicKey) bool { return key.Public().(ed25519.PublicKey).Equal(k.Public) })
}

// TestARevocationReachesEveryKidOfAKey in a store of an earlier build.
//
// I6.
func TestARevocationReachesEveryKidOfAKey(t *testing.T) {
	kids := []string{"public", "retired", "signer", "spare"}
	for _, revoked := range kids {
		r, _ := newRings(t)
		key := edKey(t)
		other, err := r.Import(t.Context(), ImportRequest{Key: pemOf(t, "PUBLIC KEY", edKey(t).Public()), KID: "other", Until: time.Now().Add(time.Hour)}, "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Import(t.Context(), ImportRequest{Key: jwkOf(key, "signer"), SignNow: true}, "test"); err != nil {
			t.Fatal(err)
		}
		storeAgain(t, r, r.Store(), key)
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := r.Revoke(t.Context(), RevokeRequest{KID: revoked}, "test")
		all := slices.Sorted(slices.Values(append(got.Also, got.KID)))
		if err != nil || got.KID != revoked || !slices.Equal(all, kids) || got.Successor == "" {
			t.Errorf("%s: %+v, %v", revoked, got, err)
		}
		if isPublished(r, key) || stage(t, r, Active) != got.Successor {
			t.Errorf("%s: published %v, active %s, want %s", revoked, r.Published(), stage(t, r, Active), got.Successor)
		}
		if !slices.ContainsFunc(r.Published(), func(k PublicKey) bool { return k.KID == other.KID }) {
			t.Errorf("%s: another key was revoked", revoked)
		}
		for _, kid := range kids {
			if isStored(t, r.Store(), privateKey(kid)) {
				t.Errorf("%s: the private half of %s is left", revoked, kid)
			}
			var bad *InvalidError
			if _, err := r.Import(t.Context(), ImportRequest{Key: jwkOf(edKey(t), kid)}, "test"); !errors.As(err, &bad) || bad.Code != "already_exists" {
				t.Errorf("%s: another key got the kid %s: %v", revoked, kid, err)
			}
		}
	}
}

// storeAgain stores a key under three more kids, as earlier builds did.
func storeAgain(t *testing.T, r *Rings, s storage.Store, key ed25519.PrivateKey) {
	t.Helper()
	public, err := keytype.MarshalPublic(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx storage.Tx) error {
		now := r.Now()
		before, err := getRing(tx, EdDSA)
		if err != nil {
			return err
		}
		spare, old := schedule.NewKey("spare", EdDSA, public, time.Minute), schedule.NewKey("retired", EdDSA, public, time.Minute)
		spare.Imported, old.Imported = true, true
		after := before.Insert(spare, now, r.policy(), false)
		old.Publish, old.Stop, old.Drop, old.Erase = now, now, now.Add(time.Hour), now.Add(time.Minute)
		verifier := old
		verifier.KID = "public"
		return errors.Join(putRing(tx, after), r.putPrivate(tx, "spare", key), r.putPrivate(tx, "retired", key),
			putJSON(tx, retiredKey(EdDSA, "retired"), old), putJSON(tx, retiredKey(EdDSA, "public"), verifier))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// R53.
func TestOurKidsAreThumbprints(t *testing.T) {
	modulus, _ := base64.RawURLEncoding.DecodeString("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	x, _ := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	point := func(x, y string) crypto.PublicKey {
		octets := []byte{4}
		for _, coordinate := range []string{x, y} {
			octets, _ = base64.RawURLEncoding.AppendDecode(octets, []byte(coordinate))
		}
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), octets)
		if err != nil {
			t.Fatal(err)
		}
		return public
	}
	for want, public := range map[string]crypto.PublicKey{
		"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}, // RFC 7638, section 3.1
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": ed25519.PublicKey(x),                                        // RFC 8037, appendix A.3
		// The jkt of RFC 9449, section 6.1, and points whose x, y or both begin with a zero octet.
		"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I": point("l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"),
		"7Yxe6c_3bAa6kiaK1G-BZmi9EeNsUmlcbdnrtLeuK4E": point("AFVDiUrz0A7X10Cr29dclrBod7eH219w7qeLkKjXwAo", "u0yFo9jqKe-q-iRAaRLdhNWxTcMr9lbvbGvVil2UP5I"),
		"WZsjbh58q8kl1WsGShqtiycImZtCgGbukDn4RAacMig": point("mGriUG8f8QTQQjCGHY9LSY9LxMbQCbMPdUTcEpuC0o0", "ADzMwKZGDgrjKKTZfTx7YdhvxiicGJ8lJREMRBuwfpc"),
		"kAORMhlgziJZIHgXEMPBV0UiV4FORQftLpCrZ8oCbzI": point("ACBiT32ylIIMMaIbEKJujhkFPYFHR6b3oOiRa-IpmbU", "AOon8vj6IRHZ23OPzZzn6Se6US8g_p8MWqQJnBvYUAI"),
	} {
		if got, err := keytype.Thumbprint(public); err != nil || got != want {
			t.Errorf("thumbprint %s, want %s (%v)", got, want, err)
		}
	}
}
