package main

import (
	"bytes"
	"encoding/binary"
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

// TestStartAndDoctorAgreeOnDamagedMetaPages: one line, and nothing of bbolt's panics. The start serves if the newest state
// is certain.
//
// I28.
func TestStartAndDoctorAgreeOnDamagedMetaPages(t *testing.T) {
	t.Parallel()
	whole := made(t)
	file, err := os.ReadFile(whole.store())
	if err != nil {
		t.Fatal(err)
	}
	size := os.Getpagesize()
	transaction := func(page int) uint64 { return binary.NativeEndian.Uint64(file[page*size+64:]) }
	newest := 0
	if transaction(1) > transaction(0) {
		newest = 1
	}
	for _, tt := range []struct {
		name     string
		page, at int
		refused  bool
	}{
		{"the number in the header of the newer", newest, 0, false},
		{"the type in the header of the newer", newest, 8, false},
		{"the number in the header of the older", 1 - newest, 0, false},
		{"the type in the header of the older", 1 - newest, 8, false},
		{"the root of the older", 1 - newest, 32, false},
		{"the transaction of the older", 1 - newest, 64, true},
		{"the root of the newer", newest, 32, true},
		{"the checksum of the newer", newest, 72, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := copyOf(t, whole)
			b := bytes.Clone(file)
			b[tt.page*size+tt.at] ^= 0x42
			p.overwrite(string(b))
			checks, code := p.diagnosis()
			for _, c := range checks {
				if strings.Contains(c.Detail, "assert") || strings.Contains(c.Detail, "panic") || strings.Contains(c.Detail, "\n") || len(c.Detail) > 600 {
					t.Errorf("%+v", c)
				}
			}
			if !tt.refused {
				checkAgreed(t, checks, code, map[string]string{"file": fmt.Sprintf("meta page %d", tt.page)}, false)
			} else if c := checks["store"]; code != 1 || c.OK || !strings.Contains(c.Detail, "one of the two meta pages cannot be read") {
				t.Errorf("code %d, %+v", code, checks)
			}
			p.checkStart(tt.refused, "one of the two meta pages cannot be read")
			if checks, code = p.diagnosis(); (code == 0) == tt.refused {
				t.Errorf("after the start: code %d, %+v", code, checks)
			}
		})
	}
}

// TestStartAndDoctorAgreeOnChangedMeta: the keyring shows that meta was changed, also in its schema. If it does not
// open, another schema is a store of another version.
//
// I23.
func TestStartAndDoctorAgreeOnChangedMeta(t *testing.T) {
	t.Parallel()
	whole := made(t)
	for _, tt := range []struct {
		name, old, with, want string
		keyring               bool // is cut off too
	}{
		{"a later schema", `"schema":2`, `"schema":3`, "record meta is damaged: it names schema 3, and the store was written with schema 2; restore a backup", false},
		{"the first schema", `"schema":2`, `"schema":1`, "record meta is damaged: it names schema 1,", false},
		{"no schema", `"schema":2,`, ``, "record meta is damaged: it names schema 0,", false},
		{"another time", `"created":"20`, `"created":"21`, "record meta is damaged: it was changed", false},
		{"another id", `"database_id":"`, `"database_id":"0`, "record meta was changed", false},
		{"for trials", `}`, `,"dev":true}`, "record meta is damaged: it was changed", false},
		{"an unknown member", `}`, `,"later":1}`, "record meta is damaged: it has members or bytes", false},
		{"a later version", `"schema":2`, `"schema":3`, "the store has schema 3, but this program reads schema 2; use the version of Keymill that wrote it", true},
		{"an early version", `"schema":2`, `"schema":1`, "the store has schema 1, which no release of Keymill wrote", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := copyOf(t, whole)
			p.replaceIn("meta", tt.old, tt.with)
			if tt.keyring {
				p.truncateFirst("keyring")
			}
			checks, code := p.diagnosis()
			var failed []string
			for _, name := range []string{"identity", "master key", "keys"} {
				if c, made := checks[name]; made && !c.OK {
					failed = append(failed, c.Detail)
				}
			}
			if code != 1 || len(failed) != 1 || !strings.Contains(failed[0], tt.want) {
				t.Errorf("code %d, %+v", code, checks)
			}
			text, _, _ := strings.Cut(tt.want, "; restore")
			p.checkStart(true, text)
		})
	}
}
