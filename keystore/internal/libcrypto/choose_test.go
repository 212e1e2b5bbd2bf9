//go:build libcrypto && linux && (amd64 || arm64)

package libcrypto

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// choose returns what Choose does, and what it logs.
func choose(t *testing.T, setting, path string) (*Chooser, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	c, err := Choose(t.Context(), setting, path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return c, &log
}

func warnings(log *bytes.Buffer) int { return strings.Count(log.String(), "level=WARN") }

// TestGoSignsWithOneWarningIfTheLibraryIsNotProven, whatever the setting is.
func TestGoSignsWithOneWarningIfTheLibraryIsNotProven(t *testing.T) {
	for _, setting := range []string{Libcrypto, Auto} {
		c, log := choose(t, setting, filepath.Join(t.TempDir(), "none"))
		if warnings(log) != 1 || !strings.Contains(log.String(), "no such file") {
			t.Errorf("%s: %s", setting, log)
		}
		if s := c.Status(); s.Signer != Go || !strings.Contains(s.Why, "no such file") || c.Watch() {
			t.Errorf("%s: %+v", setting, s)
		}
		keys, err := readProofKeys()
		if err != nil {
			t.Fatal(err)
		}
		if c.Signer("k", keys[0].pkcs8, keys[0].private) != crypto.Signer(keys[0].private) {
			t.Errorf("%s: Go does not sign", setting)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Choose(ctx, Auto, "", slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// TestGoSignsInTheFIPSMode: the setting asks for libcrypto, which is not Go's validated module.
func TestGoSignsInTheFIPSMode(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "KEYMILL_TEST_FIPS=1", "GODEBUG=fips140=on")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "level=WARN") != 1 || !strings.Contains(string(out), "{Signer:go Why:GODEBUG has fips140") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestOnlyRSAKeysAreImported, and one that libcrypto refuses is signed with by Go.
func TestOnlyRSAKeysAreImported(t *testing.T) {
	f := newFake(t)
	c, log := choose(t, Auto, f.Path)
	if s := c.Status(); s != (Status{Signer: Libcrypto}) || warnings(log) != 0 {
		t.Fatalf("%+v\n%s", s, log)
	}
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, same := c.Signer("k", nil, other).(ed25519.PrivateKey); !same {
		t.Error("a key of Ed25519 is imported")
	}
	keys, err := readProofKeys()
	if err != nil {
		t.Fatal(err)
	}
	s := c.Signer("k", keys[0].pkcs8, keys[0].private)
	if _, imported := s.(*Key); !imported {
		t.Errorf("a key of RSA is a %T", s)
	}
	Erase(s)
	f.Set(t, "r")
	if c.Signer("k", keys[0].pkcs8, keys[0].private) != crypto.Signer(keys[0].private) || warnings(log) != 1 || !strings.Contains(log.String(), "does not take a key") {
		t.Errorf("a key that libcrypto refuses: %s", log)
	}
	if c.Status().Signer != Libcrypto {
		t.Error("libcrypto is given up for a key")
	}
}

// TestAReplacedLibrarySignsAndAnOverwrittenOneDoesNot: an update replaces the file, and the old one stays mapped.
func TestAReplacedLibrarySignsAndAnOverwrittenOneDoesNot(t *testing.T) {
	f := newFake(t)
	c, log := choose(t, Libcrypto, f.Path)
	b, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Watch() || warnings(log) != 0 {
		t.Errorf("without a change: %s", log)
	}
	if err := errors.Join(os.Rename(f.Path, f.Path+".old"), os.WriteFile(f.Path, b, 0o700)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if c.Watch() || warnings(log) != 1 || !strings.Contains(log.String(), "replaced on disk") || c.Status().Signer != Libcrypto {
			t.Errorf("replaced: %+v\n%s", c.Status(), log)
		}
	}
	k := imported(t, c.lib)
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
		t.Errorf("replaced: %v", err)
	}
	if err := os.Rename(f.Path+".old", f.Path); err != nil {
		t.Fatal(err)
	}
	f.Overwrite(t)
	for range 2 {
		if s := c.Status(); !c.Watch() || warnings(log) != 2 || !strings.Contains(log.String(), "overwritten") {
			t.Errorf("overwritten: %+v\n%s", s, log)
		}
	}
	if _, err := k.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, ErrGivenUp) {
		t.Errorf("overwritten: %v", err)
	}
	k.Erase()
	if s := c.Status(); s.Signer != Go || s.Faults != 0 {
		t.Errorf("overwritten: %+v", s)
	}
}
