package issuer

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"keymill/issuer/address"
	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/storage"
)

func (w *world) beginAt(user string, from netip.Addr) {
	w.t.Helper()
	if _, err := w.StartSession(w.t.Context(), SessionRequest{User: user, Client: "web", Endpoint: LoginBrowser, From: from}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) knows(name string, from netip.Addr) bool {
	w.t.Helper()
	return must[LoginCount](w.t)(w.LoginCount(w.t.Context(), name, from)).Known
}

// userRecord returns the stored bytes of a user.
func (w *world) userRecord(id string) []byte {
	w.t.Helper()
	var raw []byte
	err := w.store.View(w.t.Context(), func(r storage.Reader) error {
		got, err := r.Get(userKey(id))
		raw = bytes.Clone(got)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

// TestAUserKeepsTheAddressesOfLogins over a restart: the newest eight. A failed login adds none.
//
// R99, I29.
func TestAUserKeepsTheAddressesOfLogins(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.withPassword("alice", "7", testPassword, "")
	w.user("bob", "8")
	at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}) }
	if _, err := w.login("alice", "wrong", func(r *LoginRequest) { r.From = cafe }); err == nil || w.knows("alice", cafe) {
		t.Errorf("a failed login, %v: known is %v", err, w.knows("alice", cafe))
	}
	if _, err := w.login("alice", testPassword, func(r *LoginRequest) { r.From = home }); err != nil || !w.knows("alice", home) {
		t.Errorf("a login, %v: known is %v", err, w.knows("alice", home))
	}
	for n := range 8 {
		w.beginAt("7", at(n))
		w.beginAt("7", at(0)) // it is known: nothing is added, and it stays the newest
	}
	w.beginAt("8", netip.MustParseAddr("2001:db8:1:2::3"))
	for _, when := range []string{"before a restart", "after a restart"} {
		for n := range 8 {
			if !w.knows("alice", at(n)) || w.knows("bob", at(n)) {
				t.Errorf("%s: address %d is known to alice: %v, to bob: %v", when, n, w.knows("alice", at(n)), w.knows("bob", at(n)))
			}
		}
		if w.knows("alice", home) || w.knows("alice", cafe) || w.knows("alice", netip.Addr{}) || w.knows("carol", at(1)) || w.knows("7", at(1)) {
			t.Errorf("%s: an address is known that should not be", when)
		}
		if !w.knows("bob", netip.MustParseAddr("2001:db8:1:2:ffff::1")) || w.knows("bob", netip.MustParseAddr("2001:db8:1:3::3")) {
			t.Errorf("%s: an IPv6 subscriber is not a /64", when)
		}
		if !w.knows("alice", netip.MustParseAddr("::ffff:203.0.113.1")) {
			t.Errorf("%s: a mapped address is another one", when)
		}
		w.restart()
	}
}

// TestTheAddressesBelongToTheUser: they stay under a new name and a new password, and end with the user.
func TestTheAddressesBelongToTheUser(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	w.beginAt("7", home)
	if _, err := w.rename("alice", "alicia"); err != nil || !w.knows("alicia", home) || w.knows("alice", home) {
		t.Errorf("a new name: %v, known is %v", err, w.knows("alicia", home))
	}
	if _, err := w.SetPassword(t.Context(), "alicia", testPassword, "uid:0"); err != nil || !w.knows("alicia", home) {
		t.Errorf("a new password: %v, known is %v", err, w.knows("alicia", home))
	}
	if err := w.RemoveUser(t.Context(), "alicia", "uid:0"); err != nil || w.knows("alicia", home) {
		t.Errorf("a removed user: %v, known is %v", err, w.knows("alicia", home))
	}
	if _, err := w.AddUser(t.Context(), api.NewUser{ID: "9", Name: "alicia"}, "uid:0"); err != nil || w.knows("alicia", home) {
		t.Errorf("another user with the name: %v, known is %v", err, w.knows("alicia", home))
	}
}

// TestAKnownAddressIsStoredOnce: a login from there changes only the order of the list.
func TestAKnownAddressIsStoredOnce(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	list := func() address.Known {
		return must[*userRecord](t)(record.Decode(userKey("7"), w.userRecord("7"), (*userRecord).possible)).Addresses
	}
	w.beginAt("7", home)
	w.beginAt("7", cafe)
	before, records := list(), w.records("user/")
	for range 3 {
		w.beginAt("7", home)
		w.beginAt("7", cafe)
	}
	if after := list(); fmt.Sprint(after) != fmt.Sprint(before) || len(after) != 2 || w.records("user/") != records {
		t.Errorf("%x became %x", before, after)
	}
	w.beginAt("7", home)
	if after := list(); fmt.Sprint(after) != fmt.Sprint(address.Known{before[1], before[0]}) {
		t.Errorf("%x became %x", before, after)
	}
	w.beginAt("7", netip.Addr{}) // a request over a Unix socket has no address
	if after := list(); len(after) != 2 {
		t.Errorf("no address was added: %x", after)
	}
}

// TestADailyAddressStaysKnown, however many other addresses the user logs in from, also after a restart. An
// address that is not used again does not stay.
//
// I29.
func TestADailyAddressStaysKnown(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.user("alice", "7")
	at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}) }
	w.beginAt("7", cafe)
	for n := range 12 {
		w.beginAt("7", at(n))
		w.beginAt("7", home)
		if n%5 == 0 {
			w.restart()
		}
	}
	for n := range 7 {
		w.beginAt("7", at(n))
	}
	w.restart()
	if !w.knows("alice", home) || w.knows("alice", cafe) {
		t.Errorf("known are home: %v, the first address: %v", w.knows("alice", home), w.knows("alice", cafe))
	}
	w.beginAt("7", cafe)
	if w.knows("alice", home) {
		t.Error("an address is known after logins from eight others")
	}
}

