package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"keymill/cmd/keymill/internal/diagnose"
	"keymill/storage"
)

// inFile changes the file of a store with bbolt, as any program can.
func (p *place) inFile(fn func(tx *bbolt.Tx) error) {
	p.t.Helper()
	db, err := bbolt.Open(p.store(), 0o600, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		p.t.Fatal(err)
	}
}

// insert puts a record under a key that may be any bytes.
func (p *place) insert(key string) {
	p.t.Helper()
	p.inFile(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("keymill")).Put([]byte(key), []byte("inserted")) })
}

// copyOf returns a place with the store of another one that does not run.
func copyOf(t *testing.T, whole *place) *place {
	t.Helper()
	p := newPlace(t)
	key, err := os.ReadFile(filepath.Join(whole.dir, "master.key"))
	if err = errors.Join(err, os.CopyFS(p.data, os.DirFS(whole.data))); err != nil {
		t.Fatal(err)
	}
	p.writeKey("master.key", string(key))
	return p
}

// TestStartAndDoctorAgreeOnInsertedRecords: doctor names each of them, in one line and beside all its other checks. The
// start serves, unless it is a record of what administrators decide. Keys can be any bytes.
//
// I23.
// I24.
func TestStartAndDoctorAgreeOnInsertedRecords(t *testing.T) {
	t.Parallel()
	whole := made(t)
	if checks, code := whole.diagnosis(); code != 0 {
		t.Fatalf("before: %+v", checks)
	}
	for _, tt := range []struct {
		name, key string
		refused   bool
	}{
		{"a zero byte", "\x00", false},
		{"bytes of ones", "\xff\xff", false},
		{"no ASCII", "user/\xc3\xa9", false},
		{"a control byte", "session\x1b[31m", false},
		{"an unknown kind", "unknown/1", false},
		{"a long key", strings.Repeat("k", 5000), false},
		{"the longest key", strings.Repeat("\xff", bbolt.MaxKeySize), false},
		{"a ring", "ring/\xff", true},
		{"a prefix alone", "ring/", true},
		{"a prefix twice", "client/client/", true},
		{"a retired key", "retired/EdDSA/\x80", true},
		{"a client", "client/\x00", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := copyOf(t, whole)
			p.insert(tt.key)
			shown := storage.KeyText(tt.key)
			checks, code := p.diagnosis()
			checkAgreed(t, checks, code, map[string]string{"damage": "damaged records: 1 (" + shown + ")"}, tt.refused)
			p.checkStart(tt.refused, "record "+shown+" is damaged")
		})
	}
	for name, within := range map[string]bool{"another bucket": false, "a bucket among the records": true} {
		t.Run(name, func(t *testing.T) {
			p := copyOf(t, whole)
			p.inFile(func(tx *bbolt.Tx) error {
				if within {
					_, err := tx.Bucket([]byte("keymill")).CreateBucket([]byte("zz\xff"))
					return err
				}
				_, err := tx.CreateBucket([]byte("theirs\xff"))
				return err
			})
			checks, code := p.diagnosis()
			check := map[bool]string{false: "file", true: "records"}[within]
			if c := checks[check]; code != 1 || c.OK || !strings.Contains(c.Detail, `\xff"`) || strings.Contains(c.Detail, "\n") {
				t.Errorf("code %d, %+v", code, checks)
			}
			if !within {
				checkAgreed(t, checks, code, map[string]string{"file": "buckets that Keymill does not write"}, false)
				p.checkStart(false, "")
			}
		})
	}
}

// checkAgreed requires that exactly the named checks failed, and one of the keys if the start is refused, and
// that none was left out.
func checkAgreed(t *testing.T, checks map[string]diagnose.Finding, code int, failed map[string]string, refused bool) {
	t.Helper()
	for _, name := range []string{"store", "records", "identity", "master key", "audit"} {
		if c, made := checks[name]; !made || !c.OK {
			t.Errorf("%s: %+v", name, c)
		}
	}
	for name, c := range checks {
		want, expected := failed[name]
		if expected = expected || refused && name == "keys"; c.OK == expected || expected && (!strings.Contains(c.Detail, want) || len(c.Detail) > 600) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if _, made := checks["sessions"]; made == refused || code != 1 {
		t.Errorf("code %d, %+v", code, checks)
	}
}

// checkStart starts the server, which must serve, or refuse in one line and perhaps a hint.
func (p *place) checkStart(refused bool, want string) {
	p.t.Helper()
	if !refused {
		c := p.start()
		c.signal(syscall.SIGTERM)
		if code := c.wait(failsafe); code != 0 {
			p.t.Errorf("the server ended with %d: %s", code, c.errs)
		}
		return
	}
	_, errs, code := p.run(p.serveArgs()...)
	if code != 1 || !strings.HasPrefix(errs, "keymill: ") || !strings.Contains(errs, want) || strings.Count(errs, "\n") > 2 || len(errs) > 600 {
		p.t.Errorf("the start: code %d, %s", code, fmt.Sprintf("%.1000s", errs))
	}
}
