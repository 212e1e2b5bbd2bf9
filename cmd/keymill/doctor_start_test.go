package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"keymill/storage"
	"keymill/storage/bolt"
)

// A damagedStore is one that a start refuses, or serves with a warning.
type damagedStore struct {
	name   string
	damage func(p *place)
}

// damagedStores lists what a start looks at, in its order. What a start learns to look at gets a row
// here.
func damagedStores() []damagedStore {
	list := []damagedStore{
		{"a link at lock", func(p *place) { os.Remove(p.at("lock")); os.Symlink(p.store(), p.at("lock")) }},
		{"a file at admin.sock", func(p *place) { os.WriteFile(p.at("admin.sock"), nil, 0o600) }},
		{"a FIFO at dev-credentials", func(p *place) { syscall.Mkfifo(p.at("dev-credentials"), 0o600) }},
		{"no mark", func(p *place) { os.Remove(p.at("keymill.mark")) }},
		{"a link at the mark", func(p *place) { os.Remove(p.at("keymill.mark")); os.Symlink(p.store(), p.at("keymill.mark")) }},
		{"a second name of the mark", func(p *place) { os.Link(p.at("keymill.mark"), p.at("second")) }},
		{"a mark that is another file", func(p *place) { os.WriteFile(p.at("keymill.mark"), []byte("precious"), 0o600) }},
		{"the mark of another store", func(p *place) { os.WriteFile(p.at("keymill.mark"), make([]byte, 8192), 0o600) }},
		{"another file", func(p *place) { p.overwrite("hello") }},
		{"an empty file", func(p *place) { p.overwrite("") }},
		{"a truncated file", func(p *place) { os.Truncate(p.store(), 12<<10) }},
		{"another master key", func(p *place) { p.writeKey("master.key", otherKey) }},
		{"another issuer", func(p *place) { p.replaceIn("issuer", "id.example.com", "id.example.org") }},
		{"a store of --dev", func(p *place) { p.replaceIn("meta", `{`, `{"dev":true,`) }},
		{"no meta", func(p *place) { p.deleteRecord("meta") }},
		{"no keyring", func(p *place) { p.deleteRecord("keyring") }},
		{"no private half", func(p *place) { p.deleteFirst("private/") }},
		{"no manifest", func(p *place) { p.deleteRecord("manifest") }},
		{"no page of the manifest", func(p *place) { p.deleteFirst("manifest/") }},
		{"no first audit record", func(p *place) { p.deleteFirst("audit/log/") }},
	}
	// The text of each record that a start reads is cut off.
	for _, prefix := range []string{
		"meta", "issuer", "keyring", "clock", "ring/", "private/", "refresh/secret/", "audit/head", "audit/log/", "manifest", "manifest/",
	} {
		list = append(list, damagedStore{"a truncated record: " + prefix, func(p *place) { p.truncateFirst(prefix) }})
	}
	return list
}

const otherKey = "q8Zr1mT5vX0kLw3bNs7dFy2hJc6gUa9e"

func (p *place) at(name string) string { return filepath.Join(p.data, name) }

// keysBelow returns the keys that begin with prefix.
func (p *place) keysBelow(prefix string) (keys []string) {
	p.t.Helper()
	s, err := bolt.OpenReadOnly(p.store())
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	if err := s.View(context.Background(), func(r storage.Reader) error {
		for e, err := range r.Scan(prefix, prefix+"~") {
			if err != nil {
				return err
			}
			keys = append(keys, e.Key)
		}
		return nil
	}); err != nil || len(keys) == 0 {
		p.t.Fatalf("nothing below %s: %v", prefix, err)
	}
	return keys
}

func (p *place) truncateFirst(prefix string) {
	p.t.Helper()
	key := p.keysBelow(prefix)[0]
	p.change(func(tx storage.Tx) error {
		v, err := tx.Get(key)
		if err != nil {
			return err
		}
		return tx.Put(key, v[:len(v)/2])
	})
}

func (p *place) replaceIn(key, old, with string) {
	p.t.Helper()
	p.change(func(tx storage.Tx) error {
		v, err := tx.Get(key)
		if err != nil {
			return err
		}
		if !bytes.Contains(v, []byte(old)) {
			p.t.Fatalf("%s holds %s", key, v)
		}
		return tx.Put(key, bytes.Replace(v, []byte(old), []byte(with), 1))
	})
}

// TestDoctorFindsWhatTheStartFinds: a start that is refused, or that warns, is a finding of doctor.
func TestDoctorFindsWhatTheStartFinds(t *testing.T) {
	t.Parallel()
	whole := made(t)
	if _, code := whole.diagnosisWith(append(whole.env(), "KEYMILL_ISSUER="+testIssuer)); code != 0 {
		t.Fatal("doctor finds something wrong with a whole store")
	}
	for _, tt := range damagedStores() {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			if err := os.CopyFS(p.data, os.DirFS(whole.data)); err != nil {
				t.Fatal(err)
			}
			tt.damage(p)
			out, errs, code := p.runWith(append(p.env(), "KEYMILL_ISSUER="+testIssuer), "doctor")
			if code != 1 || strings.Contains(errs+out, "goroutine ") || !strings.Contains(out, "FAILED") && !strings.HasPrefix(errs, "keymill: ") {
				t.Errorf("doctor: code %d\n%s%s", code, out, errs)
			}
			if slices.Contains([]string{
				"a truncated record: audit/log/", "no first audit record", "a truncated record: audit/head", "no mark", "the mark of another store",
			}, tt.name) {
				return // the start warns and serves
			}
			if _, errs, code := p.run(p.serveArgs()...); code != 1 {
				t.Errorf("the start: code %d\n%s", code, errs)
			}
		})
	}
}

// TestDoctorBlamesWhatIsDamaged: a damaged record is no fault of the master key, and a missing mark is none
// of the keys. All damaged records are named.
func TestDoctorBlamesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	whole := made(t)
	for _, tt := range []struct {
		name   string
		damage func(p *place)
		ok     []string
		failed map[string]string // check → part of what it says
	}{
		{"two records", func(p *place) { p.truncateFirst("ring/"); p.truncateFirst("issuer") },
			[]string{"master key", "audit", "identity"}, map[string]string{"keys": "restore a backup", "damage": "damaged records: 2 (issuer, ring/"}},
		{"no mark", func(p *place) { os.Remove(p.at("keymill.mark")) },
			[]string{"master key", "keys", "damage"}, map[string]string{"mark": "is missing"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			key, err := os.ReadFile(filepath.Join(whole.dir, "master.key"))
			if err = errors.Join(err, os.CopyFS(p.data, os.DirFS(whole.data))); err != nil {
				t.Fatal(err)
			}
			p.writeKey("master.key", string(key))
			tt.damage(p)
			checks, code := p.diagnosisWith(append(p.env(), "KEYMILL_ISSUER="+testIssuer))
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			for _, name := range tt.ok {
				if !checks[name].OK {
					t.Errorf("%s: %+v", name, checks[name])
				}
			}
			for name, want := range tt.failed {
				if c := checks[name]; c.OK || !strings.Contains(c.Detail, want) {
					t.Errorf("%s: %+v, want %q", name, c, want)
				}
			}
		})
	}
}