// TestTheStoreDoesNotTellWhereAUserLogsIn: without the master key, an address cannot be compared with
// a stored hash, although there are few addresses. Everything that the store holds in the open is tried
// as a key.
func TestTheStoreDoesNotTellWhereAUserLogsIn(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	var records [][]byte
	for _, w := range []*world{w, other} {
		w.web()
		w.user("alice", "7")
		w.user("bob", "8")
		w.beginAt("7", home)
		w.beginAt("8", home)
		for _, id := range []string{"7", "8"} {
			records = append(records, w.userRecord(id))
		}
	}
	seen := map[string]bool{}
	for n, raw := range records {
		rec := must[*userRecord](t)(record.Decode(userKey("7"), raw, (*userRecord).possible))
		if len(rec.Addresses) != 1 || len(rec.Addresses[0]) != 16 {
			t.Fatalf("record %d: %x", n, rec.Addresses)
		}
		seen[string(rec.Addresses[0])] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d different hashes for two users of two stores", len(seen))
	}
	if bytes.Contains(records[0], []byte(home.String())) {
		t.Error("the record shows the address")
	}
	var open [][]byte // possible keys
	err := w.store.View(t.Context(), func(r storage.Reader) error {
		for e, err := range r.Scan("", "~") {
			if err != nil {
				return err
			}
			open = append(open, bytes.Clone(e.Value), []byte(e.Key))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	open = append(open, nil, make([]byte, 32), []byte(w.keys.DatabaseID()))
	for _, key := range open {
		derived, err := hkdf.Key(sha256.New, key, []byte(w.keys.DatabaseID()), "keymill login address v1", 32)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range [][]byte{key, derived} {
			guess := address.Hash(hmac.New(sha256.New, k), "7", home)
			if bytes.Contains(records[0], []byte(base64.StdEncoding.EncodeToString(guess))) {
				t.Errorf("the key is in the store: %.40q", key)
			}
		}
	}
	// With the secret, which only the master key opens, the same computation finds it.
	found := false
	for _, secret := range w.rawSecrets() {
		derived := must[[]byte](t)(hkdf.Key(sha256.New, secret, []byte(w.keys.DatabaseID()), "keymill login address v1", 32))
		guess := address.Hash(hmac.New(sha256.New, derived), "7", home)
		found = found || strings.Contains(string(records[0]), base64.StdEncoding.EncodeToString(guess))
	}
	if !found {
		t.Error("the secret does not find it either: the test shows nothing")
	}
	// The hash is not a part of what a token or a family shows.
	four := w.refreshSecrets.Fingerprint(1, home)
	rec := must[*userRecord](t)(record.Decode(userKey("7"), records[0], (*userRecord).possible))
	if binary.BigEndian.Uint32(four[:]) == binary.BigEndian.Uint32(rec.Addresses[0]) {
		t.Error("the hash begins with the fingerprint of sessions")
	}
}
