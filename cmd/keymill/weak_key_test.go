package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keymill/keystore"
	"keymill/storage/bolt"
)

// weakKeys are master keys that were not drawn at random, as a file holds them.
func weakKeys() map[string]string {
	sequence := make([]byte, 32)
	for i := range sequence {
		sequence[i] = byte(i)
	}
	hashed := sha256.Sum256([]byte("password"))
	return map[string]string{
		"zeros":       strings.Repeat("0", 64),
		"a constant":  strings.Repeat("k", 32),
		"a sequence":  hex.EncodeToString(sequence) + "\n",
		"text":        "correct horse battery staple one",
		"base64 text": base64.StdEncoding.EncodeToString([]byte("correct horse battery staple one")) + "\n",
		"an example":  "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
		"a hash":      hex.EncodeToString(hashed[:]),
	}
}

// TestAMasterKeyThatNobodyDrewMakesNoStore, and the error says how to make a good one. The command
// of the error does make one.
func TestAMasterKeyThatNobodyDrewMakesNoStore(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for name, key := range weakKeys() {
		env := append(environment("KEYMILL_DATA="+p.data), "KEYMILL_MASTER_KEY_FILE="+p.writeKey("weak.key", key))
		for _, args := range [][]string{{"init"}, p.serveArgs("--init"), p.serveArgs()} {
			_, errs, code := p.runWith(env, args...)
			if code != 1 || !strings.Contains(errs, "weak.key: the master key was not drawn at random: ") ||
				!strings.HasSuffix(errs, "hint: make one: head -c 32 /dev/urandom | base64\n") || strings.Contains(errs, strings.TrimSpace(key)) {
				t.Errorf("%s, %s: code %d, %s", name, args[0], code, errs)
			}
		}
		if _, err := os.Stat(p.store()); err == nil {
			t.Fatalf("%s: there is a store", name)
		}
	}
	_, errs, _ := p.runWith(append(environment(), "KEYMILL_MASTER_KEY="+strings.Repeat("k", 32)), p.serveArgs()...)
	if !strings.HasPrefix(errs, "keymill: KEYMILL_MASTER_KEY: the master key was not drawn at random: all its bytes are the same\n") {
		t.Errorf("in the variable: %s", errs)
	}
}

// TestAStoreUnderAWeakMasterKeyCanOnlyGetABetterOne: earlier builds made such stores. No server
// serves one, and doctor changes its key.
func TestAStoreUnderAWeakMasterKeyCanOnlyGetABetterOne(t *testing.T) {
	t.Parallel()
	p := made(t)
	text := []byte("correct horse battery staple one")
	weak, err := keystore.ParseMasterKey(text)
	if err == nil {
		t.Fatal("the key is not weak")
	}
	strong, err := keystore.ParseMasterKey([]byte(testKey("k")))
	if err != nil {
		t.Fatal(err)
	}
	store, err := bolt.Open(p.store(), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := keystore.ChangeMasterKey(t.Context(), store, keystore.MasterKeyChange{Old: strong, Next: weak, By: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	env := append(environment("KEYMILL_DATA="+p.data), "KEYMILL_MASTER_KEY_FILE="+p.writeKey("weak.key", string(text)))
	before := snapshot(t, p.data)
	change := "(umask 077; set -C; head -c 32 /dev/urandom | base64 > new.key); keymill doctor --data " + p.data + " --new-master-key-file new.key"
	if _, errs, code := p.runWith(env, p.serveArgs()...); code != 1 || !strings.HasSuffix(errs, "hint: change it: "+change+"\n") {
		t.Errorf("serve: code %d, %s", code, errs)
	}
	checks, code := p.diagnosisWith(env)
	if found := checks["master key"]; code != 1 || found.OK || !strings.Contains(found.Detail, "not drawn at random") || !strings.Contains(found.Detail, change) {
		t.Errorf("doctor: code %d, %+v", code, found)
	}
	for name, key := range weakKeys() {
		p.writeKey("new.key", key)
		if _, errs, code := p.runWith(env, "doctor", "--new-master-key-file", "new.key"); code != 1 || !strings.Contains(errs, "new.key: the master key was not drawn at random: ") {
			t.Errorf("a new key of the kind %s: code %d, %s", name, code, errs)
		}
	}
	if after := snapshot(t, p.data); after != before {
		t.Errorf("the disk changed; before:\n%safter:\n%s", before, after)
	}
	p.writeKey("new.key", testKey("n"))
	if out, errs, code := p.runWith(env, "doctor", "--new-master-key-file", "new.key"); code != 0 {
		t.Fatalf("code %d, %s%s", code, out, errs)
	}
	p.startWith(environment("KEYMILL_MASTER_KEY_FILE="+filepath.Join(p.dir, "new.key")), p.serveArgs()...)
}
