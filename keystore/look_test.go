package keystore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"keymill/storage"
)

// heartbeat is one tick that writes the clock record.
func heartbeat(t *testing.T, r *Rings) error {
	t.Helper()
	r.clockWritten = -time.Hour
	err := r.tick(t.Context())
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("several lines: %v", err)
	}
	return err
}

// A rawDamage is what a writer of the file does to a record. older is the record of an earlier time.
type rawDamage struct {
	name string
	do   func(t *testing.T, s storage.Store, key string, older []byte)
}

var rawDamages = []rawDamage{
	{"damaged", func(t *testing.T, s storage.Store, key string, _ []byte) { damageBelow(t, s, key) }},
	{"cut off", func(t *testing.T, s storage.Store, key string, older []byte) { rawPut(t, s, key, older[:len(older)/2]) }},
	{"empty", func(t *testing.T, s storage.Store, key string, _ []byte) { rawPut(t, s, key, nil) }},
	{"forged", func(t *testing.T, s storage.Store, key string, _ []byte) { rawPut(t, s, key, []byte("{}")) }},
	{"moved there", func(t *testing.T, s storage.Store, key string, _ []byte) {
		rawPut(t, s, key, rawGet(t, s, "manifest"))
	}},
	{"lost", func(t *testing.T, s storage.Store, key string, _ []byte) {
		replaceBelow(t, s, map[string][]byte{key: nil}, nil)
	}},
	{"older", func(t *testing.T, s storage.Store, key string, older []byte) { rawPut(t, s, key, older) }},
}

// rawRecord returns what is stored under a key, or nil.
func rawRecord(t *testing.T, s storage.Store, key string) []byte {
	t.Helper()
	return recordsBelow(t, s, key, key+"\x00")[key]
}

// wantNotReady requires that Status names the record.
func wantNotReady(t *testing.T, what string, r *Rings, key string) {
	t.Helper()
	if st := r.Status(); st.Ready || !strings.Contains(strings.Join(st.Issues, "; "), "record "+key+" is damaged") {
		t.Errorf("%s: %+v", what, st)
	}
}

// TestNothingIsWrittenOverADamagedClockRecord, or in place of a lost or older one: neither by a heartbeat nor by a rotation
// or at the end of the process. A key can be revoked all the same.
//
// I23.
func TestNothingIsWrittenOverADamagedClockRecord(t *testing.T) {
	for _, tt := range rawDamages {
		r, s := newRings(t)
		older := rawGet(t, s, clockKey)
		time.Sleep(time.Millisecond) // served time
		if err := heartbeat(t, r); err != nil {
			t.Fatal(err)
		}
		newest := rawGet(t, s, clockKey)
		tt.do(t, s, clockKey, older)
		damaged := rawRecord(t, s, clockKey)
		unchanged := func(what string) {
			t.Helper()
			if now := rawRecord(t, s, clockKey); !bytes.Equal(now, damaged) {
				t.Errorf("%s, %s: the clock record was written", tt.name, what)
			}
		}
		for range 2 {
			if err := heartbeat(t, r); !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), "record clock is damaged") {
				t.Errorf("%s: a heartbeat gave %v", tt.name, err)
			}
			unchanged("a heartbeat")
			wantNotReady(t, tt.name, r, clockKey)
		}
		if _, err := r.Rotate(t.Context(), RotateRequest{Alg: EdDSA, Force: true}, "test"); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: a rotation gave %v", tt.name, err)
		}
		unchanged("a rotation")
		signer := r.Published()[0].KID
		if _, err := r.Revoke(t.Context(), RevokeRequest{KID: signer}, "test"); err != nil {
			t.Errorf("%s: a revocation gave %v", tt.name, err)
		}
		if now := r.Published(); len(now) > 0 && now[0].KID == signer {
			t.Errorf("%s: the revoked key is published", tt.name)
		}
		unchanged("a revocation")
		if err := r.Close(); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: the end of the process gave %v", tt.name, err)
		}
		unchanged("the end")
		rawPut(t, s, clockKey, newest)
		if err := heartbeat(t, r); err != nil || strings.Contains(strings.Join(r.Status().Issues, ""), "damaged") {
			t.Errorf("%s, with the newest record back: %v, %+v", tt.name, err, r.Status())
		}
	}
}

// TestDamageOfKeysIsNoticedWithinAHeartbeat, although the server works with what it has in memory, and until the
// record is whole again.
//
// I24.
func TestDamageOfKeysIsNoticedWithinAHeartbeat(t *testing.T) {
	const secret = "refresh/secret/1"
	r, s := newRings(t)
	put := func(value string) {
		t.Helper()
		if err := r.Store().Update(t.Context(), func(tx storage.Tx) error { return tx.Put(secret, []byte(value)) }); err != nil {
			t.Fatal(err)
		}
	}
	put("1")
	req := ImportRequest{Key: pemOf(t, "PUBLIC KEY", edKey(t).Public()), KID: "old", Until: time.Now().Add(time.Hour)}
	if _, err := r.Import(t.Context(), req, "test"); err != nil {
		t.Fatal(err)
	}
	retired := retiredKey(EdDSA, "old")
	older := map[string][]byte{}
	for _, key := range []string{ringKey(EdDSA), retired, secret} {
		older[key] = rawGet(t, s, key)
	}
	put("2")
	raise(t, r, EdDSA, 2*time.Minute) // which writes the ring
	if err := r.Store().Update(t.Context(), func(tx storage.Tx) error {
		var k Key
		_, err := getJSON(tx, retired, &k)
		k.Drop = k.Drop.Add(time.Second)
		return errors.Join(err, putRetired(tx, k))
	}); err != nil {
		t.Fatal(err)
	}
	if err := heartbeat(t, r); err != nil {
		t.Fatal(err)
	}
	published := len(r.Published())
	check := func(what, key string, newest []byte) {
		t.Helper()
		damaged := rawRecord(t, s, key)
		if err := heartbeat(t, r); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: a heartbeat gave %v", what, err)
		}
		if err := r.tick(t.Context()); err == nil {
			t.Errorf("%s: forgotten before the next heartbeat", what)
		}
		wantNotReady(t, what, r, key)
		if !bytes.Equal(rawRecord(t, s, key), damaged) || len(r.Published()) != published {
			t.Errorf("%s: the record was written, or the published set is another", what)
		}
		replaceBelow(t, s, map[string][]byte{key: nil}, nil)
		if newest != nil {
			rawPut(t, s, key, newest)
		}
		if err := heartbeat(t, r); err != nil || !r.Status().Ready {
			t.Errorf("%s, whole again: %v, %+v", what, err, r.Status())
		}
	}
	for key, before := range older {
		for _, tt := range rawDamages {
			newest := rawGet(t, s, key)
			tt.do(t, s, key, before)
			check(key+" "+tt.name, key, newest)
		}
	}
	for _, key := range []string{ringKey(RS256), retiredKey(EdDSA, "new"), "refresh/secret/2", "ring/~"} {
		rawPut(t, s, key, older[secret])
		check(key+" added", key, nil)
	}
	for key := range recordsBelow(t, s, "manifest", "manifest0") {
		newest := rawGet(t, s, key)
		damageBelow(t, s, key)
		check(key+" damaged", key, newest)
	}
}
